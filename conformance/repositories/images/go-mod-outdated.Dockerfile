# The program out of its module.
FROM stand-in/golang-alpine
RUN cd "$(go mod download -json github.com/psampaz/go-mod-outdated@v0.9.0 | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')" \
 && go build -o /go/bin/ .
ENTRYPOINT ["/go/bin/go-mod-outdated"]
