# prometheus-adapter: HorizontalPodAutoscalers on metrics of Pods, of an object and from outside, which Prometheus has
# scraped, grow and shrink their Deployments.
. "$here/prometheus-prelude.sh"
filled() { sed "s|NAMESPACE|$namespace|" "$here/autoscaling/cluster.yaml"; }
clean() {
  filled | kubectl delete -f - --ignore-not-found
  stop_prometheus
}
# said NAME LINE…: the lines of the ConfigMap from which Pods tell their metrics.
said() {
  name=$1
  shift
  k create configmap "$name" --dry-run=client -o yaml --from-literal=metrics="$(printf '%s\n' "$@")
" | k apply -f -
}
# tell DEMAND ORDERS MESSAGES
tell() {
  said demand "demand $1"
  said told "orders $2" "queue_length{queue=\"mail\"} $3" 'queue_length{queue="other"} 1000'
}
replicas() { for name in by-pods by-object by-external; do k get deployment "$name" -o 'jsonpath={.spec.replicas} '; done | xargs; }
value() { kubectl get --raw "/apis/$1" | node -p 'JSON.parse(require("fs").readFileSync(0)).items[0].value'; }

check() {
  docker pull -q busybox
  start_prometheus
  image adapter
  tell 10 100 10
  k apply -f "$here/autoscaling/shop.yaml"
  k apply -f "$here/autoscaling/adapter.yaml"
  filled | kubectl apply -f -
  k rollout status deployment prometheus-adapter --timeout=60s
  kubectl wait --for=condition=Available apiservice/v1beta2.custom.metrics.k8s.io apiservice/v1beta1.external.metrics.k8s.io --timeout=60s
  within 90 'the metric of an object' is 100 value "custom.metrics.k8s.io/v1beta2/namespaces/$namespace/services/meter/orders"
  within 90 'a metric from outside' is 10 value "external.metrics.k8s.io/v1beta1/namespaces/$namespace/queue_length?labelSelector=queue%3Dmail"
  within 90 'the metric of Pods' is 10 value "custom.metrics.k8s.io/v1beta2/namespaces/$namespace/pods/*/demand?labelSelector=app%3Dby-pods"
  equal '1 1 1' "$(replicas)" 'replicas while there is as much as one can do'
  tell 30 250 25
  within 180 'all grow' is '3 3 3' replicas
  equal External "$(k get hpa by-external -o 'jsonpath={.status.currentMetrics[0].type}')" 'what the autoscaler looked at'
  tell 1 20 2
  within 180 'all shrink' is '1 1 1' replicas
  k get hpa
}
