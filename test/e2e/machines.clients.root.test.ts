/** Machines that join another one's cluster: what works on one machine works on two, and ends when it is to end. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { checkout, createFastMachines, type FastMachine } from './fast-machines.ts';

const place = (node: string): string => `nodeSelector: {kubernetes.io/hostname: ${node}}`;
const web = (node: string): string => `
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  ${place(node)}
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "app:1", imagePullPolicy: IfNotPresent, command: [busybox, httpd, -f, -p, "80", -h, /www]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, nodePort: 30080}]}
`;
const client = (node: string): string => `
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}}
spec:
  ${place(node)}
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "app:1", imagePullPolicy: IfNotPresent, command: [busybox, sleep, "100000"]}]
`;
const everywhere = `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: everywhere}
spec:
  selector: {matchLabels: {app: everywhere}}
  template:
    metadata: {labels: {app: everywhere}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: c, image: "app:1", imagePullPolicy: IfNotPresent, command: [busybox, sleep, "777777"]}]
`;
const policy = (from: string): string => `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: ${from}}}}]}]}
`;

async function apply(machine: FastMachine, manifests: string): Promise<void> {
  const output = await machine.run('kubectl', ['apply', '-f', '-'], { input: manifests });
  assert.equal(output.code, 0, output.stderr);
}

/** An image of this machine's busybox, built there. */
async function buildApp(machine: FastMachine): Promise<void> {
  await machine.ok(
    '/bin/sh',
    '-ec',
    `mkdir -p /tmp/image/bin /tmp/image/www && cd /tmp/image && cp /bin/busybox bin/ && ln -sf busybox bin/sh && echo hello >www/index.html
    head -c 1000000 /dev/zero >www/large
    printf 'FROM scratch\\nCOPY bin /bin\\nCOPY www /www\\nENV PATH=/bin\\n' >Dockerfile
    docker build -q -t app:1 .`,
  );
}

/** The words after `tiphys`, as a user copies them. */
async function tokenOf(machine: FastMachine, ...options: string[]): Promise<string[]> {
  const { code, stdout, stderr } = await machine.tiphys('token', 'create', ...options);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^tiphys join https:\/\/[\d.]+:6443 [a-z0-9]{6}\.[a-z0-9]{16}@sha256:[0-9a-f]{64}\n$/);
  return stdout.trim().split(' ').slice(1);
}

async function good(machine: FastMachine, ...words: string[]): Promise<string> {
  const { code, stdout, stderr } = await machine.tiphys(...words);
  assert.equal(code, 0, `tiphys ${words.join(' ')}: ${stdout}${stderr}`);
  return stdout;
}

async function bad(machine: FastMachine, words: string[], says: RegExp): Promise<void> {
  const { code, stdout, stderr } = await machine.tiphys(...words);
  assert.notEqual(code, 0, `tiphys ${words.join(' ')}: ${stdout}`);
  assert.match(stderr, says);
}

const fetchFrom = 'kubectl exec client -- busybox timeout 3 busybox wget -q -O -';
const ready = (pod: string): string =>
  `kubectl get pod ${pod} -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}'`;

/** What of Tiphys is in a machine's kernel. */
const leftovers = `ip -o link | grep -o 'tph[^:@]*'; ip route | grep -E '^10\\.(244|96)\\.'; grep -l 1 /proc/sys/net/ipv4/conf/*/route_localnet; nft list tables | grep tiphys
  grep -o ' /var/lib/tiphys/[^ ]*\\| /run/tiphys[^ ]*' /proc/mounts; ls -d /sys/fs/cgroup/tiphys* /sys/fs/cgroup/*/tiphys* 2>/dev/null
  pgrep -l 'conmon|haproxy|node'; pgrep -fl '[s]upervise.sh'; true`;

/** The same on both kinds of network. */
async function reachesEachOther(a: FastMachine, b: FastMachine): Promise<void> {
  await buildApp(a);
  await apply(a, `${web('a')}---${client('b')}`);
  await a.until('the Pods', `${ready('web')}; ${ready('client')}`, /TrueTrue/, 90_000);
  // By name: the DNS server and the rules of B, the way to A and back.
  await a.until('from B to A', `${fetchFrom} http://web/`, /hello/);
  assert.equal((await a.ok('/bin/sh', '-c', `${fetchFrom} http://web/large | wc -c`)).trim(), '1000000');
  assert.match(await a.ok('/bin/sh', '-c', 'kubectl logs client; kubectl exec client -- busybox hostname'), /client/);
  const ip = (await a.ok('kubectl', 'get', 'service', 'web', '-o', 'jsonpath={.spec.clusterIP}')).trim();
  for (const machine of [a, b])
    for (const at of [ip, `${a.address}:30080`, `${b.address}:30080`, '127.0.0.1:30080'])
      assert.match(
        await machine.ok('/bin/busybox', 'timeout', '3', 'busybox', 'wget', '-q', '-O', '-', `http://${at}/`),
        /hello/,
        at,
      );
  // The API server, from Pods on B.
  assert.match(
    await a.ok(
      '/bin/sh',
      '-c',
      'kubectl exec client -- busybox nc -w 3 kubernetes.default 443 </dev/null && echo through',
    ),
    /through/,
  );
  await apply(a, policy('nobody'));
  await a.until('the policy on A', `${fetchFrom} http://web/ 2>&1 || echo refused`, /refused/);
  await apply(a, policy('client'));
  await a.until('the policy for B', `${fetchFrom} http://web/`, /hello/);
  await a.ok('kubectl', 'delete', '--wait', 'pod/web', 'pod/client');
  await apply(a, `${web('b')}---${client('a')}---${policy('nobody')}`);
  await a.until('the Pods', `${ready('web')}; ${ready('client')}`, /TrueTrue/, 90_000);
  await a.until('the policy on B', `${fetchFrom} http://web/ 2>&1 || echo refused`, /refused/);
  await apply(a, policy('client'));
  await a.until('from A to B', `${fetchFrom} http://web/`, /hello/);
}

test(
  'a machine joins, is used, is killed and comes back, leaves, joins again and is removed',
  { timeout: 600_000 },
  async () => {
    await using made = await createFastMachines({
      machines: [
        { name: 'a', link: 0 },
        { name: 'b', link: 0 },
      ],
    });
    const [a, b] = made.machines as [FastMachine, FastMachine];
    await good(a, 'up', '--yes');
    const join = await tokenOf(a);
    assert.match(await good(b, ...join, '--yes'), /Node b has joined/);
    assert.doesNotMatch(await good(b, 'status'), /server/);
    assert.match(
      await good(b, 'nodes'),
      /^a +control-plane +Ready.* 10\.80\.0\.1 .*\nb +worker +Ready.* 10\.80\.0\.2 /m,
    );
    await reachesEachOther(a, b);
    assert.match(await a.ok('ip', 'route'), /^10\.244\.16\.0\/24 via 10\.80\.0\.2 dev eth0/m);

    assert.match(await b.ok('docker', 'run', '--rm', 'app:1', 'busybox', 'cat', '/www/index.html'), /hello/);
    await b.ok('docker', 'run', '-d', '--name', 'mine', 'app:1', 'busybox', 'sleep', '100000');

    // Built on one machine, and run on the other: by name, and by the platform's registry.
    await b.ok(
      '/bin/sh',
      '-ec',
      `mkdir -p /tmp/image && cd /tmp/image && printf 'FROM app:1\nRUN busybox echo built on b >/made\n' >Dockerfile && docker build -q -t own:1 -t localhost:5000/own:2 .
    docker push -q localhost:5000/own:2`,
    );
    await a.until('what B has', "kubectl get node b -o jsonpath='{.status.images[*].names}'", /own:1/);
    for (const image of ['own:1', 'localhost:5000/own:2'])
      assert.match(await a.ok('docker', 'run', '--rm', image, 'busybox', 'cat', '/made'), /built on b/, image);

    await b.killPlatform();
    assert.match(await a.ok('/bin/sh', '-c', `${fetchFrom} http://web/`), /hello/, 'the kernel goes on');
    const before = await a.ok('/bin/sh', '-c', 'kubectl get pod web -o jsonpath={.status.containerStatuses}');
    await good(b, 'up');
    assert.match(await a.ok('/bin/sh', '-c', `${fetchFrom} http://web/`), /hello/);
    await a.until('the Node', 'tiphys=1; kubectl get node b', / Ready /);
    assert.equal(await a.ok('/bin/sh', '-c', 'kubectl get pod web -o jsonpath={.status.containerStatuses}'), before);
    await b.ok('docker', 'exec', 'mine', 'busybox', 'true');

    assert.match(await good(b, 'leave'), /has left the cluster/);
    assert.doesNotMatch(await good(a, 'nodes'), /^b /m);
    assert.equal((await a.ok('kubectl', 'get', 'pods', '--field-selector=spec.nodeName=b', '-o', 'name')).trim(), '');
    assert.equal(await b.ok('/bin/sh', '-c', leftovers), '');
    await a.until('the route goes', 'ip route; echo end', /^(?!.*10\.244\.16)[^]*end/);
    await bad(b, ['up'], /has left the cluster.*tiphys join/);

    await good(b, ...join);
    assert.match(await b.ok('docker', 'ps', '-a', '--format', '{{.Names}}'), /^mine$/m, 'its data waited');
    await a.ok('kubectl', 'delete', 'pod', 'client');
    await apply(a, client('b'));
    await a.until('a Pod again', ready('client'), /True/);
    await apply(a, everywhere);
    await b.until('the DaemonSet', 'pgrep -x busybox -a | grep -c 777777; true', /^[1-9]/);
    // The server moves to another address.
    await a.ok('ip', 'address', 'add', '10.80.0.77/24', 'dev', 'eth0');
    const moved = await tokenOf(a, '--address', '10.80.0.77');
    assert.match(moved[1] ?? '', /10\.80\.0\.77/);
    await good(b, ...moved);
    assert.match(await good(b, 'status'), /Cluster +https:\/\/10\.80\.0\.77:6443, as node b\nNodes +2, all ready/);
    assert.match(await good(a, 'remove', 'b'), /certificates are refused/);
    await bad(b, moved, /does not know this machine any more.*tiphys leave/);
    await b.until('what no drain moves ends', 'pgrep -x busybox -a | grep -c 777777; true', /^0/, 90_000);
    await bad(b, ['nodes'], /does not know this machine any more.*tiphys leave/);
    await good(b, 'leave', '--purge', '--yes');
    assert.equal(await b.ok('/bin/sh', '-c', leftovers), '');
    await good(a, 'down', '--purge');
    assert.equal(await a.ok('/bin/sh', '-c', leftovers), '');
  },
);

test('machines with a router between them reach each other by VXLAN', { timeout: 600_000 }, async () => {
  await using made = await createFastMachines({
    links: [{ mtu: 1500 }, { mtu: 1400 }],
    machines: [
      { name: 'router', link: 0 },
      { name: 'a', link: 0 },
      { name: 'b', link: 1 },
    ],
  });
  const [router, a, b] = made.machines as [FastMachine, FastMachine, FastMachine];
  await router.ok('/bin/sh', '-c', 'echo 1 >/proc/sys/net/ipv4/ip_forward');
  await good(a, 'up', '--yes');
  const words = await tokenOf(a);
  const filter =
    'add chain ip block f { type filter hook forward priority 0; }; add rule ip block f udp dport 4789 drop';
  await router.ok('nft', `add table ip block; ${filter}`);
  assert.match(await good(b, ...words, '--yes'), /no packets come through to 10\.244\.0\.1.*UDP port 4789/);
  await router.ok('nft', 'delete table ip block');
  await reachesEachOther(a, b);
  const links = await b.ok('ip', '-d', 'link');
  assert.match(links, /tph[0-9a-f]{4}x: .* mtu 1350 [^]*vxlan id \d+ local 10\.81\.0\.3/);
  assert.match(await a.ok('ip', 'route'), /^10\.244\.16\.0\/24 via 10\.244\.16\.1 dev tph[0-9a-f]{4}x .*onlink/m);
  // The mode is the cluster's: machines that cannot have it say so.
  await good(a, 'up', '--network', 'routes');
  await a.until('the way goes', 'ip route; echo end', /^(?!.*10\.244\.16)[^]*end/);
  assert.match(await a.ok('/bin/sh', '-c', 'cat /run/tiphys/logs/node-1.log'), /not on the link eth0/);
  await good(b, 'leave', '--purge', '--yes');
  assert.equal(await b.ok('/bin/sh', '-c', leftovers), '');
});

test('what stands in the way of joining is said with its remedy', { timeout: 300_000 }, async () => {
  await using made = await createFastMachines({
    machines: [
      { name: 'a', link: 0 },
      { name: 'b', link: 0 },
    ],
  });
  const [a, b] = made.machines as [FastMachine, FastMachine];
  await bad(b, ['join', `https://${a.address}:6443`, 'x'], /no token to join by.*tiphys token create/);
  const stale = ['join', `https://${a.address}:6443`, `aaaaaa.bbbbbbbbbbbbbbbb@sha256:${'0'.repeat(64)}`];
  await bad(b, stale, /nothing listens on 10\.80\.0\.1, port 6443.*tiphys token create/);
  await good(a, 'up', '--yes');
  const [join, url, token] = (await tokenOf(a)) as [string, string, string];
  await bad(b, stale, /not the cluster that the token was made for.*Nothing was sent/);
  await bad(b, [join, url, token.replace(/^.{6}/, 'zzzzzz')], /does not know this token.*tiphys token create/);
  const [, , short] = (await tokenOf(a, '--ttl', '1s')) as [string, string, string];
  await new Promise((done) => setTimeout(done, 1_500));
  await bad(b, [join, url, short], /does not know this token.*expired/);
  await bad(b, [join, url, token, '--name', 'a'], /has a node a already.*--name.*tiphys remove a/);
  await bad(b, [join, url, token, '--server', '--etcd-binary', '/bin/true'], /as workers.*token create --server/);
  await bad(b, [join, 'https://no.such.host.invalid:6443', token], /there is no host/);
  // Its clock: machines that are made here share the kernel's.
  const late = 'const now = Date.now; Date.now = () => now() + 3_600_000';
  const off = await b.run('env', [
    `NODE_OPTIONS=--import=data:text/javascript,${encodeURIComponent(late)}`,
    `${checkout}/tiphys`,
    ...[join, url, token],
  ]);
  assert.match(off.stderr, /clock of this machine is 60 min ahead of the server's.*timedatectl/);
  await b.ok('ip', 'address', 'add', '10.244.9.1/24', 'dev', 'lo');
  await bad(b, [join, url, token], /Pod range 10\.244\.0\.0\/16 overlaps 10\.244\.9\.\d.*--pod-range/);
  await b.ok('ip', 'address', 'del', '10.244.9.1/24', 'dev', 'lo');
  await b.ok(
    'nft',
    'add table ip block; add chain ip block out { type filter hook output priority 0; }; add rule ip block out tcp dport 6443 drop',
  );
  await bad(b, [join, url, token], /does not answer on port 6443.*firewall.*TCP port 6443/);
  await b.ok('nft', 'delete table ip block');
  await good(b, join, url, token);
  assert.match(await good(a, 'token', 'list'), /tiphys token create/);
  await good(a, 'token', 'delete', token);
  await bad(b, ['up', '--nodes', '2'], /--nodes is for the machine with the control plane/);
  await bad(b, ['token', 'create'], /administered there/);
  await bad(a, ['leave'], /control plane runs on this machine/);
  await bad(a, ['remove', 'a'], /runs on this machine/);
  await bad(a, ['up', '--network', 'wireguard'], /wireguard/);
});
