#!/bin/sh
# Builds the images that the suite runs, under the names that `e2e.test --list-images` gives, into the engine of
# DOCKER_HOST. An image that is there stays as it is.
# Usage: images.sh DIRECTORY      (the directory of the judges; gcc is needed for pause)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
directory=$1 context=$1/images
e2e=registry.k8s.io/e2e-test-images
mkdir -p "$context"
export DOCKER_BUILDKIT=0

build() {
  docker image inspect "$2" >/dev/null 2>&1 || docker build -q --target "$1" -t "$2" "$context"
}

for program in agnhost nonewprivs pause sample-apiserver etcd; do
  sh "$here/judges.sh" "$directory" "$program"
  cmp -s "$directory/bin/$program" "$context/$program" || cp "$directory/bin/$program" "$context/$program"
done
images=$(sh "$here/judges.sh" "$directory" kubernetes)/test/images
for animal in nautilus kitten; do
  cp -f "$images/$animal/html/$animal.jpg" "$context/"
  chmod u+w "$context/$animal.jpg"
done
cp -f "$images/nautilus/html/data.json" "$context/nautilus.json"
cp -f "$images/kitten/html/data.json" "$context/kitten.json"
cp -f "$images"/agnhost/porter/localhost.crt "$images"/agnhost/porter/localhost.key "$context/"
cp -f "$here/images.Dockerfile" "$context/Dockerfile"
chmod -R u+w "$context"

docker image inspect debian:bookworm-slim >/dev/null 2>&1 || docker pull -q debian:bookworm-slim
build agnhost $e2e/agnhost:2.66.1
build busybox $e2e/busybox:1.37.0-2
build nginx $e2e/nginx:1.27.0-2
build nautilus $e2e/nautilus:1.8
build kitten $e2e/kitten:1.8
build glibc-dns-testing $e2e/glibc-dns-testing:2.1.1
build nonewprivs $e2e/nonewprivs:1.4
build nonroot $e2e/nonroot:1.5
build pause registry.k8s.io/pause:3.10.2
build etcd registry.k8s.io/etcd:3.7.0-0
build sample-apiserver $e2e/sample-apiserver:1.29.2
# The suite asks for two versions of these; nothing that it does with them tells the two apart.
docker tag $e2e/agnhost:2.66.1 $e2e/agnhost:2.55
docker tag $e2e/nginx:1.27.0-2 $e2e/nginx:1.28.0-2
