/** Addresses of a pool that the user names: each is on one machine, and moves when that is lost. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { createFastMachines, type FastMachine } from '../e2e/fast-machines.ts';
import { good, lasts } from '../e2e/servers.ts';
import { applyText, buildImage } from './load.ts';

const pool = '10.80.0.200-10.80.0.201';
const workloads = `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: app}
spec:
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      nodeSelector: {worker: "yes"}
      containers:
      - {name: c, image: "app:1", imagePullPolicy: IfNotPresent, command: [busybox, sh, -c, "mkdir /www; echo hello >/www/index.html; exec busybox httpd -f -h /www"]}
---
apiVersion: v1
kind: Service
metadata: {name: app}
spec: {type: LoadBalancer, selector: {app: app}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: local}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, loadBalancerIP: 10.80.0.201, selector: {app: app}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: late}
spec: {type: LoadBalancer, selector: {app: app}, ports: [{port: 80}]}
`;
const addressOf = (name: string): string =>
  `kubectl get service ${name} -o jsonpath='{.status.loadBalancer.ingress[*].ip}'`;

async function holders(machines: readonly FastMachine[], address: string): Promise<FastMachine[]> {
  const found = await Promise.all(machines.map((each) => each.ok('ip', '-4', 'address', 'show', 'dev', 'eth0')));
  return machines.filter((_each, index) => found[index]!.includes(`inet ${address}/32`));
}

test(
  'addresses of a pool are announced by one machine each, and move when it is lost',
  { timeout: 900_000 },
  async () => {
    await using made = await createFastMachines({ machines: ['a', 'b', 'c', 'f'].map((name) => ({ name, link: 0 })) });
    const [a, b, c, f] = made.machines as [FastMachine, FastMachine, FastMachine, FastMachine];
    await good(a, 'up', '--yes', '--load-balancer-pool', pool);
    const join = (await good(a, 'token', 'create')).trim().split(' ').slice(1);
    for (const machine of [b, c]) {
      await good(machine, ...join, '--yes');
      await a.ok('kubectl', 'label', 'node', machine.name, 'worker=yes');
      await buildImage(machine);
    }
    await a.ok('kubectl', 'label', 'node', 'a', 'node.kubernetes.io/exclude-from-external-load-balancers=');
    await applyText(a, workloads);
    await a.until('the address', addressOf('app'), /^10\.80\.0\.200$/m);
    assert.equal(await a.ok('/bin/sh', '-c', addressOf('local')), '10.80.0.201');
    assert.equal(await a.ok('/bin/sh', '-c', addressOf('late')), '', 'the pool is empty');
    await a.until(
      'and that is said',
      'kubectl get events --field-selector involvedObject.name=late',
      /no address is free/,
    );
    const fetch = (address: string): string => `curl -s -m 1 http://${address}/`;
    for (const address of ['10.80.0.200', '10.80.0.201']) await f.until(address, fetch(address), /hello/, 120_000);

    const [holder, ...more] = await holders([a, b, c], '10.80.0.200');
    assert.ok(holder !== undefined && holder !== a && more.length === 0);
    await holder.cutPower();
    await lasts('another machine announces it', () => f.until('an answer', fetch('10.80.0.200'), /hello/, 60_000));
    await f.until('also where only own Pods are sent to', fetch('10.80.0.201'), /hello/, 60_000);
    await holder.boot();
    await good(holder, 'up');
    await a.until('it is back', `kubectl get node ${holder.name}`, / Ready /);
    await f.until('an answer', fetch('10.80.0.200'), /hello/, 60_000);
    await a.until('one holds it', 'sleep 3; echo', /^$/m);
    assert.equal((await holders([a, b, c], '10.80.0.200')).length, 1);

    await a.ok('kubectl', 'delete', 'service', 'app');
    await a.until('who came late has the address', addressOf('late'), /^10\.80\.0\.200$/m);
    await f.until('an answer', fetch('10.80.0.200'), /hello/, 60_000);
    // The API, too.
    await a.ok('kubectl', 'delete', 'service', 'local');
    await a.ok('kubectl', 'patch', 'service', 'kubernetes', '--type=merge', '-p', '{"spec":{"type":"LoadBalancer"}}');
    await a.until('an address of the API', addressOf('kubernetes'), /^10\.80\.0\.201$/m);
    await f.until('the API answers there', 'curl -sk -m 3 https://10.80.0.201/version', /gitVersion/, 60_000);
    await a.ok('cp', '/run/tiphys/admin.conf', '/tmp/outside.conf');
    const outside = ['--kubeconfig', '/tmp/outside.conf'];
    await a.ok(
      'kubectl',
      'config',
      ...outside,
      'set-cluster',
      'tiphys',
      '--server=https://10.80.0.201',
      '--tls-server-name=kubernetes',
    );
    await a.ok('kubectl', ...outside, 'get', 'nodes');
    await good(holder, 'leave', '--purge', '--yes');
    assert.equal((await holders([holder], '10.80.0.200')).length, 0, 'what leaves takes its addresses off');
    await f.until('an answer', fetch('10.80.0.200'), /hello/, 60_000);
  },
);
