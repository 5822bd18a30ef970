# yarn's own release in the repository, dot files and patterns in COPY.
source=npm:mongo-express@1.0.2
from=node:18-alpine3.16
build() { docker build -t "$image" .; }
ask() { docker run --rm --entrypoint node "$image" -e 'console.log(require("/opt/mongo-express/package.json").version)' | grep 1.0.2; }
