import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NetworkRecord } from './network-record.ts';
import { planDefaultBridge } from './network-settings.ts';

const bridge: NetworkRecord = {
  format: 2,
  id: 'b',
  name: 'bridge',
  driver: 'bridge',
  createdAtMs: 0,
  internal: false,
  attachable: false,
  ingress: false,
  enableIpv4: true,
  enableIpv6: false,
  labels: {},
  options: { a: '1' },
  blocks: [{ subnet: '172.17.0.0/16', gateway: '172.17.0.1', isAsked: false }],
  link: 'br',
};
const free = [{ subnet: 'fd01::/64', gateway: 'fd01::1', isAsked: false }];

test('a bridge that is as the settings say is the same object', () => {
  assert.equal(planDefaultBridge(bridge), bridge);
  assert.equal(planDefaultBridge(bridge, { address: '172.17.0.1/16', options: { a: '1' } }), bridge);
  const dual = planDefaultBridge(bridge, { ipv6: {} }, free);
  assert.equal(planDefaultBridge(dual, { ipv6: {} }), dual);
});

test('address and range of either family make the blocks, and without them IPv6 takes what is free, or goes', () => {
  const blocks = (settings: Parameters<typeof planDefaultBridge>[1]): string[] =>
    planDefaultBridge(bridge, settings, free).blocks.map(
      ({ subnet, gateway, ipRange = '' }) => `${subnet} ${gateway} ${ipRange}`,
    );
  assert.deepEqual(blocks({ address: '10.9.0.5/24', range: '10.9.0.64/26' }), ['10.9.0.0/24 10.9.0.5 10.9.0.64/26']);
  const v4 = '172.17.0.0/16 172.17.0.1 ';
  assert.deepEqual(blocks({ ipv6: {} }), [v4, 'fd01::/64 fd01::1 ']);
  assert.deepEqual(blocks({ ipv6: { subnet: 'fd02::/64' } }), [v4, 'fd02::/64 fd02::1 ']);
  assert.deepEqual(blocks({ ipv6: { subnet: 'fd03::/64', gateway: 'fd03::9', range: 'fd03::ff00/120' } }), [
    v4,
    'fd03::/64 fd03::9 fd03::ff00/120',
  ]);
  const dual = planDefaultBridge(bridge, { ipv6: {} }, free);
  assert.equal(dual.enableIpv6, true);
  const single = planDefaultBridge(dual);
  assert.deepEqual([single.enableIpv6, single.blocks.length], [false, 1]);
});
