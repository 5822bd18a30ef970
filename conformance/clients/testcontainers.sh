# Testcontainers for node: wait strategies, networks, copies, exec, logs, images that it builds, compose. The images of
# its own that cannot be had are stood in for: see the Dockerfiles in its script.
set -eu
cd "$CLIENT_WORK"
[ -d node_modules/testcontainers ] || npm install --no-save --ignore-scripts testcontainers@12.0.4 >&2
docker pull -q busybox >/dev/null
exec node "$(dirname "$0")/testcontainers.mjs"
