# An operator on controller-runtime: operator/ is its program. Two of it run, of which one leads; its webhooks fill in,
# refuse, warn and convert; the one that leads is killed.
clean() {
  kubectl delete validatingwebhookconfiguration,mutatingwebhookconfiguration clients-operator --ignore-not-found
  k delete websites --all --timeout=20s
  kubectl delete crd websites.clients.test --ignore-not-found --timeout=60s
}
certificate() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=operator \
    -addext "subjectAltName=DNS:operator.$namespace.svc" -keyout "$work/key.pem" -out "$work/certificate.pem"
  k create secret tls operator --cert="$work/certificate.pem" --key="$work/key.pem"
}
filled() { sed "s|CA_BUNDLE|$(base64 -w0 <"$work/certificate.pem")|; s|NAMESPACE|$namespace|" "$here/operator/$1"; }
site() {
  printf 'apiVersion: clients.test/%s\nkind: Website\nmetadata: {name: %s}\nspec: %s\n' "$1" "$2" "$3" | k apply -f - 2>&1
}
of() { k get website "$1" -o "jsonpath={$2}"; }
leader() { k get lease operator.clients.test -o 'jsonpath={.spec.holderIdentity}' | sed 's/_.*//'; }
other_leads() { [ -n "$(leader)" ] && [ "$(leader)" != "$1" ]; }

check() {
  image operator
  docker pull -q busybox
  certificate
  filled crd.yaml | kubectl apply -f -
  kubectl wait --for=condition=Established crd/websites.clients.test --timeout=20s
  k apply -f "$here/operator/operator.yaml"
  k rollout status deployment operator --timeout=60s
  filled webhooks.yaml | kubectl apply -f -

  site v1 hello '{greeting: hello}'
  k wait --for=condition=Ready website/hello --timeout=60s
  equal '1 true 1' "$(of hello .spec.replicas) $(of hello .metadata.labels.filled-in) $(of hello .status.ready)" 'what was filled in'
  equal Published "$(k get events.v1.events.k8s.io -o 'jsonpath={.items[?(@.reason=="Published")].reason}')" 'the event'
  case $(site v1 loud '{greeting: HELLO}') in *'Warning: greetings are written in small letters'*) ;; *) echo 'no warning' >&2; exit 1 ;; esac
  case $(site v1 rude '{greeting: goodbye}' || true) in
    *'admission webhook "check.clients.test" denied the request: a greeting is no farewell: "goodbye"'*) ;;
    *) echo 'not refused as it should be' >&2; exit 1 ;;
  esac
  case $(site v1beta1 old '{text: ahoy}') in *'is deprecated'*) ;; *) echo 'no warning of the old version' >&2; exit 1 ;; esac
  equal ahoy "$(of old .spec.greeting)" 'what was written in the old version'
  equal hello "$(k get websites.v1beta1.clients.test hello -o 'jsonpath={.spec.text}' 2>/dev/null)" 'read in the old version'

  k scale website hello --replicas 2
  within 60 'two of it are ready' is 2 of hello .status.ready
  k delete deployment hello
  k wait --for=delete deployment/hello --timeout=5s || true
  within 60 'what was deleted is made again' is 2 k get deployment hello -o 'jsonpath={.status.readyReplicas}'

  led=$(leader)
  k delete pod "$led" --grace-period=0 --force
  within 40 "another leads than $led" other_leads "$led"
  k patch website hello --type merge -p '{"spec":{"greeting":"moin"}}'
  within 30 'the new leader does what is to do' is moin k get configmap hello -o 'jsonpath={.data.greeting}'
  equal "$(leader)" "$(of hello .status.leader)" 'who did it'

  k annotate website hello protected=true
  refused k delete website hello
  k annotate website hello protected-
  k delete website hello --timeout=30s
  equal configmap/hello-farewell "$(k get configmap hello-farewell -o name)" 'its finalizer'
  within 60 'what it owned is gone' is '' k get deployment,configmap hello -o name --ignore-not-found
  k rollout restart deployment operator
  k rollout status deployment operator --timeout=60s
  site v1 again '{greeting: again}'
}
