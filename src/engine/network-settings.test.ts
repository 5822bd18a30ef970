import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bridgeAddresses, gatewayFor, type NetworkRecord } from './network-record.ts';
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
const around = { free };

test('a bridge that is as the settings say is the same object', () => {
  assert.equal(planDefaultBridge(bridge), bridge);
  assert.equal(planDefaultBridge(bridge, { address: '172.17.0.1/16', options: { a: '1' } }), bridge);
  const dual = planDefaultBridge(bridge, { ipv6: {} }, around);
  assert.equal(planDefaultBridge(dual, { ipv6: {} }), dual);
});

test('address and range of either family make the blocks, and without them IPv6 takes what is free, or goes', () => {
  const blocks = (settings: Parameters<typeof planDefaultBridge>[1]): string[] =>
    planDefaultBridge(bridge, settings, around).blocks.map(
      ({ subnet, gateway, ipRange = '' }) => `${subnet} ${gateway} ${ipRange}`,
    );
  assert.deepEqual(blocks({ address: '10.9.0.5/24', range: '10.9.0.64/26' }), ['10.9.0.0/24 10.9.0.5 10.9.0.64/26']);
  const v4 = '172.17.0.0/16 172.17.0.1 ';
  assert.deepEqual(blocks({ ipv6: {} }), [v4, 'fd01::/64 fd01::1 ']);
  assert.deepEqual(blocks({ ipv6: { range: 'fd02::/64' } }), [v4, 'fd02::/64 fd02::1 fd02::/64']);
  assert.deepEqual(blocks({ ipv6: { address: 'fd03::9/64', range: 'fd03::ff00/120' } }), [
    v4,
    'fd03::/64 fd03::9 fd03::ff00/120',
  ]);
  const dual = planDefaultBridge(bridge, { ipv6: {} }, around);
  assert.equal(dual.enableIpv6, true);
  const single = planDefaultBridge(dual);
  assert.deepEqual([single.enableIpv6, single.blocks.length], [false, 1]);
});

test('a range without an address: the subnet is of an address that the bridge has, or the range itself', () => {
  const one = (standing: string[], settings: Parameters<typeof planDefaultBridge>[1]): string => {
    const found = planDefaultBridge(bridge, settings, { addresses: standing }).blocks.at(-1);
    return `${found?.subnet} ${found?.gateway} ${found?.ipRange ?? '-'}`;
  };
  const users = { link: 'br9' };
  assert.equal(one(['172.17.0.1/16'], { range: '10.9.0.0/24' }), '10.9.0.0/24 10.9.0.1 10.9.0.0/24');
  assert.equal(one(['172.17.0.1/16'], { range: '172.17.4.0/24' }), '172.17.0.0/16 172.17.0.1 172.17.4.0/24');
  assert.equal(one(['10.9.0.88/24'], { range: '10.9.0.0/20' }), '10.9.0.0/20 10.9.0.88 10.9.0.0/20');
  const several = ['10.9.0.8/20', '10.9.16.8/20', '10.9.32.8/20'];
  assert.equal(one(several, { ...users, range: '10.9.17.0/24' }), '10.9.16.0/20 10.9.16.8 10.9.17.0/24');
  assert.equal(one(['10.9.0.8/24'], { ...users, range: '10.9.0.0/20' }), '10.9.0.0/24 10.9.0.8 -');
  const wide = { ...users, ipv6: { range: 'fd00::/60' } };
  assert.throws(() => one(['10.9.0.8/24', 'fd00::1/64'], wide), /fixed-cidr-v6=fd00::\/60 is outside/);
  assert.equal(one(['10.9.0.8/24', 'fe80::7/64', 'fd00::8/64'], { ...users, ipv6: {} }), 'fd00::/64 fd00::8 -');
});

test('a bridge of somebody else is borrowed, and given back; a gateway of containers is not the bridge', () => {
  const users = planDefaultBridge(bridge, { link: 'br9', gateway: '10.9.0.254' }, { addresses: ['10.9.0.1/24'] });
  assert.deepEqual([users.link, users.borrowed, bridgeAddresses(users)], ['br9', true, ['10.9.0.1/24']]);
  const endpoint = { networkId: 'b', endpointId: 'e', ip: '10.9.0.2', mac: '', hostLink: 'v', containerLink: 'eth0' };
  assert.equal(gatewayFor(users, { ...endpoint, aliases: [] }, 'IPv4'), '10.9.0.254');
  const own = planDefaultBridge(users, {}, { ownLink: 'br' });
  assert.deepEqual([own.link, own.borrowed], ['br', undefined]);
});
