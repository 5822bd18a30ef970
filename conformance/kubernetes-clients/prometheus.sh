# Prometheus with its usual configuration: API server, kubelets and containers are scraped over TLS, with the token of its
# ServiceAccount and the cluster's own authority; Pods, Services and endpoints are discovered. What the common dashboards
# and alerts (kubernetes-mixin) ask for is there.
. "$here/prometheus-prelude.sh"
clean() { stop_prometheus; }
up() { query "sum(up{job=\"kubernetes-$1\"})"; }

check() {
  start_prometheus
  nodes=$(kubectl get nodes -o name | wc -l)
  within 60 'the API server is scraped' is 1 up apiservers
  within 60 'the kubelets are scraped' is "$nodes" up nodes
  within 60 'the containers are scraped' is "$nodes" up cadvisor
  within 60 'Pods are scraped' some "up{job=\"kubernetes-pods\",namespace=\"$namespace\"} == 1"
  within 60 'endpoints are scraped' some "up{job=\"kubernetes-service-endpoints\",service=\"prometheus\",namespace=\"$namespace\"} == 1"
  within 60 'rates of requests' some 'sum(rate(apiserver_request_total{job="kubernetes-apiservers"}[30s])) > 0'
  within 60 'its own memory' some "container_memory_working_set_bytes{namespace=\"$namespace\",container=\"prometheus\"} > 1e6"
  within 60 'its own processor time' some "rate(container_cpu_usage_seconds_total{namespace=\"$namespace\",container=\"prometheus\"}[30s]) > 0"
  missing=
  while read -r job name; do some "{job=\"kubernetes-$job\",__name__=\"$name\"}" || missing="$missing $name"; done <"$here/prometheus/names"
  equal '' "$missing" 'metrics that are missing'
}
