# helm 4: a chart with a custom resource definition and hooks is installed, upgraded, brought back and taken out; upgrades
# fail by an image, by a hook and by the schema of its values; the chart comes from the cluster's own registry too.
h() { helm -n "$namespace" "$@"; }
greeting() { k get configmap greeter -o 'jsonpath={.data.greeting}'; }
revisions() { h history greeter -o json | tr '{' '\n' | sed -n 's/.*"status":"\([a-z-]*\)".*/\1/p' | xargs; }
at() { date -d "$(k get "$1" "$2" -o "jsonpath={$3}")" +%s; }
clean() { kubectl delete crd greetings.clients.test --ignore-not-found; }

check() {
  built helm
  export HELM_CACHE_HOME=$work/cache HELM_CONFIG_HOME=$work/config HELM_DATA_HOME=$work/data
  chart=$here/chart
  docker pull -q busybox
  h lint "$chart"
  h install greeter "$chart" --wait --timeout 90s
  equal hello "$(greeting)" 'the greeting after the installation'
  equal deployed "$(revisions)" revisions
  [ "$(at job greeter-pre-install .status.completionTime)" -le "$(at deployment greeter .metadata.creationTimestamp)" ]
  [ "$(at deployment greeter .metadata.creationTimestamp)" -le "$(at job greeter-post-install .status.startTime)" ]
  equal '' "$(k get configmap greeter-first --ignore-not-found)" 'a hook that goes once it succeeded'
  equal hello "$(k get greeting greeter -o 'jsonpath={.spec.text}')" 'the custom resource'
  h test greeter --timeout 60s

  h upgrade greeter "$chart" --set greeting=moin --dry-run=server >"$work/dry-run"
  grep -q 'before: "hello"' "$work/dry-run"
  equal hello "$(greeting)" 'the greeting after a dry run'
  h upgrade greeter "$chart" --set greeting=moin --wait --timeout 90s
  equal 'moin hello' "$(greeting) $(k get configmap greeter -o 'jsonpath={.data.before}')" 'the greeting after the upgrade'
  equal 'revision 2' "$(k logs job/greeter-pre-install)" 'what the hook of the upgrade said'
  equal true "$(k get deployment greeter -o json --show-managed-fields | grep -q '"operation": "Apply"' && echo true)" 'applied by the server'

  refused h upgrade greeter "$chart" --set replicas=-1
  refused h upgrade greeter "$chart" --set hook=false --timeout 60s
  equal moin "$(greeting)" 'the greeting after a hook that failed'
  refused h upgrade greeter "$chart" --set image=clients/none:at-all --set greeting=lost --rollback-on-failure --wait --timeout 25s
  within 60 'the upgrade that failed was taken back' is moin greeting
  equal 'superseded superseded failed failed deployed' "$(revisions)" revisions
  k rollout status deployment greeter --timeout=60s
  equal busybox "$(k get deployment greeter -o 'jsonpath={.spec.template.spec.containers[0].image}')" 'the image'

  k scale deployment greeter --replicas 1
  h rollback greeter 1 --wait --timeout 90s --force-conflicts
  equal 'hello 2' "$(greeting) $(k get deployment greeter -o 'jsonpath={.spec.replicas}')" 'after going back'
  equal 'revision 1' "$(k logs job/greeter-post-install)" 'what the hook of the first revision said again'
  h get manifest greeter | kubectl -n "$namespace" diff -f -

  h uninstall greeter --wait --timeout 90s
  equal '' "$(k get deployment,service,greeting -o name)" 'what is left'
  equal secret/greeter-kept "$(k get secret greeter-kept -o name)" 'what is to be kept'
  equal "$(k get job greeter-pre-delete -o 'jsonpath={.status.succeeded}')" 1 'the hook before the deletion'

  registry=${CLIENTS_REGISTRY:-127.0.0.1:5000}
  h package "$chart" -d "$work"
  refused h push "$work/greeter-0.1.0.tgz" "oci://$registry/helm" --plain-http
  password=$(openssl rand -hex 16)
  printf %s "$password" | "$here/../../tiphys" registry-user helm
  printf %s "$password" | helm registry login "$registry" -u helm --password-stdin --plain-http
  h push "$work/greeter-0.1.0.tgz" "oci://$registry/helm" --plain-http
  k delete secret greeter-kept
  h upgrade --install greeter "oci://$registry/helm/greeter" --version 0.1.0 --plain-http --wait --timeout 90s
  equal hello "$(greeting)" 'the greeting of the chart of the registry'
}
