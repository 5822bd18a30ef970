# COPY with patterns, COPY of a stage that is an image of others.
source=go:github.com/rhysd/actionlint@v1.7.7
from='golang:latest alpine:latest koalaman/shellcheck-alpine:stable'
build() { docker build --build-arg ACTIONLINT_VER=9.9.9 -t "$image" .; }
ask() {
  docker run --rm "$image" -version | grep 9.9.9
  printf 'on: push\njobs:\n  a:\n    runs-on: nowhere\n    steps: [{ run: echo $x }]\n' >workflow.yml
  code=0
  docker run --rm -v "$PWD/workflow.yml:/w.yml:ro" "$image" /w.yml >found || code=$?
  [ $code -eq 1 ] && grep nowhere found && grep SC2086 found
  rm workflow.yml found
}
