# Two results by --target, without a shell.
source=go:github.com/in-toto/in-toto-golang@v0.11.0
from='golang:1.17-alpine gcr.io/distroless/base gcr.io/distroless/base:debug'
build() { docker build -t "$image" . && docker build --target debug -t "$image:debug" .; }
ask() { docker run --rm "$image" --help | grep -i in-toto && docker run --rm "$image:debug" --help | grep -i in-toto; }
