# Tests of the repository as a step, a group and a user with numbers, USER at the end.
source=go:github.com/mikefarah/yq/v4@v4.44.6
from='golang:1.23.4 alpine:3'
build() { docker build -t "$image" .; }
ask() { [ "$(echo 'a: [1, 2]' | docker run --rm -i "$image" '.a[1]')" = 2 ] && [ "$(docker run --rm --entrypoint id "$image" -u)" = 1000 ]; }
