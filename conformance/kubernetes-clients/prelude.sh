# What the scripts of all clients use. Each of them defines `check`, and `clean` for what lies outside of its namespace.
clean() { :; }
k() { kubectl -n "$namespace" "$@"; }

# What the namespace looked like when something went wrong.
show() {
  k get all,events 2>&1 | tail -60
  for pod in $(k get pods -o name); do echo "--- $pod"; k logs "$pod" --all-containers --tail=40 2>&1; done
}

# equal WANTED FOUND WHAT
equal() {
  [ "$1" = "$2" ] || { echo "$3: wanted '$1', found '$2'" >&2; exit 1; }
  echo "$3: $2"
}

# within SECONDS WHAT COMMAND…: until the command succeeds.
within() {
  left=$1 what=$2
  shift 2
  until "$@" >"$work/last" 2>&1; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || { echo "$what: not in time; the last answer:" >&2; cat "$work/last" >&2; exit 1; }
    sleep 1
  done
  echo "$what"
}

# is WANTED COMMAND…: the command prints that.
is() {
  wanted=$1
  shift
  found=$("$@")
  echo "found '$found'"
  [ "$found" = "$wanted" ]
}

refused() { if "$@"; then echo "was not refused: $*" >&2; exit 1; fi; }

built() { for each; do sh "$here/programs.sh" "$programs" "$each" >&2; done; }

# image PROGRAM: an image of nothing but the program and the host's authorities' directory; its name is clients/PROGRAM.
image() {
  built "$1"
  mkdir -p "$work/image"
  cp "$programs/bin/$1" "$work/image/program"
  printf 'FROM scratch\nCOPY program /program\nUSER 65532:65532\nENTRYPOINT ["/program"]\n' >"$work/image/Dockerfile"
  DOCKER_BUILDKIT=0 docker build -q -t "clients/$1:test" "$work/image"
  rm -rf "$work/image"
}
