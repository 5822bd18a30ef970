# dockerode 5: every part of it that scripts use.
set -eu
cd "$CLIENT_WORK"
[ -d node_modules/dockerode ] || npm install --no-save --ignore-scripts dockerode@5.0.1 >&2
docker pull -q busybox >/dev/null
exec node "$(dirname "$0")/dockerode.mjs"
