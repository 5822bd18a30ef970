# Python; a context below the repository's top, the name of a file that is not Dockerfile, VOLUME before a step.
source=go:github.com/traefik/traefik/v3@v3.7.13
from=alpine:3.24
build() { cd docs && docker build -f docs.Dockerfile -t "$image" .; }
ask() {
  docker run --rm -v "$PWD/..:/source:ro" "$image" sh -c 'cp -r /source /tmp/s && cd /tmp/s/docs && mkdocs build -q -d /tmp/site && grep -o "<title>[^<]*" /tmp/site/index.html' |
    grep -i traefik
}
