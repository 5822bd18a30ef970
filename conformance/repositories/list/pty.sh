# -f beside the context, arguments before FROM, a relative WORKDIR.
source=go:github.com/creack/pty@v1.1.24
from=golang:1.18.2
build() { docker build -f Dockerfile.golang --build-arg GOARCH=arm -t "$image" .; }
ask() { docker run --rm "$image" sh -c 'pwd; go env GOARCH' | grep -q arm; }
