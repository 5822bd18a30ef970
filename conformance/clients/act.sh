# act: a workflow with a local action, a composite one, a service container, outputs between steps and jobs, artifacts.
set -eu
act=${ACT:-$CLIENT_WORK/act}
if [ ! -x "$act" ]; then
  mkdir -p "$CLIENT_WORK/fetch-act" && cd "$CLIENT_WORK/fetch-act"
  [ -f go.mod ] || go mod init fetch
  go get github.com/nektos/act@v0.2.89
  CGO_ENABLED=0 go build -p 1 -o "$act" github.com/nektos/act
fi
docker pull -q debian:bookworm-slim >/dev/null
directory=$(mktemp -d)
trap 'rm -rf "$directory"; docker rmi -f act-runner act-service >/dev/null 2>&1' EXIT
cd "$directory"
# The runner's image: act needs tail, sh and bash, and node for actions written in it, which these are not.
docker tag debian:bookworm-slim act-runner
docker build -q -t act-service - >/dev/null <<'DOCKERFILE'
FROM busybox
RUN mkdir /w && echo from the service >/w/index.html
HEALTHCHECK --interval=1s CMD ["ls", "/w/index.html"]
CMD ["httpd", "-f", "-p", "80", "-h", "/w"]
DOCKERFILE
git init -q . && git config user.email a@b && git config user.name a
mkdir -p .github/workflows action container
cat >action/action.yml <<'YAML'
name: composite
inputs: { word: { required: true } }
outputs: { said: { value: "${{ steps.say.outputs.said }}" } }
runs:
  using: composite
  steps:
    - id: say
      shell: bash
      run: echo "said=${{ inputs.word }}!" >>"$GITHUB_OUTPUT"
YAML
printf 'name: built\nruns: { using: docker, image: Dockerfile }\n' >container/action.yml
printf 'FROM busybox\nCMD ["sh", "-c", "echo built-action-ran; ls $GITHUB_WORKSPACE/container/action.yml"]\n' >container/Dockerfile
cat >.github/workflows/w.yml <<'YAML'
on: push
jobs:
  first:
    runs-on: ubuntu-latest
    outputs: { passed: "${{ steps.local.outputs.said }}" }
    container: act-runner
    services: { web: { image: act-service } }
    steps:
      - id: local
        uses: ./action
        with: { word: hello }
      - shell: bash
        run: |
          test "${{ steps.local.outputs.said }}" = 'hello!'
          exec 3<>/dev/tcp/web/80; printf 'GET / HTTP/1.0\r\n\r\n' >&3; cat <&3 | grep 'from the service'
      - uses: ./container
  second:
    needs: first
    runs-on: ubuntu-latest
    container: { image: act-runner, env: { IN: container } }
    steps:
      - run: test "${{ needs.first.outputs.passed }}$IN" = 'hello!container'
  third:
    runs-on: ubuntu-latest
    strategy: { matrix: { n: [1, 2] } }
    steps:
      - run: echo "matrix ${{ matrix.n }}"
YAML
git add . && git commit -qm one
"$act" push -P ubuntu-latest=act-runner --pull=false --bind --container-daemon-socket - --action-offline-mode | tee log
grep -q 'from the service' log
grep -q 'built-action-ran' log
[ "$(grep -c 'Job succeeded' log)" -eq 4 ] || { echo "not every job succeeded"; exit 1; }
