import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CreateBody } from './create-body.ts';
import { adaptNetworking, parsePort } from './create-network.ts';
import { specFromRequest } from './create-request.ts';
import { checkFilterValues, isFlagWord, matchesLabels, parseFilters, parseTime, parseTimeNs } from './filters.ts';
import { humanDuration } from './inspect.ts';
import { compileRoutes, matchRoute } from './match.ts';
import type { Route } from './route.ts';

const make = (host: Record<string, unknown>, more: Record<string, unknown> = {}): ReturnType<typeof specFromRequest> =>
  specFromRequest({ Image: 'x', HostConfig: host, ...more }, 'n', 'sha256:1');

test('a bind makes its missing directory, a name is a volume', () => {
  const { mounts } = make({ Binds: ['/a:/b:ro', 'data:/c', '/only'] });
  assert.deepEqual(
    mounts.map(({ type, source, target, readOnly }) => ({ type, source, target, readOnly })),
    [
      { type: 'bind', source: '/a', target: '/b', readOnly: true },
      { type: 'volume', source: 'data', target: '/c', readOnly: false },
      { type: 'volume', source: '', target: '/only', readOnly: false },
    ],
  );
});

test('a bind onto the root is refused', () => {
  assert.throws(() => make({ Binds: ['/a:/'] }), /destination can't be '\/'/);
});

test('ports are single, ranges, and any', () => {
  const { ports } = make({
    PortBindings: { '80/tcp': [{ HostPort: '8080' }, { HostIp: '127.0.0.1', HostPort: '9000-9010' }], '53/udp': [{}] },
  });
  assert.deepEqual(ports, [
    { hostIp: '', hostPort: 8080, protocol: 'tcp', containerPort: 80 },
    { hostIp: '127.0.0.1', hostPort: 9000, hostPortEnd: 9010, protocol: 'tcp', containerPort: 80 },
    { hostIp: '', hostPort: 0, protocol: 'udp', containerPort: 53 },
  ]);
  assert.throws(() => parsePort('x'), /invalid port specification/);
});

test('part of a processor is a quota', () => {
  assert.deepEqual(
    [make({ NanoCpus: 500_000_000 }).resources.cpuQuotaUs, make({ NanoCpus: 500_000_000 }).resources.cpuPeriodUs],
    [50_000, 100_000],
  );
});

test('a restart policy does not go with automatic removal', () => {
  assert.throws(
    () => make({ AutoRemove: true, RestartPolicy: { Name: 'always' } }),
    /can't create 'AutoRemove' container with restart policy/,
  );
});

test("an empty entrypoint takes the image's away", () => {
  assert.deepEqual(make({}, { Entrypoint: [''] }).entrypoint, []);
});

test('filters come as lists or as the old objects', () => {
  assert.deepEqual(parseFilters(new URLSearchParams({ filters: '{"name":["a"]}' }), ['name']).get('name'), ['a']);
  assert.deepEqual(parseFilters(new URLSearchParams({ filters: '{"name":{"a":true}}' }), ['name']).get('name'), ['a']);
  assert.throws(() => parseFilters(new URLSearchParams({ filters: '{"x":["a"]}' }), ['name']), /invalid filter 'x'/);
});

test('label filters hold all together', () => {
  assert.ok(matchesLabels(new Map([['label', ['a', 'b=1']]]), { a: '', b: '1' }));
  assert.ok(!matchesLabels(new Map([['label', ['a', 'b=2']]]), { a: '', b: '1' }));
});

test('times are seconds, durations or dates', () => {
  assert.deepEqual(
    [parseTime('10.5', 0), parseTime('1m', 100_000), parseTime('1970-01-01T00:00:01Z', 0)],
    [10_500, 40_000, 1000],
  );
});

test('durations are told as docker does', () => {
  assert.deepEqual([500, 1000, 59_000, 60_000, 3_600_000, 86_400_000].map(humanDuration), [
    'Less than a second',
    '1 second',
    '59 seconds',
    'About a minute',
    'About an hour',
    '24 hours',
  ]);
});

test('a literal path wins over a parameter', () => {
  const route = (path: string): Route => ({ method: 'GET', path, handle: async () => undefined });
  const routes = compileRoutes([
    route('/containers/{id}/json'),
    route('/containers/json'),
    route('/images/{name*}/json'),
  ]);
  assert.equal(matchRoute(routes, 'GET', '/containers/json')?.route.path, '/containers/json');
  assert.equal(matchRoute(routes, 'GET', '/images/a/b:c/json')?.params['name'], 'a/b:c');
  assert.equal(matchRoute(routes, 'POST', '/containers/json'), undefined);
});

test('times are as exact as they were written', () => {
  assert.equal(parseTimeNs('1795848791.933000001', 0), 1_795_848_791_933_000_001n);
  assert.equal(parseTimeNs('2026-11-28T06:53:11.933000001Z', 0), 1_795_848_791_933_000_001n);
  assert.equal(parseTimeNs('1h30m', 5_400_000), 0n);
  assert.equal(parseTimeNs('1.5s', 1_500), 0n);
  assert.equal(parseTimeNs('-2s', 0), 2_000_000_000n);
  assert.equal(parseTimeNs('2026-01-01T00:00Z', 0), parseTimeNs('2026-01-01T00:00:00Z', 0));
  for (const text of ['', 'x', '2026-13-01', '1d', '1e9'])
    assert.throws(() => parseTimeNs(text, 0), /invalid value for a time/, text);
});

test('a port, its address and its range are what they must be', () => {
  const ports = (bindings: Record<string, unknown>): unknown => make({ PortBindings: bindings }).ports;
  for (const bad of ['10-5', '1-65536', '70000', 'x'])
    assert.throws(() => ports({ '80/tcp': [{ HostPort: bad }] }), /invalid port specification/, bad);
  for (const bad of ['80-81/tcp', '0/tcp', '80/foo'])
    assert.throws(() => ports({ [bad]: [{ HostPort: '8080' }] }), /invalid port specification/, bad);
  for (const bad of ['x', '1.2.3', '1.1.1.1 . tcp . 1 : 1.1.1.1 . 1 }\nflush ruleset'])
    assert.throws(() => ports({ '80/tcp': [{ HostIp: bad, HostPort: '8080' }] }), /invalid host address/, bad);
});

test('a port is published on addresses of both versions; a mapped address is what it maps', () => {
  const hosts = (...ips: string[]): (string | undefined)[] | undefined =>
    make({ PortBindings: { '80/tcp': ips.map((HostIp) => ({ HostIp, HostPort: '8080' })) } }).ports?.map(
      (port) => port.hostIp,
    );
  assert.deepEqual(hosts('127.0.0.1', '0.0.0.0', '', '0:0::0', 'FD00::1'), [
    '127.0.0.1',
    '0.0.0.0',
    '',
    '::',
    'fd00::1',
  ]);
  assert.deepEqual(hosts('::ffff:127.0.0.1'), ['127.0.0.1']);
  for (const bad of ['127.0.0.01', '[::1]', 'fe80::1%eth0']) assert.throws(() => hosts(bad), /invalid host address/);
});

test('what an older version said of networks is said as today', () => {
  const adapt = (minor: number, body: CreateBody): { body: CreateBody; warnings: string[] } => ({
    body,
    warnings: adaptNetworking(body, [1, minor]),
  });
  const mac = '02:42:00:00:00:01';
  const old = adapt(43, { MacAddress: mac, NetworkingConfig: { EndpointsConfig: { n: {} } } }).body;
  assert.equal(old.NetworkingConfig?.EndpointsConfig?.['n']?.MacAddress, mac);
  const unknown = adapt(43, { NetworkingConfig: { EndpointsConfig: { n: { MacAddress: mac, GwPriority: 2 } } } }).body;
  assert.deepEqual(unknown.NetworkingConfig?.EndpointsConfig?.['n'], {});
  const { body, warnings } = adapt(47, { MacAddress: mac, HostConfig: { Sysctls: { 'net.ipv4.conf.eth0.x': '1' } } });
  assert.deepEqual(body.NetworkingConfig?.EndpointsConfig?.['bridge'], {
    MacAddress: mac,
    DriverOpts: { 'com.docker.network.endpoint.sysctls': 'net.ipv4.conf.IFNAME.x=1' },
  });
  assert.equal(warnings.length, 2);
  const published = { NetworkMode: 'host', PortBindings: { '80/tcp': [{ HostPort: '80' }] } };
  assert.match(adapt(50, { HostConfig: published }).warnings.join(), /^Published ports are discarded/);
  assert.deepEqual(adapt(50, { HostConfig: { ...published, NetworkMode: 'bridge' } }).warnings, []);
  const bad: [number, CreateBody, RegExp][] = [
    [43, { NetworkingConfig: { EndpointsConfig: { a: {}, b: {} } } }, /multiple network endpoints: a, b/],
    [43, { MacAddress: mac, HostConfig: { NetworkMode: 'host' } }, /mac-address and the network mode/],
    [48, { HostConfig: { Sysctls: { 'net.ipv4.conf.eth0.x': '1' } } }, /must be supplied using driver option/],
    [47, { HostConfig: { Sysctls: { 'net.ipv4.conf.eth1.x': '1' } } }, /unable to determine network endpoint/],
    [
      44,
      { MacAddress: mac, NetworkingConfig: { EndpointsConfig: { default: { MacAddress: '02:42:00:00:00:02' } } } },
      /must match the endpoint-specific MAC address/,
    ],
  ];
  for (const [minor, wrong, message] of bad) assert.throws(() => adapt(minor, wrong), message);
});

test('who names networks, but not the default one, is not on that', () => {
  const networksOf = (mode: string, names: string[]): unknown[] | undefined =>
    make(
      { NetworkMode: mode },
      { NetworkingConfig: { EndpointsConfig: Object.fromEntries(names.map((name) => [name, {}])) } },
    ).networks?.map(({ network }) => network);
  assert.deepEqual(networksOf('default', []), ['bridge']);
  assert.deepEqual(networksOf('default', ['a', 'b']), ['a', 'b']);
  assert.deepEqual(networksOf('bridge', ['a', 'bridge']), ['bridge', 'a']);
  assert.deepEqual(networksOf('', ['a', 'default']), ['bridge', 'a']);
  assert.deepEqual(networksOf('c', ['a']), ['c', 'a']);
});

test('settings of an endpoint are checked, each fault named', () => {
  const asked = (endpoint: Record<string, unknown>, network = 'n'): unknown =>
    make({ NetworkMode: network }, { NetworkingConfig: { EndpointsConfig: { [network]: endpoint } } }).networks;
  const sysctls = (text: string): Record<string, unknown> => ({
    DriverOpts: { 'com.docker.network.endpoint.sysctls': text },
  });
  const bad: [Record<string, unknown>, RegExp][] = [
    [
      { IPAMConfig: { IPv4Address: 'fd00::1' } },
      /invalid config for network n: invalid endpoint settings:\ninvalid IPv4/,
    ],
    [{ IPAMConfig: { IPv6Address: '::' } }, /invalid IPv6 address: ::/],
    [{ IPAMConfig: { LinkLocalIPs: ['x'] } }, /invalid link-local IP address: x/],
    [{ MacAddress: '02:42' }, /invalid MAC address: 02:42/],
    [sysctls('net.ipv4.conf.eth0.x=1'), /unrecognised network interface sysctl/],
    [sysctls('net.ipv4.conf.IFNAME.x/../../y=1'), /unrecognised network interface sysctl/],
    [{ DriverOpts: { 'com.docker.network.endpoint.ifname': 'a/b' } }, /invalid interface name/],
  ];
  for (const [endpoint, message] of bad) assert.throws(() => asked(endpoint), message, JSON.stringify(endpoint));
  assert.throws(() => asked({ IPAMConfig: { IPv6Address: 'fd00::2' } }, 'bridge'), /on user defined networks only/);
  assert.deepEqual(
    asked({
      IPAMConfig: { IPv4Address: '10.0.0.2', IPv6Address: 'fd00::2', LinkLocalIPs: ['169.254.1.1'] },
      MacAddress: '0242.AC11.0002',
      GwPriority: 3,
      ...sysctls('net.ipv6.conf.IFNAME.accept_ra=2'),
    }),
    [
      {
        network: 'n',
        aliases: [],
        ip: '10.0.0.2',
        ip6: 'fd00::2',
        linkLocalIps: ['169.254.1.1'],
        mac: '02:42:ac:11:00:02',
        gatewayPriority: 3,
        options: { 'com.docker.network.endpoint.sysctls': 'net.ipv6.conf.IFNAME.accept_ra=2' },
      },
    ],
  );
});

test('an exposed range is published port by port', () => {
  const { ports } = make({ PublishAllPorts: true }, { ExposedPorts: { '80-82/udp': {} } });
  assert.deepEqual(
    ports?.map((port) => [port.containerPort, port.protocol]),
    [
      [80, 'udp'],
      [81, 'udp'],
      [82, 'udp'],
    ],
  );
});

test('a bind has one mode of each kind', () => {
  for (const bad of ['ro,rw', 'rw,rw', 'z,Z', 'shared,private', 'nocopy,nocopy'])
    assert.throws(() => make({ Binds: [`/a:/b:${bad}`] }), new RegExp(`invalid mode: ${bad}`));
  assert.equal(make({ Binds: ['/a:/b:ro,z,rslave'] }).mounts[0]?.readOnly, true);
});

test('a mount is shown with the options of its flag, and volumes with z', () => {
  const { mounts } = make(
    {
      Binds: ['/a:/b', '/a:/c:ro,rslave', 'v:/d', 'v:/e:ro'],
      Mounts: [
        { Type: 'bind', Source: '/', Target: '/f', ReadOnly: true },
        { Type: 'volume', Source: 'v', Target: '/g', ReadOnly: true },
      ],
    },
    { Volumes: { '/h': {} } },
  );
  assert.deepEqual(
    mounts.map((mount) => mount.mode),
    ['', 'ro,rslave', 'z', 'ro', '', 'z', ''],
  );
});

test('values of a filter are strings, and null is no filter', () => {
  for (const bad of ['{"name":1}', '{"name":"a"}', '{"name":null}', '{"name":[1]}', '[]', '1'])
    assert.throws(() => parseFilters(new URLSearchParams({ filters: bad }), ['name']), /invalid filter/, bad);
  assert.equal(parseFilters(new URLSearchParams({ filters: 'null' }), ['name']).size, 0);
});

test('what becomes a line of hosts or resolv.conf is one entry', () => {
  const bad: [Record<string, unknown>, RegExp][] = [
    [{ ExtraHosts: ['a'] }, /bad format for add-host: "a"/],
    [{ ExtraHosts: ['a:'] }, /bad format/],
    [{ ExtraHosts: [':1.2.3.4'] }, /bad format/],
    [{ ExtraHosts: ['a:b'] }, /invalid IP address in add-host: "b"/],
    [{ ExtraHosts: ['a:1.2.3.4\n5.6.7.8 b'] }, /bad format/],
    [{ Dns: ['x'] }, /bad nameserver address/],
    [{ Dns: ['1.1.1.1\nnameserver 2.2.2.2'] }, /bad nameserver address/],
    [{ DnsSearch: ['a\nnameserver 1.1.1.1'] }, /invalid DnsSearch/],
    [{ DnsOptions: ['ndots:1 x'] }, /invalid DnsOptions/],
    [{ Annotations: { '': 'x' } }, /empty string is not permitted/],
  ];
  for (const [host, message] of bad) assert.throws(() => make(host), message, JSON.stringify(host));
  make({
    ExtraHosts: ['a:1.2.3.4', 'b:::1', 'c:[::1]', 'd=1.2.3.4', 'e:host-gateway'],
    Dns: ['1.1.1.1', '::1'],
    DnsSearch: ['a.example', '.'],
    DnsOptions: ['ndots:1'],
  });
});

test('a value that nothing can have is refused though there is nothing to compare it with', () => {
  const filters = parseFilters(new URLSearchParams({ filters: '{"dangling":["true","zz"]}' }), ['dangling']);
  assert.throws(() => checkFilterValues(filters, { dangling: isFlagWord }), /invalid filter 'dangling=zz'/);
  checkFilterValues(filters, { driver: () => false });
  for (const word of ['1', '0', 'true', 'False', 't']) assert.ok(isFlagWord(word));
});

test('null is what is left out, as for docker', () => {
  const nothing = Object.fromEntries(
    ['Binds', 'Mounts', 'Tmpfs', 'Dns', 'PortBindings', 'RestartPolicy', 'PidMode', 'IpcMode', 'CgroupParent'].map(
      (key) => [key, null],
    ),
  );
  const made = make({ ...nothing, ShmSize: null, Devices: null }, { Env: null, Labels: null, StopTimeout: null });
  assert.deepEqual({ ...made, request: undefined }, { ...make({}), request: undefined });
  const mount = {
    Type: 'tmpfs',
    Target: '/t',
    Source: null,
    TmpfsOptions: { SizeBytes: null, Mode: null, Options: null },
  };
  assert.deepEqual(make({ Mounts: [mount] }).mounts, make({ Mounts: [{ Type: 'tmpfs', Target: '/t' }] }).mounts);
  assert.throws(
    () => make({ Mounts: [{ Type: 'bind', Target: '/t', Source: null }] }),
    /field Source must not be empty/,
  );
});
