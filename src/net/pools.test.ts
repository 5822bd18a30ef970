import assert from 'node:assert/strict';
import { test } from 'node:test';
import { contains, overlaps, subnetOf } from '#base/ip.ts';
import { AddressPool, findFreeSubnet } from './pools.ts';

test('a pool gives neither network nor broadcast address', () => {
  const pool = new AddressPool('10.0.0.0/30');
  assert.deepEqual([pool.allocate(), pool.allocate()], ['10.0.0.1', '10.0.0.2']);
  assert.throws(() => pool.allocate(), /no available IPv4 addresses/);
});

test('a released address is given again, the lowest first', () => {
  const pool = new AddressPool('10.0.0.0/24');
  const [first] = [pool.allocate(), pool.allocate()];
  pool.release(first);
  assert.equal(pool.allocate(), first);
});

test('a rotating pool does not give an address again at once', () => {
  const pool = new AddressPool('10.0.0.0/24', { rotate: true });
  const first = pool.allocate();
  pool.release(first);
  assert.notEqual(pool.allocate(), first);
});

test('a range limits what is given, not what can be taken', () => {
  const pool = new AddressPool('10.0.0.0/16', { range: '10.0.5.0/24' });
  assert.ok(contains(subnetOf('10.0.5.0/24'), pool.allocate()));
  assert.equal(pool.take('10.0.9.9'), true);
  assert.equal(pool.take('10.0.9.9'), false);
});

test('a range at the beginning or end of its subnet gives neither network nor broadcast address', () => {
  assert.equal(new AddressPool('10.0.0.0/16', { range: '10.0.0.0/24' }).allocate(), '10.0.0.1');
  const end = new AddressPool('10.0.0.0/16', { range: '10.0.255.254/31' });
  assert.equal(end.allocate(), '10.0.255.254');
  assert.throws(() => end.allocate(), /no available IPv4 addresses/);
  assert.equal(new AddressPool('10.0.0.0/31').allocate(), '10.0.0.0');
});

test('a free subnet overlaps nothing in use, not even a wider one', () => {
  const free = findFreeSubnet([subnetOf('172.16.0.0/12')]);
  assert.equal(free, '192.168.0.0/20');
  assert.ok(!overlaps(subnetOf(free), subnetOf('172.16.0.0/12')));
});

test('a pool counts in version 6 as in version 4, and gives the last address, too', () => {
  const pool = new AddressPool('fd00::/126');
  assert.deepEqual([pool.allocate(), pool.allocate(), pool.allocate()], ['fd00::1', 'fd00::2', 'fd00::3']);
  assert.throws(() => pool.allocate(), /no available IPv6 addresses/);
  pool.release('fd00:0::2');
  assert.equal(pool.take('FD00::2'), true);
  assert.equal(new AddressPool('fd00::/64', { range: 'fd00::ff00:0/104' }).allocate(), 'fd00::ff00:0');
});

test("a free subnet is found in pools of version 6, and what is used of the other family is in nobody's way", () => {
  const pools = [{ base: 'fd00::/48', length: 64 }];
  assert.equal(findFreeSubnet([subnetOf('0.0.0.0/0')], pools), 'fd00::/64');
  assert.equal(findFreeSubnet([subnetOf('fd00::/63')], pools), 'fd00:0:0:2::/64');
});
