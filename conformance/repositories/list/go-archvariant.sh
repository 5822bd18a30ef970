# bake with platforms that this machine does not run: compilers cross, results go to a directory each.
source=go:github.com/tonistiigi/go-archvariant@v1.0.0
from='golang:1.17-alpine tonistiigi/xx'
build() {
  docker buildx bake binary
  docker buildx bake all-arch --set all-arch.platform=linux/arm/v7,windows/arm64,darwin/arm64 --set all-arch.output=all
}
ask() {
  bin/amd64variant
  [ "$(echo all/*)" = 'all/darwin_arm64 all/linux_arm_v7 all/windows_arm64' ]
  rm -r bin all
}
