# -f far below the context; the program is asked by a client that is built the same way.
source=go:google.golang.org/grpc@v1.58.3
from='golang:1.21-alpine alpine'
build() { docker build -f interop/xds/client/Dockerfile -t "$image" .; }
ask() {
  docker run --rm "$image" -help 2>out || true
  grep expected_server out && rm out
}
