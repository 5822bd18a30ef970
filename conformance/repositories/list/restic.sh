# A Dockerfile in a directory of its own.
source=debian:restic@0.18.0
from='golang:1.23-alpine alpine:latest'
build() { docker build -f docker/Dockerfile -t "$image" .; }
ask() {
  docker run --rm "$image" version
  docker run --rm --entrypoint sh -e RESTIC_PASSWORD=x -e RESTIC_REPOSITORY=/repository "$image" -c \
    'restic -q init && restic -q backup /etc/passwd && restic check' | grep 'no errors'
}
