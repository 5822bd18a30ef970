# Arguments, labels, a user of its own.
source=go:github.com/stefanprodan/podinfo@v1.8.1-0.20250910200901-e86405a8674e
from='golang:1.25-alpine alpine:3.22'
build() { docker build --build-arg REVISION=abc123 -t "$image" .; }
ask() {
  docker run -d --name repositories-test "$image"
  sleep 1
  docker exec repositories-test curl -sf http://localhost:9898/version | grep abc123
  [ "$(docker exec repositories-test id -un)" = app ]
}
