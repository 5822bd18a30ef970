import assert from 'node:assert/strict';
import { isIP } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { testSeed } from '#os/test-seed.ts';
import {
  addressAt,
  contains,
  containsSubnet,
  familyOf,
  formatIp,
  formatSubnet,
  ipBytes,
  ipOf,
  ipOfBytes,
  ipOfReverseName,
  isLoopback,
  isMapped,
  joinHostPort,
  lastAddress,
  overlaps,
  parseCidr,
  parseIp,
  sizeOf,
  subnetOf,
  unmapIp,
} from './ip.ts';

const seed = testSeed();

/** A text, and how Go's netip prints what it is; undefined for none. */
const addresses: [string, string | undefined][] = [
  ['1.2.3.4', '1.2.3.4'],
  ['0.0.0.0', '0.0.0.0'],
  ['255.255.255.255', '255.255.255.255'],
  ['01.2.3.4', undefined],
  ['1.2.3.04', undefined],
  ['0x1.2.3.4', undefined],
  ['256.1.1.1', undefined],
  ['1.2.3', undefined],
  ['16909060', undefined],
  ['1.2.3.4.', undefined],
  [' 1.2.3.4', undefined],
  ['1.2.3.4\n', undefined],
  ['1.2.3.4/32', undefined],
  ['١.2.3.4', undefined],
  ['', undefined],
  ['::', '::'],
  ['::1', '::1'],
  ['1::', '1::'],
  ['1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:8'],
  ['0:0:0:0:0:0:0:0', '::'],
  ['2001:DB8::A', '2001:db8::a'],
  ['2001:0db8::0001', '2001:db8::1'],
  // The first of the longest runs of zeros is shortened, and never a single one (RFC 5952, 4.2).
  ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
  ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
  ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
  ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
  ['::2:3:4:5:6:7:8', '0:2:3:4:5:6:7:8'],
  ['::ffff:1.2.3.4', '::ffff:1.2.3.4'],
  ['::ffff:102:304', '::ffff:1.2.3.4'],
  ['::1.2.3.4', '::102:304'],
  ['64:ff9b::1.2.3.4', '64:ff9b::102:304'],
  ['ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'],
  ['::ffff:01.2.3.4', undefined],
  ['::ffff:1.2.3.256', undefined],
  ['1:2:3:4:5:6:7:8::', undefined],
  ['1::2::3', undefined],
  [':::', undefined],
  [':1', undefined],
  ['1:', undefined],
  ['12345::', undefined],
  ['00001::', undefined],
  ['::g', undefined],
  ['1:2:3:4:5:6:7', undefined],
  ['fe80::1%eth0', undefined],
  ['fe80::1%', undefined],
  ['[::1]', undefined],
  ['::1/64', undefined],
];

test('an address is what netip takes, and is printed as netip prints it', () => {
  for (const [text, printed] of addresses) {
    const address = parseIp(text);
    assert.equal(address === undefined ? undefined : formatIp(address), printed, JSON.stringify(text));
  }
  for (const other of [undefined, null, 1, {}, ['1.2.3.4']]) assert.equal(parseIp(other), undefined);
  assert.throws(() => ipOf('01.2.3.4'), /invalid IP address: 01\.2\.3\.4/);
});

test('what is an address agrees with the operating system, whatever the text', () => {
  const word = fc.stringMatching(/^[0-9a-f]{0,5}$/);
  const nearly = fc.oneof(
    fc.ipV4(),
    fc.ipV6(),
    fc.array(word, { minLength: 1, maxLength: 9 }).map((words) => words.join(':')),
    fc.array(fc.nat(300).map(String), { minLength: 3, maxLength: 5 }).map((words) => words.join('.')),
    fc.tuple(fc.ipV6(), fc.ipV4()).map((pair) => pair.join(':')),
    fc.stringMatching(/^[0-9a-f:.%/x]{0,12}$/),
  );
  fc.assert(
    fc.property(nearly, (text) => {
      const known = text.includes('%') ? 0 : isIP(text);
      assert.equal(parseIp(text)?.family, { 0: undefined, 4: 'IPv4', 6: 'IPv6' }[known]);
    }),
    { seed, numRuns: 3000 },
  );
});

test('text, number and bytes of an address are the same address', () => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (text) => {
      const address = ipOf(text);
      const bytes = ipBytes(text);
      assert.equal(bytes.length, address.family === 'IPv4' ? 4 : 16);
      assert.equal(BigInt(`0x${Buffer.from(bytes).toString('hex')}`), address.value);
      const printed = formatIp(address);
      assert.equal(ipOfBytes(bytes), printed);
      assert.deepEqual(ipOf(printed), address);
    }),
    { seed },
  );
  assert.deepEqual([...ipBytes('10.1.2.3')], [10, 1, 2, 3]);
  assert.equal(Buffer.from(ipBytes('fe80::1')).toString('hex'), 'fe800000000000000000000000000001');
  assert.throws(() => ipOfBytes(Uint8Array.of(1, 2, 3)), RangeError);
});

test('a CIDR keeps its address, a subnet has its host bits cleared', () => {
  const rows: [string, string, string, bigint, string][] = [
    ['10.1.2.3/16', '10.1.0.0/16', '10.1.0.1', 2n ** 16n, '10.1.255.255'],
    ['10.1.2.3/0', '0.0.0.0/0', '0.0.0.1', 2n ** 32n, '255.255.255.255'],
    ['192.168.1.129/25', '192.168.1.128/25', '192.168.1.129', 128n, '192.168.1.255'],
    ['2001:db8::1:2/64', '2001:db8::/64', '2001:db8::1', 2n ** 64n, '2001:db8::ffff:ffff:ffff:ffff'],
    ['fd00:10:244::5/120', 'fd00:10:244::/120', 'fd00:10:244::1', 256n, 'fd00:10:244::ff'],
    ['::/0', '::/0', '::1', 2n ** 128n, 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'],
  ];
  for (const [text, printed, first, size, last] of rows) {
    const subnet = subnetOf(text);
    assert.equal(formatSubnet(subnet), printed);
    assert.equal(addressAt(subnet, 1), first);
    assert.equal(sizeOf(subnet), size);
    assert.equal(lastAddress(subnet), last);
    assert.equal(formatIp(parseCidr(text)!.address), formatIp(ipOf(text.split('/')[0]!)));
  }
  assert.equal(sizeOf(subnetOf('10.0.0.7/32')), 1n);
  for (const text of ['10.0.0.0', '10.0.0.0/33', '::/129', '10.0.0.0/08', '10.0.0.0/+8', '10.0.0.0/', '/8', '10.0/8'])
    assert.throws(() => subnetOf(text), /invalid CIDR address: /, text);
  assert.equal(parseCidr('010.0.0.0/8'), undefined);
  assert.equal(parseCidr(undefined), undefined);
});

test('subnets hold and overlap what is of their family alone', () => {
  const outer = subnetOf('10.0.0.0/8');
  const wide = subnetOf('fd00::/8');
  assert.deepEqual(
    ['10.255.255.255', '11.0.0.0', '::ffff:10.0.0.1', '::a00:1', 'x', ''].map((ip) => contains(outer, ip)),
    [true, false, false, false, false, false],
  );
  assert.deepEqual(
    ['fd12::1', 'fe00::', '10.0.0.1'].map((ip) => contains(wide, ip)),
    [true, false, false],
  );
  assert.ok(overlaps(outer, subnetOf('10.1.0.0/16')) && overlaps(subnetOf('10.1.0.0/16'), outer));
  assert.ok(!overlaps(subnetOf('::/0'), subnetOf('0.0.0.0/0')));
  assert.ok(!overlaps(subnetOf('10.0.0.0/24'), subnetOf('10.0.1.0/24')));
  assert.ok(containsSubnet(outer, outer) && containsSubnet(outer, subnetOf('10.1.0.0/16')));
  assert.ok(!containsSubnet(subnetOf('10.1.0.0/16'), outer) && !containsSubnet(outer, wide));
});

test('a mapped address is one of version 6, until somebody asks for what it maps', () => {
  assert.ok(isMapped(ipOf('::ffff:10.0.0.1')) && !isMapped(ipOf('::10.0.0.1')) && !isMapped(ipOf('10.0.0.1')));
  assert.deepEqual(unmapIp(ipOf('::ffff:10.0.0.1')), ipOf('10.0.0.1'));
  assert.deepEqual(unmapIp(ipOf('fd00::1')), ipOf('fd00::1'));
  assert.deepEqual(['127.9.9.9', '::1', '::ffff:127.0.0.1', '128.0.0.1', '::2', '127.', ''].map(isLoopback), [
    true,
    true,
    true,
    false,
    false,
    false,
    false,
  ]);
});

test('the family of an address is known with its zone, too', () => {
  assert.deepEqual(['10.0.0.1', 'fe80::1%eth0', 'fe80::1', 'host', ''].map(familyOf), [
    'IPv4',
    'IPv6',
    'IPv6',
    undefined,
    undefined,
  ]);
});

test('an address and a port are joined as in a URL', () => {
  assert.deepEqual([joinHostPort('10.0.0.1', 80), joinHostPort('fd00::1', 80)], ['10.0.0.1:80', '[fd00::1]:80']);
});

test('names of reverse questions are read for both families', () => {
  const nibbles = '1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2';
  const rows: [string, string | undefined][] = [
    ['4.3.2.1.in-addr.arpa', '1.2.3.4'],
    ['4.3.2.1.IN-ADDR.ARPA.', '1.2.3.4'],
    ['3.2.1.in-addr.arpa', undefined],
    ['5.4.3.2.1.in-addr.arpa', undefined],
    ['04.3.2.1.in-addr.arpa', undefined],
    ['in-addr.arpa', undefined],
    [`${nibbles}.ip6.arpa`, '2001:db8::1'],
    [`${nibbles.slice(2)}.ip6.arpa`, undefined],
    [`${nibbles.replace('1.0', '10')}.ip6.arpa`, undefined],
    [`${nibbles.replace('b', 'g')}.ip6.arpa`, undefined],
    ['4.3.2.1.ip6.arpa', undefined],
    ['4.3.2.1.example.org', undefined],
  ];
  for (const [name, address] of rows) assert.equal(ipOfReverseName(name), address, name);
});
