# A scratch image with one file of the toolchain's image.
source=go:github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111
from=golang:1.24-alpine
build() { docker build -t "$image" .; }
ask() { docker run --rm "$image" >out 2>&1 || true; grep -iE 'registry|OCI' out && rm out; }
