/**
 * What one docker network reaches of another, in each gateway mode and both families: real namespaces, real rules. A
 * container that stands open on ports 80 (published) and 81 is asked from every network but its own.
 * Source: Docker documentation, "Port publishing and mapping / Gateway modes".
 */
import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { linuxProcesses } from '#os/processes.linux.ts';
import type { DockerEngine } from './create-engine.ts';
import { addressesOf } from './network-record.ts';
import { execText, makeImage, newInstanceId, openTestEngine, removeTestEngine, specOf } from './testing.ts';

const skip = process.getuid?.() !== 0 ? 'needs root' : linuxProcesses.find('ip') === undefined && 'needs iproute2';
const instanceId = newInstanceId();
const modes = ['nat', 'routed', 'nat-unprotected', 'isolated', 'internal', 'internal-routed'] as const;
type Mode = (typeof modes)[number];

/** What answers those who are not in an internal network themselves. */
const openTo: Readonly<Record<Mode, string>> = {
  nat: '',
  routed: 'ping 80',
  'nat-unprotected': 'ping 80 81',
  isolated: '',
  internal: '',
  'internal-routed': '',
};
/** Prints the ports that answer. */
const askPorts = (ip: string): string =>
  `for port in 80 81; do printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 1 ${ip} $port 2>/dev/null | grep -q HTTP && echo $port; done`;
const isClosed = (mode: Mode): boolean => mode === 'isolated' || mode.startsWith('internal');

describe('packets between docker networks', { skip }, () => {
  const home = mkdtempSync('/tmp/tiphys-inter-network-');
  const ids = new Map<Mode, string>();
  const unreachable: string[] = [];
  let engine: DockerEngine;

  const sh = async (mode: Mode, script: string): Promise<string> =>
    (await execText(engine, ids.get(mode)!, ['sh', '-c', script], { privileged: true })).text.trim();

  const createNetwork = (mode: Mode): Promise<unknown> =>
    engine.networks.create({
      name: mode,
      enableIpv6: true,
      internal: isClosed(mode),
      options:
        mode === 'internal'
          ? {}
          : Object.fromEntries(
              ['4', '6'].map((digit) => [
                `com.docker.network.bridge.gateway_mode_ipv${digit}`,
                mode === 'internal-routed' ? 'routed' : mode,
              ]),
            ),
    });

  /** Which of ping, 80 and 81 answer, from a container of one network to the other's. */
  const reached = (from: Mode, ip: string): Promise<string> =>
    sh(from, `ping -c 1 -W 1 ${ip} >/dev/null 2>&1 && echo ping; ${askPorts(ip)}`);

  before(async () => {
    makeImage(home, ['sh', 'sleep', 'echo', 'ping', 'nc', 'printf', 'grep', 'httpd', 'ip']);
    engine = await openTestEngine(home, instanceId, '10.253.84.0/24');
    for (const mode of modes) {
      await createNetwork(mode);
      const serve = [80, 81].map((port) => `httpd -p ${port};`).join(' ');
      const id = await engine.containers.create(
        specOf(`at-${mode}`, ['sh', '-c', `${serve} sleep 1000`], {
          networks: [{ network: mode, aliases: [] }],
          ports: [{ hostIp: '', hostPort: 0, containerPort: 80, protocol: 'tcp' }],
        }),
      );
      await engine.containers.start(id);
      ids.set(mode, id);
      // No address of an isolated network is on its bridge: without a route, what others send leaves the machine. The
      // bridge has no IPv6 at all, so that no route leads there.
      if (mode === 'isolated') {
        const { blocks, link } = engine.networks.find(mode);
        for (const { subnet } of blocks) {
          const route = subnet.includes(':') ? ['unreachable', subnet] : [subnet, 'dev', link!];
          const done = await linuxProcesses.run('ip', ['route', 'add', ...route]);
          assert.equal(done.code, 0, done.stderr);
          if (subnet.includes(':')) unreachable.push(subnet);
        }
      }
      // An internal network gives no way out; a container that may change its routes takes one.
      if (mode.startsWith('internal'))
        for (const { subnet, gateway } of engine.networks.find(mode).blocks)
          await sh(mode, `ip ${subnet.includes(':') ? '-6' : '-4'} route add default via ${gateway ?? ''} dev eth0`);
    }
  });

  after(async () => {
    await engine[Symbol.asyncDispose]();
    for (const subnet of unreachable) await linuxProcesses.run('ip', ['route', 'del', 'unreachable', subnet]);
    await removeTestEngine(home, instanceId);
  });

  for (const to of modes) {
    test(`of a network that is ${to}, others reach ${openTo[to] === '' ? 'nothing' : openTo[to]}`, async () => {
      const addresses = addressesOf(engine.table.get(ids.get(to)!).record.run!.endpoints[0]!);
      assert.equal(addresses.length, 2, 'both families');
      await Promise.all(
        modes
          .filter((from) => from !== to)
          .flatMap((from) =>
            addresses.map(async (ip) => {
              const answers = (await reached(from, ip)).replaceAll('\n', ' ');
              assert.equal(answers, isClosed(from) ? '' : openTo[to], `from ${from} to ${ip}`);
            }),
          ),
      );
    });
  }

  test('its own network reaches all of a container', async () => {
    for (const mode of modes) {
      const own = await engine.containers.create(
        specOf(`beside-${mode}`, ['sleep', '1000'], { networks: [{ network: mode, aliases: [] }] }),
      );
      await engine.containers.start(own);
      for (const ip of addressesOf(engine.table.get(ids.get(mode)!).record.run!.endpoints[0]!)) {
        const script = `ping -c 1 -W 2 ${ip} >/dev/null && echo ping; ${askPorts(ip)}`;
        assert.equal((await execText(engine, own, ['sh', '-c', script])).text.trim(), 'ping\n80\n81', `${mode} ${ip}`);
      }
      await engine.containers.remove(own, { force: true });
    }
  });
});
