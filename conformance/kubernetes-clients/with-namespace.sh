# Runs the script of one client in a namespace of its own, which goes afterwards: `run` calls this. What a script makes
# outside of its namespace it takes away by its own `clean`.
. "$here/prelude.sh"
. "$here/$name.sh"
end() {
  status=$?
  trap - EXIT
  set +e
  [ $status = 0 ] || show
  clean
  kubectl delete namespace "$namespace" --ignore-not-found --timeout=120s >/dev/null || status=1
  exit $status
}
trap end EXIT
trap 'exit 130' INT TERM
kubectl delete namespace "$namespace" --ignore-not-found --timeout=120s
kubectl create namespace "$namespace"
cd "$work"
check
