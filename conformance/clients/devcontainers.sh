# The dev-container CLI: up with a feature from a folder, exec, build, and a compose-based one. (buildx and compose)
set -eu
cd "$CLIENT_WORK"
[ -d node_modules/@devcontainers/cli ] || npm install --no-save --ignore-scripts @devcontainers/cli@0.89.0 >&2
devcontainer() { node "$CLIENT_WORK/node_modules/@devcontainers/cli/devcontainer.js" "$@"; }
docker pull -q debian:bookworm-slim >/dev/null
directory=$(mktemp -d)
trap 'docker ps -aq --filter "label=devcontainer.local_folder" | xargs -r docker rm -fv; docker compose -p devcontainers-test down; rm -rf "$directory"' EXIT
cd "$directory"
mkdir -p one/.devcontainer/feat composed/.devcontainer
cat >one/.devcontainer/devcontainer.json <<'JSON'
{ "image": "debian:bookworm-slim", "features": { "./feat": { "word": "hello" } }, "containerEnv": { "A": "b" },
  "onCreateCommand": "echo created >/created", "postStartCommand": "echo started >/started", "remoteUser": "root" }
JSON
cat >one/.devcontainer/feat/devcontainer-feature.json <<'JSON'
{ "id": "feat", "version": "1.0.0", "name": "feat", "options": { "word": { "type": "string", "default": "x" } } }
JSON
printf '#!/bin/sh\nset -e\necho "word=$WORD" >/feature\n' >one/.devcontainer/feat/install.sh
devcontainer up --workspace-folder one | tail -1 | grep '"outcome":"success"'
got=$(devcontainer exec --workspace-folder one sh -c 'cat /feature /created /started; echo $A; pwd' | tr '\n' ' ')
[ "$got" = 'word=hello created started b /workspaces/one ' ] || { echo "exec: $got"; exit 1; }
echo changed >one/file
devcontainer exec --workspace-folder one cat file | grep changed
code=0; devcontainer exec --workspace-folder one sh -c 'exit 7' || code=$?
[ $code -eq 7 ] || { echo "the exit code is $code"; exit 1; }

devcontainer build --workspace-folder one --image-name devcontainers-built | tail -1 | grep '"outcome":"success"'
docker run --rm devcontainers-built cat /feature | grep word=hello
docker rmi -f devcontainers-built >/dev/null

cat >composed/compose.yaml <<'YAML'
name: devcontainers-test
services:
  app:
    image: debian:bookworm-slim
    command: sleep infinity
    volumes: ["..:/workspaces:cached"]
  db:
    image: debian:bookworm-slim
    command: sleep infinity
YAML
cat >composed/.devcontainer/devcontainer.json <<'JSON'
{ "dockerComposeFile": "../compose.yaml", "service": "app", "workspaceFolder": "/workspaces", "remoteUser": "root" }
JSON
devcontainer up --workspace-folder composed | tail -1 | grep '"composeProjectName":"devcontainers-test"'
devcontainer exec --workspace-folder composed getent hosts db
