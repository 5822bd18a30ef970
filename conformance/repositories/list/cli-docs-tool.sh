# bake without images: checks as steps that fail, links of stages, an argument in a heredoc, a step whose mount is a stage.
source=go:github.com/docker/cli-docs-tool@v0.11.0
from='golang:1.24-alpine tonistiigi/xx:1.9.0'
build() { docker buildx bake test license-validate; }
ask() {
  printf 'package x\n' >unlicensed.go
  code=0
  docker buildx bake license-validate || code=$?
  rm -f unlicensed.go coverage.txt
  [ $code -eq 1 ]
}
