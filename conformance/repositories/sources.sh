# Sources as their authors publish them: `fetch KIND:NAME@VERSION` prints a directory that holds them, unchanged.
# KIND is go (a module), npm or crate (a package), or debian (the original archive of a source package of trixie).

fetch() {
  kind=${1%%:*} package=${1#*:}
  place=$work/sources/$(echo "$1" | tr '/:@' '---')
  if [ ! -d "$place" ]; then
    mkdir -p "$work/sources"
    fresh=$(mktemp -d "$work/sources/fresh.XXXXXX")
    "fetch_$kind" "$fresh" "${package%@*}" "${package##*@}" >&2
    chmod -R u+w "$fresh" && chmod 755 "$fresh"
    mv "$fresh" "$place"
  fi
  echo "$place"
}

fetch_go() {
  mkdir -p "$work/modules"
  (
    cd "$work/modules"
    [ -f go.mod ] || go mod init fetch >/dev/null 2>&1
    cp -r "$(go mod download -json "$2@$3" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')/." "$1"
    # A module's archive leaves out what the repository has in vendor/, but for its list.
    chmod -R u+w "$1"
    [ ! -f "$1/vendor/modules.txt" ] || (cd "$1" && go mod vendor)
  )
}

fetch_npm() {
  (cd "$1" && npm pack --silent "$2@$3" >/dev/null && tar -xzf ./*.tgz --strip-components=1 && rm ./*.tgz)
}

fetch_crate() {
  mkdir -p "$work/crates/src"
  printf '[package]\nname = "fetch"\nversion = "0.1.0"\n[dependencies]\n%s = "=%s"\n' "$2" "$3" >"$work/crates/Cargo.toml"
  : >"$work/crates/src/lib.rs"
  (cd "$work/crates" && cargo fetch --quiet && cp -r "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"$2-$3/." "$1")
}

fetch_debian() {
  stand_in debian:stable-slim
  docker build -q --build-arg "PACKAGE=$2" --output "$1" -f "$here/images/source.Dockerfile" "$here/images"
}
