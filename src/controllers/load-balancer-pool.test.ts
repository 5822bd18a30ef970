/** Addresses of a pool, and which Service has which. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Service } from '#api/core.v1.ts';
import { parseAddressPool } from '#base/address-pool.ts';
import { PoolAllocation } from './load-balancer-pool.ts';

const service = (name: string, { ip, wanted }: { ip?: string; wanted?: string } = {}): Service => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'default', uid: name, resourceVersion: '1', creationTimestamp: '' },
  spec: { type: 'LoadBalancer', ...(wanted === undefined ? {} : { loadBalancerIP: wanted }) },
  status: { loadBalancer: ip === undefined ? {} : { ingress: [{ ip }] } },
});

test('each Service has an address of its own, keeps it, and leaves it when it goes', () => {
  const pool = parseAddressPool('192.0.2.1-192.0.2.3')!;
  const allocation = new PoolAllocation();
  const named = service('named', { wanted: '192.0.2.1' });
  const [a, b, c, d] = [service('a'), service('b', { ip: '192.0.2.2' }), service('c'), service('d')];
  const all = [a!, b!, c!, d!, named];
  const give = (one: Service, services = all): string[] => allocation.addressesFor(one, pool, services);
  assert.deepEqual(give(a!), ['192.0.2.1']);
  assert.deepEqual(give(c!), ['192.0.2.3'], 'what another one has already is not given');
  assert.deepEqual([give(d!), give(named)], [[], []], 'none is free');
  assert.deepEqual(give(a!), ['192.0.2.1'], 'before its status says so');
  assert.deepEqual(give(named, [b!, c!, d!, named]), ['192.0.2.1'], 'once it is free');
  assert.deepEqual(give(service('d', { wanted: '198.51.100.1' })), [], 'none of the pool');
  assert.deepEqual(
    new PoolAllocation().addressesFor(b!, parseAddressPool('198.51.100.7')!, all),
    ['198.51.100.7'],
    'another pool',
  );
});
