# Caches with an id of a platform, a target, a COPY of a program between stages.
source=go:github.com/moby/moby/api@v1.56.1
from=golang:1.26.8-alpine
build() { docker build --target dev -t "$image" .; }
ask() { docker run --rm -v "$PWD:/api:ro" "$image" swagger validate /api/swagger.yaml 2>&1 | grep -i 'valid'; }
