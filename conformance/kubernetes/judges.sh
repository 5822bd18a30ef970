#!/bin/sh
# Builds one judge, or one program of the suite's images, from its pinned Go module, unless it is there.
# Usage: judges.sh DIRECTORY NAME
# NAME: e2e.test ginkgo kubectl kube-apiserver agnhost nonewprivs pause sample-apiserver etcd kubernetes
# The programs come to DIRECTORY/bin, the modules that they are built in to DIRECTORY/mod; `kubernetes` prints where the
# suite's own sources are. The suite compares versions, so kubectl and e2e.test are linked with theirs.
set -eu
directory=$1 name=$2
kubernetes=1.37.2 etcd=v3.6.6 sample=v0.29.2
program=$directory/bin/$name
[ ! -x "$program" ] || exit 0
mkdir -p "$directory/bin"

# Every staging module of Kubernetes has a release beside it, which its own go.mod replaces by a folder.
enter_kubernetes() {
  mkdir -p "$directory/mod/kube"
  cd "$directory/mod/kube"
  [ ! -f go.sum ] || return 0
  printf 'module judges\ngo 1.26.0\nrequire k8s.io/kubernetes v%s\n' "$kubernetes" >go.mod
  own=$(go mod download -json "k8s.io/kubernetes@v$kubernetes" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
  sed -n 's|^[[:space:]]*\(replace \)\{0,1\}\(k8s.io/[a-z0-9-]*\) => ./staging.*|\2|p' "$own" | while read -r module; do
    echo "replace $module => $module v0.${kubernetes#1.}" >>go.mod
  done
  {
    printf '//go:build tools\npackage tools\nimport (\n'
    printf ' _ "k8s.io/kubernetes/%s"\n' test/e2e cmd/kubectl cmd/kube-apiserver test/images/agnhost test/images/nonewprivs
    printf ' _ "github.com/onsi/ginkgo/v2/ginkgo"\n)\n'
  } >tools.go
  go mod tidy
}

enter_module() {
  mkdir -p "$directory/mod/$name"
  cd "$directory/mod/$name"
  [ -f go.mod ] || go mod init judges
}

stamps=
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  for stamp in gitVersion=v$kubernetes gitMajor=1 gitMinor=${kubernetes#1.} gitCommit=v$kubernetes gitTreeState=clean \
    buildDate=1970-01-01T00:00:00Z; do
    case $stamp in gitMinor=*) stamp=${stamp%.*} ;; esac
    stamps="$stamps -X $package.$stamp"
  done
done

export CGO_ENABLED=0
case $name in
  kubernetes)
    enter_kubernetes >&2
    go list -m -f '{{.Dir}}' k8s.io/kubernetes
    ;;
  e2e.test)
    enter_kubernetes
    CGO_ENABLED=1 go test -c -ldflags "-s -w$stamps" -o "$program" k8s.io/kubernetes/test/e2e
    ;;
  kubectl)
    enter_kubernetes
    CGO_ENABLED=1 go build -ldflags "-s -w$stamps" -o "$program" k8s.io/kubernetes/cmd/kubectl
    ;;
  kube-apiserver)
    enter_kubernetes
    CGO_ENABLED=1 go build -mod=mod -ldflags "-s -w$stamps" -o "$program" k8s.io/kubernetes/cmd/kube-apiserver
    ;;
  agnhost | nonewprivs)
    enter_kubernetes
    go build -mod=mod -ldflags '-s -w' -o "$program" "k8s.io/kubernetes/test/images/$name"
    ;;
  ginkgo)
    enter_kubernetes
    go build -mod=mod -ldflags '-s -w' -o "$program" github.com/onsi/ginkgo/v2/ginkgo
    ;;
  pause)
    source=$("$0" "$directory" kubernetes)
    gcc -Os -static -DVERSION=3.10.2 -o "$program" "$source/build/pause/linux/pause.c"
    ;;
  sample-apiserver)
    enter_module
    printf '//go:build tools\npackage tools\nimport _ "k8s.io/sample-apiserver"\n' >tools.go
    go get "k8s.io/sample-apiserver@$sample"
    go mod tidy
    go build -ldflags '-s -w' -o "$program" k8s.io/sample-apiserver
    ;;
  etcd)
    enter_module
    printf 'package main\nimport "os"\nimport "go.etcd.io/etcd/server/v3/etcdmain"\n' >main.go
    echo 'func main() { etcdmain.Main(os.Args) }' >>main.go
    go get "go.etcd.io/etcd/server/v3@$etcd"
    go mod tidy
    go build -ldflags '-s -w' -o "$program" .
    ;;
  *)
    echo "no judge is called $name" >&2
    exit 2
    ;;
esac
