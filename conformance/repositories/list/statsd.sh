# .dockerignore, an argument that becomes an environment variable, ports of UDP.
source=npm:statsd@0.9.0
from=node:12.8.3
build() { docker build --build-arg NODE_ENV=production -t "$image" .; }
ask() {
  docker run -d --name repositories-test -p 127.0.0.1::8126 "$image"
  sleep 2
  docker exec repositories-test sh -c '[ $NODE_ENV = production ] && ! ls README.md 2>/dev/null'
  docker port repositories-test 8126
  docker exec repositories-test node -e 'const c = require("net").connect(8126); c.end("health\n"); c.pipe(process.stdout)' | grep 'health: up'
}
