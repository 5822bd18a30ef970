import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ports, type WantedPort } from './ports.ts';

function wanted(
  hostIp: string,
  hostPort: number,
  protocol: 'tcp' | 'udp' | 'sctp' = 'tcp',
  ip = '10.0.0.2',
): WantedPort {
  return { hosts: [{ hostIp, ip }], hostPort, protocol, port: 80 };
}

function holder(used: number[] = []): { ports: Ports; held: Set<number>; relayed: string[] } {
  const relayed: string[] = [];
  const held = new Set<number>();
  return {
    held,
    relayed,
    ports: new Ports(
      {
        dynamicRange: () => [40_000, 40_002],
        hasIpv6: () => true,
        hold(_ip, port) {
          if (used.includes(port)) return { code: 'EADDRINUSE' };
          held.add(port);
          return { fd: port, release: () => held.delete(port) };
        },
      },
      (fd, target) => {
        relayed.push(`${fd} ${target.ip}`);
        return { close: () => held.delete(fd) };
      },
    ),
  };
}

test('an address that is none never gets among the rules', () => {
  const { ports, held } = holder();
  for (const hostIp of ['x', 'fe80::1%eth0', '1.1.1.1 . tcp . 1 : 1.1.1.1 . 1 }\nflush ruleset'])
    for (const hostPort of [0, 80])
      assert.throws(() => ports.reserve(wanted(hostIp, hostPort, 'sctp')), /invalid host address/, hostIp);
  assert.equal(held.size, 0);
});

test('a port that a container has is refused as docker words it', () => {
  const { ports } = holder();
  ports.reserve(wanted('0.0.0.0', 80, 'tcp', '10.0.0.2'));
  assert.throws(
    () => ports.reserve(wanted('127.0.0.1', 80, 'tcp', '10.0.0.3')),
    /Bind for 127\.0\.0\.1:80 failed: port is already allocated/,
  );
});

test('the same number is free for another protocol and for another address', () => {
  const { ports } = holder();
  ports.reserve(wanted('127.0.0.1', 80, 'tcp', '10.0.0.2'));
  ports.reserve(wanted('0.0.0.0', 80, 'udp', '10.0.0.2'));
  ports.reserve(wanted('10.9.9.9', 80, 'tcp', '10.0.0.3'));
});

test('a port of another program of the host is refused', () => {
  const { ports } = holder([80]);
  assert.throws(
    () => ports.reserve(wanted('0.0.0.0', 80, 'tcp', '10.0.0.2')),
    /failed to bind host port 0\.0\.0\.0:80\/tcp: address already in use/,
  );
});

test('a dynamic port skips those in use, and the range ends', () => {
  const { ports } = holder([40_000]);
  const next = (): number[] => ports.reserve(wanted('0.0.0.0', 0, 'tcp', '10.0.0.2')).map((port) => port.hostPort);
  assert.deepEqual(
    [next(), next()].flat().toSorted((a, b) => a - b),
    [40_001, 40_002],
  );
  assert.throws(next, /all ports are allocated/);
});

test('only who holds a port can release it', () => {
  const { ports, held } = holder();
  const mine = ports.reserve(wanted('0.0.0.0', 80, 'tcp', '10.0.0.2'));
  for (const port of mine) ports.release({ ...port, ip: '10.0.0.9' });
  assert.ok(held.has(80));
  for (const port of mine) ports.release(port);
  assert.ok(!held.has(80));
});

test('all addresses of a port get the same number, those of version 6 with a relay, and go together', () => {
  const { ports, relayed } = holder([40_000]);
  ports.reserve(wanted('::', 40_001));
  const hosts = [
    { hostIp: '0.0.0.0', ip: '10.0.0.2' },
    { hostIp: '::', ip: 'fd00::2' },
  ];
  const both = ports.reserve({ hosts, hostPort: 40_000, hostPortEnd: 40_002, protocol: 'tcp', port: 80 });
  assert.deepEqual(
    both.map(({ hostIp, hostPort }) => `${hostIp} ${hostPort}`),
    ['0.0.0.0 40002', ':: 40002'],
  );
  assert.deepEqual(relayed, ['40001 10.0.0.2', '40002 fd00::2']);
  assert.throws(() => ports.reserve(wanted('::1', 40_002)), /Bind for ::1:40002 failed: port is already allocated/);
  for (const port of both) ports.release(port);
  assert.equal(ports.reserve(wanted('::1', 40_002)).length, 1);
});
