# @kubernetes/client-node 2: every part of it that programs use.
check() {
  docker pull -q busybox
  [ -d node_modules/@kubernetes/client-node ] || npm install --no-save --ignore-scripts @kubernetes/client-node@2.0.1 >&2
  cp -f "$here/client-node.mjs" "$work/"
  NAMESPACE=$namespace node client-node.mjs
}
