# A Prometheus in the client's namespace, with the configuration and the rights that its own documentation has for
# Kubernetes, taken from its module; it only looks more often.
start_prometheus() {
  image prometheus
  examples=$(cd "$work" && go mod download -json github.com/prometheus/prometheus@v0.316.0 | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')/documentation/examples
  sed 's/^global:/&\n  scrape_interval: 5s/' "$examples/prometheus-kubernetes.yml" >"$work/prometheus.yml"
  sed "s/namespace: default/namespace: $namespace/; s/name: prometheus$/&/" "$examples/rbac-setup.yml" >"$work/rights.yml"
  k apply -f "$work/rights.yml"
  k create configmap prometheus --from-file="$work/prometheus.yml"
  k apply -f "$here/prometheus/prometheus.yaml"
  k rollout status deployment prometheus --timeout=60s
}
stop_prometheus() { [ ! -f "$work/rights.yml" ] || k delete -f "$work/rights.yml" --ignore-not-found; }

# asked PATH [NAME=VALUE]: what Prometheus answers, through the API server's proxy.
asked() { kubectl get --raw "/api/v1/namespaces/$namespace/services/prometheus:http/proxy/api/v1/$1"; }

# query EXPRESSION: the values of its series, one a line.
query() {
  asked "query?query=$(node -p 'encodeURIComponent(process.argv[1])' "$1")" |
    node -e 'const { data } = JSON.parse(require("fs").readFileSync(0)); for (const { value } of data.result) console.log(value[1])'
}
some() { [ -n "$(query "$1")" ]; }
