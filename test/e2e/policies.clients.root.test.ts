/** NetworkPolicies and node ports between Pods of two nodes, as their clients meet them. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { createMachine, run, type Machine } from './machine.ts';

const server = `sh, -c, "mkdir -p /www/cgi-bin; printf '#!/bin/sh\\\\necho; echo $REMOTE_ADDR\\\\n' > /www/cgi-bin/who; chmod +x /www/cgi-bin/who; httpd -p 8080 -h /www; httpd -p 9090 -h /www; while true; do nc -l -p 7000 -e cat; done"`;
const place = (name: string, namespace: string, node: number): string =>
  `metadata: {name: ${name}, namespace: ${namespace}, labels: {app: ${name}}}
spec: {nodeSelector: {side: "${node}"}, terminationGracePeriodSeconds: 0`;
const pod = (name: string, namespace: string, node: number): string => `---
apiVersion: v1
kind: Pod
${place(name, namespace, node)}, containers: [{name: c, image: busybox, imagePullPolicy: IfNotPresent, command: [${server}], ports: [{name: web, containerPort: 8080}], readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}}]}
`;
const service = (name: string, more: string): string => `---
apiVersion: v1
kind: Service
metadata: {name: ${name}}
spec: {selector: {role: server}, ports: [{name: http, port: 80, targetPort: web}], type: NodePort, ${more}}
`;
const policy = (name: string, spec: string): string => `---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: ${name}}
spec: ${spec}
`;

interface Cluster {
  machine: Machine;
  ips: Map<string, string>;
  /** What the server says of who asks; empty where nothing comes back. */
  ask(from: string, url: string): Promise<string>;
  /** Looks again until the answer is as wanted: a rule takes effect a moment after its policy. */
  expect(from: string, to: string, passes: boolean, port?: number): Promise<void>;
}

async function openCluster(machine: Machine): Promise<Cluster> {
  assert.equal((await machine.tiphys(['up', '--nodes', '2'])).code, 0);
  const nodes = (await machine.kube('get', 'nodes', '-o', 'name')).trim().split('\n');
  for (const [at, node] of nodes.entries()) await machine.kube('label', node, `side=${at + 1}`);
  await machine.kube('create', 'namespace', 'other');
  const pods = [pod('a', 'default', 1), pod('b', 'default', 2), pod('c', 'other', 1), pod('d', 'other', 2)];
  await machine.apply([...pods, service('any', ''), service('near', 'externalTrafficPolicy: Local')].join(''));
  for (const namespace of ['default', 'other'])
    await machine.kube('wait', '-n', namespace, '--for=condition=Ready', 'pod', '--all', '--timeout=90s');
  const ips = new Map<string, string>();
  const listed = await machine.kube(
    'get',
    'pods',
    '-A',
    '-o',
    'jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{"\\n"}{end}',
  );
  for (const line of listed.trim().split('\n')) ips.set(line.split(' ')[0]!, line.split(' ')[1]!);
  const ask = async (from: string, url: string): Promise<string> => {
    const namespace = from === 'a' || from === 'b' ? 'default' : 'other';
    const output = await machine.kubectl('exec', '-n', namespace, from, '--', 'wget', '-T', '1', '-qO-', url);
    return output.code === 0 ? output.stdout.trim() : '';
  };
  return {
    machine,
    ips,
    ask,
    async expect(from, to, passes, port = 8080) {
      const look = (): Promise<string> => ask(from, `http://${ips.get(to) ?? to}:${port}/cgi-bin/who`);
      await machine.until(`${from} to ${to}:${port}`, look, passes ? /\d/ : /^$/, 15_000);
    },
  };
}

test('policies between Pods of two nodes', { timeout: 300_000 }, async (t) => {
  await using machine = createMachine();
  const { ips, ask, expect } = await openCluster(machine);
  const addresses = async (): Promise<string[]> =>
    (await machine.kube('get', 'nodes', '-o', 'jsonpath={.items[*].status.addresses[0].address}')).split(' ');
  const nodePort = (name: string): Promise<string> =>
    machine.kube('get', 'service', name, '-o', 'jsonpath={.spec.ports[0].nodePort}');

  await t.test('every Pod reaches a node port of every node, also with the policy Local and by itself', async () => {
    await machine.kube('label', 'pod', 'b', 'role=server');
    await machine.until('an endpoint', () => ask('a', 'http://any/cgi-bin/who'), /\d/);
    for (const name of ['any', 'near'])
      for (const address of await addresses())
        for (const from of ['a', 'b', 'c', 'd']) await expect(from, address, true, Number(await nodePort(name)));
  });
  await t.test('a Pod without policies is reached by all; isolated, by its node alone', async () => {
    for (const from of ['a', 'b', 'c', 'd']) await expect(from, 'a', true);
    await machine.apply(policy('deny', '{podSelector: {}}'));
    for (const from of ['b', 'c', 'd']) await expect(from, 'a', false);
    await expect('a', 'd', true);
    assert.match(
      (await run('curl', ['-s', '--max-time', '5', `http://${ips.get('a')}:8080/cgi-bin/who`])).stdout,
      /\d/,
    );
    assert.match(
      await machine.kube('get', 'pod', 'a', 'b', '-o', 'jsonpath={.items[*].status.containerStatuses[*].ready}'),
      /^true true$/,
    );
  });
  await t.test('a label lets a Pod in, by the named port only, directly and through a Service', async () => {
    const from =
      '[{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: other}}, podSelector: {matchLabels: {friend: "yes"}}}]';
    await machine.apply(policy('friends', `{podSelector: {}, ingress: [{from: ${from}, ports: [{port: web}]}]}`));
    await machine.kube('label', '-n', 'other', 'pod', 'd', 'friend=yes');
    for (const to of ['a', 'b']) await expect('d', to, true);
    for (const to of ['a', 'b']) await expect('c', to, false);
    await expect('d', 'a', false, 9090);
    assert.equal(await ask('d', 'http://any.default/cgi-bin/who'), `::ffff:${ips.get('d')}`.replace(/^(.*)$/, '[$1]'));
    assert.equal(await ask('c', 'http://any.default/cgi-bin/who'), '');
    assert.match(await ask('b', 'http://any/cgi-bin/who'), /\d/, 'a Pod reaches itself through a Service');
    await machine.kube('label', '-n', 'other', 'pod', 'd', 'friend-');
    await expect('d', 'a', false);
  });
  await t.test(
    'the rules hold while the process of the node is killed, and what changed meanwhile comes after',
    async () => {
      process.kill(machine.pid('node-1'), 'SIGKILL');
      await machine.kube('label', '-n', 'other', 'pod', 'c', 'friend=yes');
      assert.equal((await run('curl', ['-s', '--max-time', '5', `http://${ips.get('a')}:9090/cgi-bin/who`])).code, 0);
      assert.equal(await ask('b', `http://${ips.get('a')}:8080/cgi-bin/who`), '');
      await expect('c', 'a', true);
      await expect('d', 'a', false);
    },
  );
  await t.test('a connection that is open goes on under a policy that forbids a new one', async () => {
    const script = `(sleep 1; echo early; sleep 6; echo late) | nc ${ips.get('b')} 7000`;
    await machine.kube('delete', 'networkpolicy', '--all');
    await expect('c', 'b', true);
    const open = machine.kubectl('exec', '-n', 'other', 'c', '--', 'timeout', '10', 'sh', '-c', script);
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    await machine.apply(policy('deny', '{podSelector: {}}'));
    await expect('c', 'b', false);
    assert.match((await open).stdout, /early\nlate/);
  });
  await t.test('what leaves a Pod is held to blocks with exceptions and to ranges of ports', async () => {
    await machine.kube('delete', 'networkpolicy', '--all');
    const block = `{cidr: 0.0.0.0/0, except: [${ips.get('d')}/32]}`;
    await machine.apply(
      policy(
        'out',
        `{podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{ipBlock: ${block}}], ports: [{port: 8000, endPort: 8100}]}]}`,
      ),
    );
    await expect('a', 'd', false);
    await expect('a', 'c', true);
    await expect('a', 'c', false, 9090);
    await expect('d', 'a', true);
  });
  await t.test('a new Pod is isolated before its first container runs', async () => {
    await machine.apply(policy('quiet', '{podSelector: {matchLabels: {run: early}}, policyTypes: [Egress]}'));
    const spec = (name: string): string => `---
apiVersion: v1
kind: Pod
metadata: {name: ${name}, labels: {run: early}}
spec: {terminationGracePeriodSeconds: 0, restartPolicy: Never, containers: [{name: c, image: busybox, imagePullPolicy: IfNotPresent, command: [wget, -T, "1", -qO-, "http://${ips.get('c')}:8080/cgi-bin/who"]}]}
`;
    const names = ['e1', 'e2', 'e3', 'e4', 'e5'];
    await machine.apply(names.map(spec).join(''));
    for (const name of names)
      await machine.kube('wait', '--for=jsonpath={.status.phase}=Failed', `pod/${name}`, '--timeout=60s');
  });
  assert.equal((await machine.tiphys(['down'])).code, 0);
  assert.deepEqual(machine.leftovers(), []);
});
