# bake with variables, a matrix of checks, a labs syntax.
source=go:github.com/moby/policy-helpers@v0.0.0-20261006174519-bd98f4747414
from='golang:1.25-alpine3.22 golang:1.25-alpine3.23 alpine:3.22 tonistiigi/xx:1.8.0 psampaz/go-mod-outdated:v0.9.0'
build() { docker buildx bake binary && docker buildx bake validate-dockerfile; }
ask() { bin/policy-helper --help 2>&1 | grep -i policy && rm -r bin; }
