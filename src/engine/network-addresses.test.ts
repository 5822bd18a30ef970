import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkAddresses, type NetworkAddresses } from './network-addresses.ts';

test('subnet, range, gateway and further addresses must fit each other', () => {
  const subnet = '10.9.8.0/24';
  const bad: [NetworkAddresses, RegExp][] = [
    [{ subnet: '10.9.8.5/24' }, /invalid subnet 10\.9\.8\.5\/24: it should be 10\.9\.8\.0\/24/],
    [{ subnet: '10.9.8.0' }, /invalid subnet 10\.9\.8\.0: invalid CIDR block notation/],
    [{ subnet: '10.9.08.0/24' }, /invalid subnet 10\.9\.08\.0\/24: invalid CIDR block notation/],
    [{ subnet: '10.9.8.1/32' }, /no room/],
    [{ subnet: 'fd00::/128' }, /no room/],
    [{ subnet: 'ff02::/64' }, /multicast subnet 'ff02::\/64' is not allowed/],
    [{ subnet: '::/1' }, /'::\/1' is not a valid IPv6 subnet/],
    [{ subnet: '::ffff:10.0.0.0/112' }, /is not a valid IPv6 subnet/],
    [{ subnet: 'fe80::/60' }, /'fe80::\/60' clashes with the Link-Local prefix 'fe80::\/64'/],
    [{ subnet: 'fd00::5/64' }, /invalid subnet fd00::5\/64: it should be fd00::\/64/],
    [{ subnet: 'fd00::/64', gateway: '10.9.8.1' }, /invalid gateway 10\.9\.8\.1: parent subnet is an IPv6 block/],
    [{ ipRange: subnet }, /invalid subnet : invalid CIDR block notation/],
    [{ gateway: '10.9.8.1' }, /invalid subnet : invalid CIDR block notation/],
    [{ auxiliaryAddresses: { a: '10.9.8.1' } }, /invalid subnet : invalid CIDR block notation/],
    [{ subnet, ipRange: '10.9.8.70/26' }, /invalid ip-range 10\.9\.8\.70\/26: it should be 10\.9\.8\.64\/26/],
    [{ subnet, ipRange: '10.9.0.0/16' }, /bigger than its parent subnet/],
    [
      { subnet, ipRange: '10.9.7.0/26' },
      /ip-range 10\.9\.7\.0\/26: parent subnet 10\.9\.8\.0\/24 doesn't contain ip-range/,
    ],
    [{ subnet, ipRange: 'fd00::/64' }, /invalid ip-range fd00::\/64: parent subnet is an IPv4 block/],
    [{ subnet, ipRange: '10.9.8.0' }, /invalid ip-range 10\.9\.8\.0: invalid CIDR block notation/],
    [
      { subnet, gateway: '10.9.7.1' },
      /invalid gateway 10\.9\.7\.1: parent subnet 10\.9\.8\.0\/24 doesn't contain this address/,
    ],
    [{ subnet, gateway: 'fd00::1' }, /invalid gateway fd00::1: parent subnet is an IPv4 block/],
    [{ subnet, gateway: '10.9.8.01' }, /invalid gateway 10\.9\.8\.01: invalid address/],
    [
      { subnet, auxiliaryAddresses: { a: '10.9.7.1' } },
      /invalid auxiliary address a: parent subnet 10\.9\.8\.0\/24 doesn't/,
    ],
  ];
  for (const [wanted, message] of bad)
    assert.throws(() => checkAddresses([wanted], true), message, JSON.stringify(wanted));
  assert.throws(
    () => checkAddresses([{ subnet: '10.9.8.5/24', gateway: '1.2.3.4' }], false),
    /it should be[^]*invalid gateway/,
  );
});

test('what fits is taken', () => {
  for (const wanted of [
    { subnet: '10.9.8.0/31' },
    {
      subnet: 'fd00:1::/64',
      ipRange: 'fd00:1::ff00/120',
      gateway: 'fd00:1::1',
      auxiliaryAddresses: { a: 'fd00:1:0::9' },
    },
    {
      subnet: '10.9.8.0/24',
      ipRange: '10.9.8.64/26',
      gateway: '10.9.8.254',
      auxiliaryAddresses: { router: '10.9.8.2' },
    },
  ])
    checkAddresses([wanted], true);
});

test('where the network has no IPv6, its subnets are passed over', () => {
  checkAddresses([{ subnet: 'fd00::5/64', gateway: 'x' }], false);
});
