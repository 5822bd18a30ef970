# kustomize: a base and an overlay, built by it and by kubectl, applied, changed and pruned; what it builds is what is there.
answers() { k get --raw "/api/v1/namespaces/$namespace/services/shop-web:8080/proxy/greeting"; }

check() {
  built kustomize
  docker pull -q busybox
  cp -R "$here/kustomize/." "$work/"
  kustomize build overlay >built.yaml
  k apply -k overlay --prune -l app.kubernetes.io/part-of=clients
  k rollout status deployment shop-web --timeout=60s
  within 30 'it answers' is moin answers
  equal shop-web "$(k get deployment shop-web -o 'jsonpath={.spec.template.metadata.annotations.service}')" 'the replacement'
  k diff -f built.yaml
  before=$(k get configmap -l app.kubernetes.io/part-of=clients -o name)
  sed -i 's/greeting=moin/greeting=servus/' overlay/kustomization.yaml
  kustomize build overlay | k apply -f - --prune -l app.kubernetes.io/part-of=clients
  k rollout status deployment shop-web --timeout=60s
  within 30 'it answers anew' is servus answers
  within 30 'the old configuration is gone' is '' k get "$before" --ignore-not-found -o name
  kustomize build overlay | k apply --server-side --force-conflicts -f -
  kustomize build overlay | k diff --server-side --force-conflicts -f -
  kustomize build overlay | k delete -f - --timeout=60s
}
