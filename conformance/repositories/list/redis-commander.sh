# compose: an image that it builds beside one that it takes; a .dockerignore with directories and patterns.
source=npm:redis-commander@0.9.0
from='alpine:3.21 redis'
build() { docker compose -p repositories-test build; }
ask() {
  docker compose -p repositories-test up -d
  trap 'docker compose -p repositories-test down -v' EXIT
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    ! curl -sf http://127.0.0.1:8081/ >page || break
    sleep 1
  done
  grep -i 'redis commander' page && rm page
}
