# tonistiigi/xx for Go without cgo, which needs GOOS and GOARCH alone.
FROM scratch
COPY --chmod=755 xx /usr/bin/xx-go
COPY --chmod=755 xx /usr/bin/xx-verify
COPY --chmod=755 xx /usr/bin/xx-info
