#!/bin/sh
# Builds one program from its pinned Go module, unless it is there.
# Usage: programs.sh DIRECTORY NAME        (comes to DIRECTORY/bin)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
directory=$1 name=$2
[ ! -x "$directory/bin/$name" ] || exit 0
export CGO_ENABLED=0 GOBIN="$directory/bin"

# own MODULE@VERSION…: a program of this folder, named as it, that stands on these modules.
own() {
  mkdir -p "$directory/mod/$name"
  cp "$here/$name"/*.go "$directory/mod/$name/"
  cd "$directory/mod/$name"
  [ -f go.mod ] || go mod init "${module:-clients.test/$name}"
  go get "$@"
  go mod tidy
  go build -mod=mod -ldflags '-s -w' -o "$directory/bin/$name" .
}

case $name in
  helm) go install -ldflags '-s -w' helm.sh/helm/v4/cmd/helm@v4.3.2 ;;
  kustomize) go install -ldflags '-s -w' sigs.k8s.io/kustomize/kustomize/v5@v5.8.1 ;;
  pebble) go install -ldflags '-s -w' github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.3 ;;
  prometheus)
    go install -ldflags '-s -w' -tags remove_all_sd,enable_kubernetes_sd \
      github.com/prometheus/prometheus/cmd/prometheus@v0.316.0
    ;;
  # prometheus-adapter; its versions are listed nowhere within reach, which `go install` asks for.
  adapter)
    mkdir -p "$directory/mod/adapter"
    cd "$directory/mod/adapter"
    [ -f go.mod ] || go mod init clients.test/adapter
    go mod edit -require sigs.k8s.io/prometheus-adapter@v0.12.0
    go build -mod=mod -ldflags '-s -w' -o "$directory/bin/adapter" sigs.k8s.io/prometheus-adapter/cmd/adapter
    ;;
  operator) own sigs.k8s.io/controller-runtime@v0.25.2 ;;
  # cert-manager's programs are modules of their own, which are not published: what they put together is put together here.
  cert-manager) module=github.com/cert-manager/cert-manager/clients own github.com/cert-manager/cert-manager@v1.21.2 ;;
  acmesolver) module=github.com/cert-manager/cert-manager/solver own github.com/cert-manager/cert-manager@v1.21.2 ;;
  *)
    echo "no program is called $name" >&2
    exit 2
    ;;
esac
