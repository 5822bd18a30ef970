# For the cases: their names begin with $n, their files lie in $dir, $COMMAND is the command that is tried.
docker() { command "$CLIENT" "$@"; }
# box FLAGS IMAGE COMMAND: runs a container called $n by `docker run`, or `docker create` and `docker start -a`.
box() {
  if [ "$COMMAND" = create ]; then
    docker create --name "$n" "$@" >"$dir/id.out" 2>"$dir/create.err" || { cat "$dir/create.err"; return 1; }
    docker start -a "$n"
  else
    docker run --name "$n" "$@"
  fi
}
build() { docker build "$@" 2>"$dir/build.err" || cat "$dir/build.err"; }
look() { docker inspect -f "$1" "$n"; }
# The path of a cgroup's file inside a container: its name in version 1, and in version 2.
cg() { if [ "$CGROUP_VERSION" = 1 ]; then echo "/sys/fs/cgroup/$1"; else echo "/sys/fs/cgroup/$2"; fi; }
# Looks again, for a while.
again() { for _ in $(seq 100); do "$@" && return; sleep 0.1; done; return 1; }
same() { [ "$(docker inspect -f "$1" "$n" 2>&1)" = "$2" ]; }
waitfor() { again same "$1" "$2"; look "$1"; }
logged() { docker logs "$n" 2>&1 | grep -q "$1"; }
says() { again logged "$1" || echo "does not say $1"; }
gone() { ! docker inspect "$1" >/dev/null 2>&1; }
goes() { again gone "$1" && echo goes; }
clear_up() {
  docker ps -aq --no-trunc --filter "name=^/?$n(-|\$)" | xargs -r "$CLIENT" rm -fv
  docker network ls -q --filter "name=^$n(-|\$)" | xargs -r "$CLIENT" network rm
  docker volume ls -q --filter "name=$n" | grep -E "^$n(-|\$)" | xargs -r "$CLIENT" volume rm -f
  docker image ls -q --filter "reference=$n*" --filter "reference=*/$n*" --format '{{.Repository}}:{{.Tag}}' | xargs -r "$CLIENT" rmi -f
  rm -rf "$dir"
} >/dev/null 2>&1
trap clear_up EXIT
trap 'exit 1' TERM
cd "$dir"
# Who pushes has a name and a password: REGISTRY_USER is NAME:PASSWORD.
if [ -n "$registry" ] && [ -n "${REGISTRY_USER:-}" ]; then
  mkdir -p .docker
  printf '{"auths":{"%s":{"auth":"%s"}}}' "${registry%%/*}" "$(printf %s "$REGISTRY_USER" | base64 -w0)" >.docker/config.json
fi
