# Many WORKDIRs, several sources in one COPY.
source=go:github.com/prometheus/client_golang@v1.23.2
from='golang:1 quay.io/prometheus/busybox:latest'
build() { docker build -t "$image" .; }
ask() {
  docker run -d --name repositories-test -p 127.0.0.1::8080 "$image" /simple
  sleep 1
  curl -sf "http://$(docker port repositories-test 8080)/metrics" | grep go_goroutines
}
