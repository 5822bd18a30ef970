/** Two of three servers are lost: for a while, and for good. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { noEtcd } from '../store/etcd.ts';
import { checkout, type FastMachine } from '../e2e/fast-machines.ts';
import { bad, good, lasts, serverToken, threeServers, whole } from '../e2e/servers.ts';
import { applyText, buildImage, runsPod, startWriter, stopWriters } from './load.ts';

interface Answer {
  status: number;
  seconds: number;
  text: string;
}

/** Asks a machine's own API server, as the administrator or by a token. */
async function ask(
  machine: FastMachine,
  path: string,
  options: { token?: string; body?: string } = {},
): Promise<Answer> {
  const { token, body } = options;
  const identity =
    token === undefined ? '--cert /tmp/admin.crt --key /tmp/admin.key' : `-H 'Authorization: Bearer ${token}'`;
  const sent = body === undefined ? '' : `-X POST -H 'Content-Type: application/json' -d '${body}'`;
  const prepare = `k=/run/tiphys/admin.conf; for f in certificate key; do sed -n "s/.*client-$f-data: //p" $k | base64 -d >/tmp/admin.\${f%ificate}; done; mv -f /tmp/admin.cert /tmp/admin.crt`;
  const call = `curl -sk --max-time 30 ${identity} ${sent} -w '\\n%{http_code} %{time_total}' 'https://127.0.0.1:6443${path}'`;
  const output = await machine.ok('/bin/sh', '-c', `${prepare}; ${call}`);
  const lines = output.trimEnd().split('\n');
  const [status = 0, seconds = 0] = (lines.pop() ?? '').split(' ').map(Number);
  return { status, seconds, text: lines.join('\n') };
}

const configMaps = '/api/v1/namespaces/default/configmaps';
const newConfigMap = (name: string): string =>
  JSON.stringify({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name } });

/** What must be refused without a majority. */
async function refusesToKnow(machine: FastMachine): Promise<void> {
  for (const [what, answer] of [
    ['a consistent read', await ask(machine, configMaps)],
    ['a write', await ask(machine, configMaps, { body: newConfigMap('lost') })],
  ] as const) {
    assert.ok([503, 504].includes(answer.status), `${what}: ${answer.status} ${answer.text}`);
    assert.ok(answer.seconds < 5.5, `${what}: ${answer.seconds} s`);
    console.log(`# ${what} without a majority: ${answer.status} after ${answer.seconds.toFixed(1)} s`);
  }
}

const containerOf = (machine: FastMachine): Promise<string> =>
  machine.ok('docker', 'ps', '-q', '--no-trunc', '--filter', 'label=io.kubernetes.pod.name=on-d');

test('two of three servers are lost, for a while and for good', { timeout: 1_500_000, skip: noEtcd }, async () => {
  await using made = await threeServers(['a', 'b', 'c', 'd']);
  const { servers } = made;
  const [a, b, c] = servers;
  const [d] = made.others as [FastMachine];
  await good(d, ...(await good(a, 'token', 'create')).trim().split(' ').slice(1), '--yes');
  await buildImage(d);
  await whole(b);
  await runsPod(a, 'on-d', 'd');
  const container = await containerOf(d);
  assert.notEqual(container, '');
  await applyText(
    a,
    `
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: view, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: default, namespace: default}]
`,
  );
  const token = (await a.ok('kubectl', 'create', 'token', 'default')).trim();
  const version = async (): Promise<number> =>
    Number(await c.ok('kubectl', 'get', 'configmap', 'before', '-o', 'jsonpath={.metadata.resourceVersion}'));
  const before = await version();
  await bad(c, ['recover', '--lost', 'a,b'], /a majority of the servers answers/);

  const writer = startWriter(c);
  await a.cutPower();
  await b.cutPower();
  await refusesToKnow(c);
  const old = await ask(c, `${configMaps}?resourceVersion=0`);
  assert.equal(old.status, 200);
  assert.match(old.text, /"before"/);
  await c.until(
    'nobody but nodes and administrators is let in',
    `sleep 1; curl -sk -o /dev/null -w '%{http_code}' -H 'Authorization: Bearer ${token}' 'https://127.0.0.1:6443${configMaps}?resourceVersion=0'`,
    /503/,
    20_000,
  );
  assert.equal((await ask(c, `${configMaps}?resourceVersion=0`)).status, 200);
  assert.match(await good(c, 'status'), /no majority of the servers lives.*tiphys recover --lost a,b/);
  assert.equal(await containerOf(d), container);

  await b.boot();
  await b.run(`${checkout}/tiphys`, ['up'], { timeoutMs: 120_000 });
  await lasts('writes after one has started again', () =>
    c.until('a write', 'kubectl --request-timeout=3s create configmap back-$RANDOM$$ -o name', /configmap/, 60_000),
  );
  assert.equal((await ask(c, `${configMaps}?resourceVersion=0`, { token })).status, 200);
  await stopWriters([writer], c);

  await b.cutPower();
  await refusesToKnow(c);
  await bad(c, ['recover'], /Writes that only a and b had acknowledged are lost.*tiphys recover --lost a,b/s);
  await bad(c, ['recover', '--lost', 'a'], /tiphys recover --lost a,b/);
  for (const seconds of [1, 2, 4])
    await c.run('/bin/bash', [
      '-c',
      `${checkout}/tiphys recover --lost a,b & p=$!; sleep ${seconds}; kill -9 $p; wait $p`,
    ]);
  console.log(await lasts('the survivor goes on alone', () => good(c, 'recover', '--lost', 'a,b')));
  assert.ok((await version()) > before + 1e8, 'resource versions go on far above');
  await c.ok('kubectl', 'create', 'configmap', 'alone');
  assert.doesNotMatch(await c.ok('cat', '/var/lib/tiphys/etcd/etcd.json'), /force/);
  await c.until('the worker is ready', `${checkout}/tiphys nodes`, /^d .* Ready/m);
  assert.equal(await containerOf(d), container, 'what ran runs on');
  await c.ok('kubectl', 'logs', 'on-d');

  for (const name of ['a', 'b']) await good(c, 'remove', name);
  const join = await serverToken(c);
  for (const machine of [b, a]) {
    await machine.boot();
    await good(machine, ...(machine === a ? ['down', '--purge'] : ['leave', '--force', '--purge', '--yes']));
    await lasts(`${machine.name} joins again`, () => good(machine, ...join));
  }
  await whole(c);
  await c.cutPower();
  await lasts('a write without the survivor', () =>
    a.until('a write', 'kubectl --request-timeout=3s create configmap three -o name', /three/),
  );
  assert.match(await b.ok('kubectl', 'get', 'configmap', 'alone', '-o', 'name'), /alone/);
});
