import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AddressPool, contains, findFreeSubnet, formatSubnet, overlaps, parseSubnet } from './pools.ts';

test('a subnet loses its host bits', () => {
  assert.equal(formatSubnet(parseSubnet('10.1.2.3/16')), '10.1.0.0/16');
});

test("a subnet that is none is refused with docker's words", () => {
  assert.throws(() => parseSubnet('10.1.2/33'), /invalid CIDR address/);
});

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
  assert.ok(contains(parseSubnet('10.0.5.0/24'), pool.allocate()));
  assert.equal(pool.take('10.0.9.9'), true);
  assert.equal(pool.take('10.0.9.9'), false);
});

test('a free subnet overlaps nothing in use, not even a wider one', () => {
  const free = findFreeSubnet([parseSubnet('172.16.0.0/12')]);
  assert.equal(free, '192.168.0.0/20');
  assert.ok(!overlaps(parseSubnet(free), parseSubnet('172.16.0.0/12')));
});
