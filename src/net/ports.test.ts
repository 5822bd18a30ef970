import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ports } from './ports.ts';

function holder(used: number[] = []): { ports: Ports; held: Set<number> } {
  const held = new Set<number>();
  return {
    held,
    ports: new Ports({
      dynamicRange: () => [40_000, 40_002],
      hold(_ip, port) {
        if (used.includes(port)) return { code: 'EADDRINUSE' };
        held.add(port);
        return { release: () => held.delete(port) };
      },
    }),
  };
}

test('an address that is none never gets among the rules', () => {
  const { ports, held } = holder();
  for (const hostIp of ['x', '::1', '1.1.1.1 . tcp . 1 : 1.1.1.1 . 1 }\nflush ruleset'])
    for (const hostPort of [0, 80])
      assert.throws(
        () => ports.reserve({ hostIp, hostPort, protocol: 'sctp', port: 80 }, '10.0.0.2'),
        /invalid host address/,
        hostIp,
      );
  assert.equal(held.size, 0);
});

test('a port that a container has is refused as docker words it', () => {
  const { ports } = holder();
  ports.reserve({ hostIp: '', hostPort: 80, protocol: 'tcp', port: 80 }, '10.0.0.2');
  assert.throws(
    () => ports.reserve({ hostIp: '127.0.0.1', hostPort: 80, protocol: 'tcp', port: 80 }, '10.0.0.3'),
    /Bind for 127\.0\.0\.1:80 failed: port is already allocated/,
  );
});

test('the same number is free for another protocol and for another address', () => {
  const { ports } = holder();
  ports.reserve({ hostIp: '127.0.0.1', hostPort: 80, protocol: 'tcp', port: 80 }, '10.0.0.2');
  ports.reserve({ hostIp: '', hostPort: 80, protocol: 'udp', port: 80 }, '10.0.0.2');
  ports.reserve({ hostIp: '10.9.9.9', hostPort: 80, protocol: 'tcp', port: 80 }, '10.0.0.3');
});

test('a port of another program of the host is refused', () => {
  const { ports } = holder([80]);
  assert.throws(
    () => ports.reserve({ hostIp: '', hostPort: 80, protocol: 'tcp', port: 80 }, '10.0.0.2'),
    /failed to bind host port 0\.0\.0\.0:80\/tcp: address already in use/,
  );
});

test('a dynamic port skips those in use, and the range ends', () => {
  const { ports } = holder([40_000]);
  const next = (): number => ports.reserve({ hostIp: '', hostPort: 0, protocol: 'tcp', port: 80 }, '10.0.0.2').hostPort;
  assert.deepEqual(
    [next(), next()].toSorted((a, b) => a - b),
    [40_001, 40_002],
  );
  assert.throws(next, /all ports are allocated/);
});

test('only who holds a port can release it', () => {
  const { ports, held } = holder();
  const mine = ports.reserve({ hostIp: '', hostPort: 80, protocol: 'tcp', port: 80 }, '10.0.0.2');
  ports.release({ ...mine, ip: '10.0.0.9' });
  assert.ok(held.has(80));
  ports.release(mine);
  assert.ok(!held.has(80));
});
