/** Which machine announces an address. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Node, Service } from '#api/core.v1.ts';
import type { EndpointSlice } from '#api/discovery.v1.ts';
import { parseAddressPool } from '#base/address-pool.ts';
import { planAnnounced } from './announced-addresses.ts';

const metadata = (name: string) => ({
  name,
  namespace: 'default',
  uid: name,
  resourceVersion: '1',
  creationTimestamp: '',
});
const node = (name: string, address: string, ready = 'True', labels: Record<string, string> = {}): Node => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { ...metadata(name), labels, annotations: { 'tiphys.io/machine-address': address } },
  spec: {},
  status: { conditions: [{ type: 'Ready', status: ready }] },
});
const service = (ip: string, externalTrafficPolicy = 'Cluster'): Service => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: metadata('s'),
  spec: { type: 'LoadBalancer', externalTrafficPolicy },
  status: { loadBalancer: { ingress: [{ ip }] } },
});
const slice = (nodeName: string): EndpointSlice => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  addressType: 'IPv4',
  metadata: { ...metadata('s-1'), labels: { 'kubernetes.io/service-name': 's' } },
  endpoints: [{ addresses: ['10.244.1.2'], nodeName, conditions: { ready: true } }],
});
const pool = parseAddressPool('10.0.0.100-10.0.0.199')!;
const machines = ['10.0.0.1', '10.0.0.2', '10.0.0.3'];
const nodes = machines.map((address, index) => node(`n${index}`, address));

function holders(ip: string, view: { nodes?: Node[]; services?: Service[]; slices?: EndpointSlice[] } = {}): string[] {
  const whole = { nodes, services: [service(ip)], slices: [], pool, prefix: 24, ...view };
  return machines.filter((machine) => planAnnounced({ ...whole, machine }).includes(ip));
}

test('each address of the pool is announced by one living machine, and stays there when another one is lost', () => {
  const addresses = Array.from({ length: 60 }, (_each, index) => `10.0.0.${100 + index}`);
  const before = addresses.map((ip) => holders(ip));
  assert.ok(before.every((each) => each.length === 1));
  assert.equal(new Set(before.flat()).size, 3, 'they are spread');
  const without = nodes.map((each, index) => (index === 1 ? node('n1', '10.0.0.2', 'Unknown') : each));
  for (const [index, ip] of addresses.entries()) {
    const [now] = holders(ip, { nodes: without });
    if (before[index]![0] === '10.0.0.2') assert.ok(now !== undefined && now !== '10.0.0.2');
    else assert.equal(now, before[index]![0]);
  }
  assert.deepEqual(holders('10.9.9.9'), [], 'what is not of the pool is nobody’s');
});

test('machines on the link come before others, excluded ones never, and Local asks for own Pods', () => {
  const far = [nodes[0]!, node('n1', '172.16.0.2'), node('n2', '172.16.0.3')];
  assert.deepEqual(holders('10.0.0.100', { nodes: far }), ['10.0.0.1']);
  const excluded = nodes.map((each, index) =>
    index === 2
      ? each
      : node(`n${index}`, machines[index]!, 'True', { 'node.kubernetes.io/exclude-from-external-load-balancers': '' }),
  );
  assert.deepEqual(holders('10.0.0.100', { nodes: excluded }), ['10.0.0.3']);
  for (const [index, machine] of machines.entries())
    assert.deepEqual(
      holders('10.0.0.100', { services: [service('10.0.0.100', 'Local')], slices: [slice(`n${index}`)] }),
      [machine],
    );
});

test('a pool is ranges, subnets and addresses of IPv4', () => {
  const some = parseAddressPool('192.0.2.7, 192.0.2.10-192.0.2.11,198.51.100.0/30')!;
  const found: string[] = [];
  some.find((address) => found.push(address) === 0);
  assert.deepEqual(found, ['192.0.2.7', '192.0.2.10', '192.0.2.11', ...[0, 1, 2, 3].map((n) => `198.51.100.${n}`)]);
  assert.equal(some.has('192.0.2.12'), false);
  for (const wrong of [
    '',
    'x',
    '192.0.2.9-192.0.2.1',
    '192.0.2.1-',
    '2001:db8::/64',
    '1.2.3.4-1.2.3.5-1.2.3.6',
    '1.2.3.4,',
  ])
    assert.equal(parseAddressPool(wrong), undefined, wrong);
});
