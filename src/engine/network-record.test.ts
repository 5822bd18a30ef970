import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EndpointRecord } from './container-record.ts';
import { selectGateways } from './network-endpoint.ts';
import { bridgeAddresses, parseNetwork, rulesOf, type NetworkRecord } from './network-record.ts';

const network = (name: string, more: Partial<NetworkRecord> = {}): NetworkRecord => ({
  format: 2,
  id: name,
  name,
  driver: 'bridge',
  createdAtMs: 0,
  internal: false,
  attachable: false,
  ingress: false,
  enableIpv4: true,
  enableIpv6: false,
  labels: {},
  options: {},
  blocks: [{ subnet: '10.1.0.0/24', gateway: '10.1.0.1', isAsked: true }],
  link: name,
  ...more,
});
const six = { subnet: 'fd00::/64', gateway: 'fd00::1', isAsked: true };

test('a record of the first format is read as one of today', () => {
  const { blocks: _, enableIpv4: __, ...rest } = network('old', { format: 1 });
  const old = { ...rest, subnet: '10.1.0.0/16', gateway: '10.1.0.1', ipRange: '10.1.5.0/24', borrowed: true };
  const read = parseNetwork(JSON.stringify(old));
  assert.deepEqual(read.blocks, [
    { subnet: '10.1.0.0/16', gateway: '10.1.0.1', ipRange: '10.1.5.0/24', isAsked: true },
  ]);
  assert.deepEqual([read.format, read.enableIpv4, read.borrowed, 'subnet' in read], [2, true, true, false]);
  assert.deepEqual(parseNetwork(JSON.stringify({ ...rest, driver: 'host' })).blocks, []);
  assert.deepEqual(parseNetwork(JSON.stringify(network('new'))), network('new'));
});

test('options of each family hold for that family', () => {
  const both = network('n', {
    blocks: [...network('n').blocks, six],
    options: {
      'com.docker.network.bridge.gateway_mode_ipv6': 'routed',
      'com.docker.network.bridge.inhibit_ipv4': 'true',
      'com.docker.network.host_ipv4': '192.0.2.1',
    },
  });
  assert.deepEqual(bridgeAddresses(both), ['fd00::1/64']);
  const { subnets, guarded, routed } = rulesOf(both);
  assert.deepEqual(subnets, [
    { subnet: '10.1.0.0/24', masquerade: true, source: '192.0.2.1' },
    { subnet: 'fd00::/64', masquerade: false },
  ]);
  assert.deepEqual([guarded, routed], [['IPv4', 'IPv6'], ['IPv6']]);
});

test('the way out: priority, networks that lead outside, both families before one, then the name', () => {
  const place = (name: string, priority: number, more: Partial<NetworkRecord> = {}) => {
    const of = network(name, more);
    const dual = of.blocks.length > 1;
    const endpoint: EndpointRecord = {
      networkId: name,
      endpointId: name,
      ip: '10.1.0.2',
      ...(dual ? { ip6: 'fd00::2' } : {}),
      mac: '',
      hostLink: '',
      containerLink: name,
      aliases: [],
    };
    return { network: of, endpoint, priority };
  };
  const chosen = (...places: ReturnType<typeof place>[]): (string | undefined)[] => {
    const { IPv4, IPv6 } = selectGateways(places);
    return [IPv4?.network.name, IPv6?.network.name];
  };
  const dual = { blocks: [...network('n').blocks, six] };
  assert.deepEqual(chosen(place('b', 0), place('a', 0)), ['a', undefined]);
  assert.deepEqual(chosen(place('b', 1), place('a', 0)), ['b', undefined]);
  assert.deepEqual(chosen(place('a', 5, { internal: true }), place('b', 0)), ['b', undefined]);
  assert.deepEqual(chosen(place('a', 0), place('z', 0, dual)), ['z', 'z']);
  assert.deepEqual(chosen(place('a', 0, dual), place('z', 1, dual)), ['z', 'z']);
  assert.deepEqual(chosen(place('a', 0, { internal: true })), [undefined, undefined]);
});
