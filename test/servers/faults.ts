/** What a cluster of three servers and two workers goes through: one fault after the other, each with its bound. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { noEtcd } from '../store/etcd.ts';
import { checkout, type FastMachine } from '../e2e/fast-machines.ts';
import { good, lasts, threeServers, whole } from '../e2e/servers.ts';
import { applyText, buildImage, startWriter, stopWriters } from './load.ts';

const tolerations = `
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 0}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 0}`;
const workloads = `
apiVersion: v1
kind: Service
metadata: {name: app}
spec: {selector: {app: app}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  replicas: 4
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      nodeSelector: {worker: "yes"}
      terminationGracePeriodSeconds: 0
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: app}}}
      tolerations:${tolerations}
      containers:
      - {name: c, image: "app:1", imagePullPolicy: IfNotPresent, command: [busybox, sh, -c, "mkdir /www; echo hello >/www/index.html; exec busybox httpd -f -h /www"]}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 2
  serviceName: db
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      nodeSelector: {worker: "yes"}
      terminationGracePeriodSeconds: 2
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: db}}}
      tolerations:${tolerations}
      containers:
      - {name: c, image: "app:1", imagePullPolicy: IfNotPresent, command: [busybox, sleep, "100000"]}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: keeper}
spec:
  nodeSelector: {kubernetes.io/hostname: e}
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: "app:1", imagePullPolicy: IfNotPresent, volumeMounts: [{name: v, mountPath: /data}], command: [busybox, sh, -c, "[ -e /data/kept ] || { echo once >/data/kept; busybox sync; }; exec busybox sleep 100000"]}
  volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]
`;

const podsOn = (app: string): string =>
  `kubectl get pods -l app=${app} -o jsonpath='{range .items[*]}{.spec.nodeName} {.status.phase} {.metadata.deletionTimestamp}{"\\n"}{end}'`;
const endpoints = `kubectl get endpointslices -l kubernetes.io/service-name=app -o jsonpath='{range .items[*].endpoints[?(@.conditions.ready==true)]}{.nodeName}{"\\n"}{end}'`;

/** Tells how long it took beside its bound. A machine that is busy with other things takes longer, to a degree. */
async function within<T>(what: string, boundS: number, run: () => Promise<T>): Promise<T> {
  const begun = Date.now();
  const result = await lasts(`${what} (to be: ${boundS} s)`, run);
  assert.ok(Date.now() - begun <= 3 * boundS * 1000, `${what}: far longer than ${boundS} s`);
  return result;
}

/** The member that leads etcd, then the others. */
async function byLeader(servers: readonly FastMachine[]): Promise<[FastMachine, FastMachine, FastMachine]> {
  const status = JSON.parse(await good(servers[0]!, 'status', '--json')) as {
    etcd: { members: { name: string; state: string }[] };
  };
  const name = status.etcd.members.find(({ state }) => state === 'leader')?.name;
  const [first, second, third] = [...servers].sort((x, y) => Number(y.name === name) - Number(x.name === name));
  return [first!, second!, third!];
}

const written = (name: string): string =>
  `kubectl --request-timeout=3s create configmap ${name} -o name 2>&1 || kubectl --request-timeout=3s get configmap ${name} -o name`;

async function losesWorker(servers: readonly FastMachine[], d: FastMachine): Promise<void> {
  const [a] = servers as [FastMachine];
  await a.until('two ready there', `${endpoints} | grep -c '^d$'`, /^2$/m);
  const identity = (
    await a.ok(
      'kubectl',
      'get',
      'pods',
      '-l',
      'app=db',
      '--field-selector=spec.nodeName=d',
      '-o',
      'jsonpath={.items[*].metadata.name}',
    )
  ).trim();
  assert.match(identity, /^db-[01]$/);
  const uid = (): Promise<string> =>
    a.ok('kubectl', 'get', 'pod', identity, '-o', 'jsonpath={.metadata.uid} {.spec.nodeName}');
  const before = await uid();
  await d.cutPower();
  await Promise.all([
    within('endpoints of a lost worker are out', 10, () =>
      a.until('endpoints', `${endpoints} | grep -c '^d$'`, /^0$/m, 30_000),
    ),
    within('its Pods run elsewhere', 15, () =>
      a.until('four elsewhere', `${podsOn('app')} | grep -c '^e Running *$'`, /^4$/m, 40_000),
    ),
  ]);
  await a.until('its Pod is told to end', `kubectl get pod ${identity} -o jsonpath={.metadata.deletionTimestamp}`, /T/);
  await new Promise((done) => setTimeout(done, 10_000));
  assert.equal(await uid(), before, 'no second one of its identity');
  await a.ok('kubectl', 'taint', 'node', 'd', 'node.kubernetes.io/out-of-service=nodeshutdown:NoExecute');
  await lasts('it runs elsewhere once the node is said to be out of service', () =>
    a.until(
      'the other worker',
      `kubectl get pod ${identity} -o 'jsonpath={.spec.nodeName} {.status.phase}'`,
      /^e Running/,
      60_000,
    ),
  );
  await d.boot();
  await good(d, 'up');
  await a.until('it is back', 'kubectl get node d', / Ready /);
  await d.until(
    'its old Pods are gone',
    'docker ps -q --filter label=io.kubernetes.pod.namespace=default | wc -l',
    /^0$/m,
  );
  await a.ok('kubectl', 'taint', 'node', 'd', 'node.kubernetes.io/out-of-service-');
}

/** When a server's control plane began and ended to lead, in milliseconds, as its log has it. */
async function terms(machine: FastMachine): Promise<{ at: number; leads: boolean; who: string; said: string }[]> {
  const log = await machine.ok(
    '/bin/sh',
    '-c',
    `grep -hE '"msg":"(leading|stopping)' /run/tiphys/logs/server.log || true`,
  );
  return log
    .split('\n')
    .filter((line) => line.includes('"stopping"') || line.includes('tiphys-control-plane'))
    .map((line) => JSON.parse(line) as { time: string | number; msg: string })
    .map(({ time, msg }) => ({ at: new Date(time).getTime(), leads: msg === 'leading', who: machine.name, said: msg }));
}

async function cutInOneDirection(servers: readonly FastMachine[], hook: 'input' | 'output'): Promise<void> {
  const [leader, ...others] = await byLeader(servers);
  const side = hook === 'input' ? 'saddr' : 'daddr';
  // The one that leads etcd is to lead the control plane, too.
  const hold = `kubectl get lease -n kube-system tiphys-control-plane -o 'jsonpath={.spec.holderIdentity}'`;
  for (const other of others) {
    const holder = await leader.ok('/bin/sh', '-c', hold);
    if (holder.startsWith(`${other.name}_`))
      await other.run('/bin/sh', ['-c', 'kill -TERM $(cat /run/tiphys/processes/server.pid)']);
  }
  await leader.ok(
    'nft',
    `add table inet cut; add chain inet cut c { type filter hook ${hook} priority -400; }; add rule inet cut c ip ${side} 10.80.0.0/24 drop`,
  );
  await within(`a write after ${leader.name} was cut in one direction (${hook})`, 5, () =>
    others[0].until('a write', written(`cut-${hook}`), /configmap\/cut/),
  );
  await lasts('another one leads', () =>
    others[1].until('a holder', hold, new RegExp(`^(?!${leader.name}_)\\w`), 30_000),
  );
  await leader.ok('nft', 'delete table inet cut');
  await whole(others[0]);
  const all = (await Promise.all(servers.map(terms))).flat().sort((x, y) => x.at - y.at);
  let leading = '';
  for (const { who, leads } of all) {
    if (leads) assert.equal(leading, '', `${who} leads before ${leading} has ended: ${JSON.stringify(all)}`);
    if (leads) leading = who;
    else if (leading === who) leading = '';
  }
}

async function fillsDisk(servers: readonly FastMachine[]): Promise<void> {
  const [leader, other, third] = await byLeader(servers);
  await leader.ok(
    '/bin/sh',
    '-c',
    'fallocate -l $(( $(stat -f -c "%f * %S" /var/lib/tiphys) )) /var/lib/tiphys/fill; dd if=/dev/zero of=/var/lib/tiphys/fill2 bs=64k 2>/dev/null; df /var/lib/tiphys | tail -1',
  );
  await leader.until(
    'its etcd ends',
    `${checkout}/tiphys status`,
    new RegExp(`${leader.name} +does not answer`),
    120_000,
  );
  await within(`a write after the disk of ${leader.name} was full`, 5, () =>
    other.until('a write', written('full'), /configmap\/full/),
  );
  await leader.until('its own API server, too', written('full-own'), /configmap\/full-own/, 30_000);
  assert.match((await leader.tiphys('status')).stdout, /the disk of this machine is full/);
  assert.match(await good(third, 'status'), new RegExp(`${leader.name} +does not answer`));
  await leader.ok('rm', '/var/lib/tiphys/fill', '/var/lib/tiphys/fill2');
  await lasts('it is one of them again by itself', () => whole(other));
  assert.doesNotMatch(await good(leader, 'status'), /disk/);
}

async function losePower(machines: readonly FastMachine[]): Promise<void> {
  const [a] = machines as [FastMachine];
  const address = await a.ok('kubectl', 'get', 'service', 'app', '-o', 'jsonpath={.spec.clusterIP}');
  const nodes = `kubectl get nodes -o jsonpath='{range .items[*]}{.metadata.name} {.spec.podCIDR} {.status.addresses[0].address}{"\\n"}{end}'`;
  const before = await a.ok('/bin/sh', '-c', nodes);
  await Promise.all(machines.map((each) => each.cutPower()));
  for (const each of machines) await each.boot();
  await lasts('all have started again', () =>
    Promise.all(machines.map((each) => each.run(`${checkout}/tiphys`, ['up'], { timeoutMs: 240_000 }))),
  );
  await whole(a);
  await a.until('all are ready', 'kubectl get nodes | grep -c " Ready "', /^5$/m, 120_000);
  assert.equal(await a.ok('/bin/sh', '-c', nodes), before);
  await a.until('the volume', 'kubectl exec keeper -- busybox cat /data/kept', /^once$/m, 120_000);
  await a.until(
    'the Service',
    `wget -qO- -T 2 http://${address}/ || curl -s -m 2 http://${address}/`,
    /hello/,
    120_000,
  );
}

test('three servers and two workers, one fault after the other', { timeout: 2_400_000, skip: noEtcd }, async () => {
  await using made = await threeServers(['a', 'b', 'c', 'd', 'e']);
  const { servers } = made;
  const [a, b] = servers;
  const [d, e] = made.others as [FastMachine, FastMachine];
  const token = (await good(a, 'token', 'create')).trim().split(' ').slice(1);
  await Promise.all([d, e].map((each) => good(each, ...token, '--yes')));
  await Promise.all([d, e].map(buildImage));
  await whole(b);
  for (const name of ['d', 'e']) await a.ok('kubectl', 'label', 'node', name, 'worker=yes');
  await applyText(a, workloads);
  await a.until('all Pods', 'kubectl get pods | grep -c " Running "', /^7$/m, 180_000);
  const writers = servers.map((each) => startWriter(each));
  await losesWorker(servers, d);
  for (const hook of ['input', 'output'] as const) await cutInOneDirection(servers, hook);
  await fillsDisk(servers);
  await stopWriters(writers, b);
  await losePower([...servers, d, e]);
});
