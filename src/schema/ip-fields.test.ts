import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FieldErrors } from './field-errors.ts';
import { validateSchema } from './validate-schema.ts';
import { cidrProblem, endpointIpProblem, ipProblem } from './ip-fields.ts';
import { validateEndpoints } from './validate-endpoints.ts';
import { validateNetworkPolicy } from './validate-policy.ts';
import { nameProblem } from './name-forms.ts';
import { validateIpAddress, validateServiceCidr } from './validate-ranges.ts';
import { validateService } from './validate-service.ts';

const ipMessage = 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)';
const cidrMessage = 'must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)';

test('addresses of fields are strict, and need not be canonical', () => {
  const rows: [unknown, string][] = [
    ['10.9.8.7', ''],
    ['2001:db8::ffff', ''],
    ['2001:DB8:0:0:0:0:0:FFFF', ''],
    ['0.0.0.0', ''],
    ['010.9.8.7', 'must not have leading 0s'],
    ['10.9.8.007', 'must not have leading 0s'],
    ['64:ff9b::10.9.8.07', 'must not have leading 0s'],
    ['::ffff:10.9.8.7', 'must not be an IPv4-mapped IPv6 address'],
    ['::ffff:a09:807', 'must not be an IPv4-mapped IPv6 address'],
    ['10.9.8', ipMessage],
    ['10.9.8.256', ipMessage],
    ['fe80::1%eth0', ipMessage],
    ['', ipMessage],
    [undefined, ipMessage],
    [7, ipMessage],
  ];
  for (const [text, problem] of rows) assert.equal(ipProblem(text), problem, String(text));
});

test('networks of fields are strict, too', () => {
  const rows: [unknown, string][] = [
    ['10.9.8.0/24', ''],
    ['0.0.0.0/0', ''],
    ['10.9.8.7/32', ''],
    ['2001:db8::/64', ''],
    ['2001:0DB8::/64', ''],
    ['10.9.8.7/24', 'must not have bits set beyond the prefix length'],
    ['2001:db8::1/64', 'must not have bits set beyond the prefix length'],
    ['10.09.8.0/24', 'must not have leading 0s in IP or prefix length'],
    ['10.9.8.0/024', 'must not have leading 0s in IP or prefix length'],
    ['2001:db8::/064', 'must not have leading 0s in IP or prefix length'],
    ['::ffff:10.9.8.0/120', 'must not have an IPv4-mapped IPv6 address'],
    ['10.9.8.0/33', cidrMessage],
    ['2001:db8::/129', cidrMessage],
    ['10.9.8.0', cidrMessage],
    ['/24', cidrMessage],
    ['10.9.8.0/', cidrMessage],
    [undefined, cidrMessage],
  ];
  for (const [text, problem] of rows) assert.equal(cidrProblem(text), problem, String(text));
});

test('traffic is sent to no special address, of either family', () => {
  const rows: [string, RegExp | ''][] = [
    ['10.9.8.7', ''],
    ['2001:db8::1', ''],
    ['224.0.1.1', ''],
    ['ff05::2', ''],
    ['0.0.0.0', /^may not be unspecified \(0\.0\.0\.0\)$/],
    ['::', /^may not be unspecified \(::\)$/],
    ['127.1.2.3', /loopback range/],
    ['::1', /loopback range/],
    ['169.254.169.254', /link-local range/],
    ['fe80::1', /link-local range/],
    ['febf::1', /link-local range/],
    ['224.0.0.9', /link-local multicast range/],
    ['ff02::1', /link-local multicast range/],
    ['::ffff:127.0.0.1', /IPv4-mapped/],
    ['x', /valid IP address/],
  ];
  for (const [text, problem] of rows) {
    if (problem === '') assert.equal(endpointIpProblem(text), '', text);
    else assert.match(endpointIpProblem(text), problem, text);
  }
});

test('formats of custom resources know addresses as such, and no zones', () => {
  const rows: [string, string, boolean][] = [
    ['ipv4', '10.0.0.1', true],
    ['ipv4', '10.0.0.01', false],
    ['ipv4', 'fd00::1', false],
    ['ipv6', 'fd00::1', true],
    ['ipv6', 'fd00:::1', false],
    ['ipv6', 'fe80::1%eth0', false],
    ['ipv6', '10.0.0.1', false],
    ['cidr', '10.0.0.0/8', true],
    ['cidr', 'fd00::/64', true],
    ['cidr', '10.0.0.0/33', false],
  ];
  for (const [format, text, isGood] of rows) {
    const errors = new FieldErrors();
    validateSchema(text, { type: 'string', format }, 'spec.a', errors);
    assert.equal(errors.causes.length === 0, isGood, `${format} ${text}`);
  }
});

test('an IPAddress is named by its address, and a ServiceCIDR holds a range of each family, as they are printed', () => {
  const problemsOf = (validate: (errors: FieldErrors) => void): string[] => {
    const errors = new FieldErrors();
    validate(errors);
    return errors.causes.map(({ field, message }) => `${field}: ${message}`);
  };
  assert.equal(nameProblem.ip('10.9.8.7'), '');
  assert.equal(nameProblem.ip('2001:db8::1'), '');
  assert.equal(nameProblem.ip('2001:DB8:0::1'), 'must be in canonical form ("2001:db8::1")');
  assert.equal(nameProblem.ip('::ffff:10.0.0.1'), 'must not be an IPv4-mapped IPv6 address');
  assert.equal(nameProblem.ip('web'), ipMessage);
  const range = (...cidrs: string[]): string[] =>
    problemsOf((errors) => validateServiceCidr({ metadata: { name: 'a' }, spec: { cidrs } }, errors));
  assert.deepEqual(range('10.0.0.0/16'), []);
  assert.deepEqual(range('2001:db8::/96', '10.0.0.0/16'), []);
  const rows: [string[], RegExp][] = [
    [[], /^spec\.cidrs: Required value: at least one CIDR required/],
    [['10.0.0.0/16', 'fd00::/64', 'fd01::/64'], /may only hold up to 2 values/],
    [['10.0.0.0/16', '10.1.0.0/16'], /no more than one IP for each IP family/],
    [['10.0.0.1/16'], /^spec\.cidrs\[0\]: .*bits set beyond/],
    [['FD00::/64'], /^spec\.cidrs\[0\]: .*must be in canonical form \("fd00::\/64"\)/],
  ];
  for (const [cidrs, problem] of rows) assert.match(range(...cidrs).join('\n'), problem, cidrs.join());
  const parent = { resource: 'services', namespace: 'default', name: 'web' };
  const address = (parentRef?: typeof parent): string[] =>
    problemsOf((errors) =>
      validateIpAddress({ metadata: { name: '10.0.0.1' }, spec: parentRef === undefined ? {} : { parentRef } }, errors),
    );
  assert.deepEqual(address(parent), []);
  assert.deepEqual(address(), ['spec.parentRef: Required value']);
  assert.deepEqual(address({ ...parent, name: '' }), ['spec.parentRef.name: Required value']);
});

test('what an object has stays through updates, also what is not taken any more; what is new is judged', () => {
  const fieldsOf = (validate: (errors: FieldErrors) => void): (string | undefined)[] => {
    const errors = new FieldErrors();
    validate(errors);
    return errors.causes.map(({ field }) => field);
  };
  const meta = { name: 'a', namespace: 'b' };
  const service = (externalIPs: string[], loadBalancerSourceRanges: string[]) => ({
    metadata: meta,
    spec: { type: 'LoadBalancer' as const, ports: [{ port: 80 }], externalIPs, loadBalancerSourceRanges },
  });
  const oldService = service(['::ffff:10.0.0.1'], ['10.0.0.1/8']) as never;
  assert.deepEqual(
    fieldsOf((errors) =>
      validateService(
        service(['::ffff:10.0.0.1', '::ffff:10.0.0.2'], ['10.0.0.1/8', '10.0.0.2/8']),
        errors,
        oldService,
      ),
    ).filter((field) => /IP|Range/.test(field ?? '')),
    ['spec.externalIPs[1]', 'spec.LoadBalancerSourceRanges[1]'],
  );
  const policy = (...cidrs: string[]) => ({
    metadata: meta,
    spec: { podSelector: {}, ingress: [{ from: cidrs.map((cidr) => ({ ipBlock: { cidr } })) }] },
  });
  assert.deepEqual(
    fieldsOf((errors) =>
      validateNetworkPolicy(policy('10.0.0.1/8', '10.0.0.2/8'), errors, policy('10.0.0.1/8') as never),
    ),
    ['spec.ingress[0].from[1].ipBlock.cidr'],
  );
  const endpoints = (...ips: string[]) => ({
    metadata: meta,
    subsets: [{ addresses: ips.map((ip) => ({ ip })), ports: [{ port: 80 }] }],
  });
  assert.deepEqual(
    fieldsOf((errors) =>
      validateEndpoints(endpoints('::ffff:10.0.0.1', '::ffff:10.0.0.2'), errors, endpoints('::ffff:10.0.0.1') as never),
    ),
    ['subsets[0].addresses[1].ip'],
  );
});
