# -f far below the context.
source=go:google.golang.org/grpc@v1.58.3
from='golang:1.21-alpine alpine'
build() { docker build -f interop/xds/client/Dockerfile -t "$image" .; }
ask() {
  docker run --rm "$image" -help 2>out || true
  grep stats_port out && rm out
}
