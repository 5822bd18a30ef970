# Cache mounts, a stage on the platform of the build, a result of one file.
source=go:github.com/cpuguy83/go-md2man/v2@v2.0.6
from=golang:1.21
build() { docker build -t "$image" .; }
ask() { printf '# NAME\n\nhello\n' | docker run --rm -i "$image" | grep -q '^.TH NAME'; }
