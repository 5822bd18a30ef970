# cert-manager and Pebble: an Ingress that asks for a certificate gets one by ACME. Pebble and cert-manager itself look for
# the answer to the challenge (HTTP-01) under the certificate's name, which leads through the Ingress.
clean() {
  k delete ingress --all
  k delete certificates,orders,challenges,issuers --all --timeout=30s
  k delete -f "$work/crds" --timeout=60s
}

check() {
  for program in cert-manager acmesolver pebble; do image "$program"; done
  docker pull -q busybox
  mkdir -p "$work/crds"
  cp -f "$(cd "$programs/mod/cert-manager" && go list -m -f '{{.Dir}}' github.com/cert-manager/cert-manager)"/deploy/crds/*.yaml "$work/crds/"
  kubectl apply --server-side -f "$work/crds"
  kubectl wait --for=condition=Established -f "$work/crds" --timeout=30s
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=pebble \
    -addext subjectAltName=DNS:pebble -keyout "$work/key.pem" -out "$work/certificate.pem"
  k create secret tls pebble --cert="$work/certificate.pem" --key="$work/key.pem"
  node=$(kubectl get nodes -o 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}')
  sed "s|CA_BUNDLE|$(base64 -w0 <"$work/certificate.pem")|; s|IN_NAMESPACE|$namespace|g
    s|INGRESS|$node|; s|HTTP_PORT|${CLIENTS_HTTP_PORT:-80}|" "$here/cert-manager/all.yaml" >"$work/all.yaml"
  k apply -f "$work/all.yaml"
  k rollout status deployment pebble --timeout=60s
  k rollout status deployment cert-manager --timeout=60s
  k wait --for=condition=Ready issuer/pebble --timeout=60s
  within 60 'the Ingress has a Certificate' k get certificate www
  k wait --for=condition=Ready certificate/www --timeout=120s
  k get secret www -o 'jsonpath={.data.tls\.crt}' | base64 -d >"$work/issued.pem"
  case $(openssl x509 -in "$work/issued.pem" -noout -issuer) in *Pebble*) ;; *) echo 'not issued by Pebble' >&2; exit 1 ;; esac
  host=www.$namespace.svc.cluster.local
  served() {
    openssl s_client -connect "127.0.0.1:${CLIENTS_HTTPS_PORT:-443}" -servername "$host" </dev/null 2>/dev/null |
      openssl x509 -noout -fingerprint
  }
  within 30 'the Ingress serves it' is "$(openssl x509 -in "$work/issued.pem" -noout -fingerprint)" served
  equal '' "$(k get challenges,pods -l acme.cert-manager.io/http01-solver -o name)" 'what is left of the challenge'
}
