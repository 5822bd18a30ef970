# USER in the middle of a build, a check of the user's rights, HEALTHCHECK; -f below the context.
source=debian:ngircd@27
from='docker.io/library/debian:stable-slim'
build() { docker build -f contrib/Dockerfile -t "$image" .; }
ask() {
  docker run -d --name repositories-test --health-interval 1s --health-start-period 0s "$image"
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ "$(docker inspect -f '{{.State.Health.Status}}' repositories-test)" != healthy ] || break
    sleep 1
  done
  [ "$(docker inspect -f '{{.State.Health.Status}}' repositories-test)" = healthy ]
}
