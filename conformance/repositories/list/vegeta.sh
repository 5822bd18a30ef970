# Stage names in capitals, ADD in place of COPY.
source=go:github.com/tsenart/vegeta/v12@v12.13.0
from='golang:1.20-alpine3.18 alpine:3.18.0'
build() { docker build -t "$image" .; }
ask() { docker run --rm "$image" -version | grep -i version; }
