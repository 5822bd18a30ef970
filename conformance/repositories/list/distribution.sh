# bake, with xx, bind mounts of the context and of stages, and results as files and as an image.
source=go:github.com/distribution/distribution/v3@v3.0.0
from='golang:1.23.7-alpine3.21 alpine:3.21 tonistiigi/xx:1.6.1'
build() {
  docker buildx bake --set "image-local.tags=$image"
  docker buildx bake artifact
}
ask() {
  ls bin/*.tar.gz && rm -r bin
  docker run -d --name repositories-test -p 127.0.0.1::5000 "$image"
  sleep 1
  curl -sf "http://$(docker port repositories-test 5000)/v2/"
}
