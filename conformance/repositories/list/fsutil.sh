# A user in build steps, tests of the repository as steps, caches of several targets.
source=go:github.com/tonistiigi/fsutil@v0.0.0-20261103091533-a72de9dcf763
from='golang:1.26-alpine3.23 tonistiigi/xx:1.9.0'
build() { docker build --target test-noroot-coverage --output coverage . && docker build --target test-coverage --output coverage .; }
ask() { grep -c fsutil coverage/coverage-noroot.txt coverage/coverage-root.txt && rm -r coverage; }
