# The program out of its module.
FROM stand-in/golang-alpine
RUN go install github.com/psampaz/go-mod-outdated@v0.9.0
ENTRYPOINT ["/go/bin/go-mod-outdated"]
