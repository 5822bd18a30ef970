/** Networks of a plugin written here: its links, its addresses, its faults, and an engine that ends meanwhile. */
import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { fieldOf, type JsonObject } from '#base/unknown.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { startTestPlugin, type Answer, type TestPlugin } from '#plugins/testing.ts';
import type { DockerEngine } from './create-engine.ts';
import { connectNetwork, disconnectNetwork } from './network-connect.ts';
import { execText, makeImage, newInstanceId, openTestEngine, removeTestEngine, specOf } from './testing.ts';

const skip = process.getuid?.() !== 0 ? 'needs root' : linuxProcesses.find('ip') === undefined && 'needs iproute2';

describe('networks of plugins', { skip }, () => {
  const instanceId = newInstanceId();
  const home = mkdtempSync('/tmp/tiphys-remote-');
  let engine: DockerEngine;
  let wires: TestPlugin;
  let pools: TestPlugin;
  /** What the driver answers instead, by method. */
  const odd = new Map<string, Answer>();
  const near = `w${instanceId}`;
  const far = `x${instanceId}`;

  const ip = async (...args: string[]): Promise<void> => {
    const done = await linuxProcesses.run('ip', args);
    if (done.code !== 0) throw new Error(`ip ${args.join(' ')}: ${done.stderr}`);
  };
  const methodsOf = (plugin: TestPlugin): string[] => plugin.calls.map(({ method }) => method.replace(/^.*\./, ''));
  const start = async (name: string, network: string): Promise<string> => {
    const id = await engine.containers.create(
      specOf(name, ['sleep', '1000'], {
        networks: [{ network, aliases: [] }],
        ports: [{ hostIp: '', hostPort: 18_080, containerPort: 80, protocol: 'tcp' }],
      }),
    );
    await engine.containers.start(id);
    return id;
  };
  const sh = async (id: string, script: string): Promise<string> =>
    (await execText(engine, id, ['sh', '-c', script])).text.trim();
  const answer = (method: string, usual: (body: JsonObject) => Answer | Promise<Answer>) =>
    [`NetworkDriver.${method}`, (body: JsonObject) => odd.get(method) ?? usual(body)] as const;

  before(async () => {
    makeImage(home, ['sh', 'sleep', 'echo', 'ip', 'ping', 'cat']);
    wires = await startTestPlugin(
      `${home}/plugins/wires.sock`,
      ['NetworkDriver'],
      Object.fromEntries([
        answer('CreateNetwork', () => ({})),
        answer('DeleteNetwork', () => ({})),
        answer('CreateEndpoint', () => ({})),
        answer('DeleteEndpoint', async () => {
          await linuxProcesses.run('ip', ['link', 'del', near]);
          return {};
        }),
        answer('Join', async () => {
          await ip('link', 'add', near, 'type', 'veth', 'peer', 'name', far);
          await ip('addr', 'add', '10.197.3.1/24', 'dev', near);
          await ip('link', 'set', near, 'up');
          return {
            InterfaceName: { SrcName: far, DstPrefix: 'wire' },
            Gateway: '10.197.3.1',
            StaticRoutes: [
              { Destination: '10.196.0.0/16', RouteType: 0, NextHop: '10.197.3.1' },
              { Destination: '10.195.0.0/16', RouteType: 1, NextHop: '' },
            ],
          };
        }),
        answer('ProgramExternalConnectivity', () => ({})),
        answer('RevokeExternalConnectivity', () => ({})),
        answer('Leave', async () => {
          // The link is back before the driver is told.
          await ip('link', 'show', far);
          return {};
        }),
      ]),
    );
    let next = 2;
    pools = await startTestPlugin(`${home}/plugins/pools.sock`, ['IpamDriver'], {
      'IpamDriver.GetCapabilities': () => ({ RequiresMACAddress: true }),
      'IpamDriver.GetDefaultAddressSpaces': () => ({ LocalDefaultAddressSpace: 'here' }),
      'IpamDriver.RequestPool': () => ({ PoolID: 'p1', Pool: '10.197.8.0/24', Data: {} }),
      'IpamDriver.RequestAddress': ({ Address, Options }) => {
        const isGateway = JSON.stringify(Options).includes('com.docker.network.gateway');
        if (isGateway) return { Address: '10.197.8.1/24' };
        return { Address: `${Address === '' ? `10.197.8.${next++}` : String(Address)}/24` };
      },
      'IpamDriver.ReleaseAddress': () => ({}),
      'IpamDriver.ReleasePool': () => ({}),
    });
    engine = await openTestEngine(home, instanceId);
  });

  after(async () => {
    await engine[Symbol.asyncDispose]();
    await wires[Symbol.asyncDispose]();
    await pools[Symbol.asyncDispose]();
    await linuxProcesses.run('ip', ['link', 'del', near]);
    await removeTestEngine(home, instanceId);
  });

  test('a container gets the link that the driver made, its routes and gateway, and all of it goes back', async () => {
    const addresses = [{ subnet: '10.197.3.0/24', gateway: '10.197.3.1' }];
    await engine.networks.create({ name: 'n1', driver: 'wires', options: { colour: 'red' }, addresses });
    const made = wires.calls.find(({ method }) => method.endsWith('CreateNetwork'))?.body;
    assert.deepEqual(made?.['IPv4Data'], [
      { AddressSpace: 'LocalDefault', Pool: '10.197.3.0/24', Gateway: '10.197.3.1/24' },
    ]);
    assert.deepEqual(fieldOf(made, 'Options', 'com.docker.network.generic'), { colour: 'red' });
    const id = await start('aa', 'n1');
    assert.equal(await sh(id, 'ping -c 1 -W 2 10.197.3.1 >/dev/null && echo yes'), 'yes');
    const routes = await sh(id, 'ip route');
    assert.match(routes, /default via 10\.197\.3\.1 dev wire0/);
    assert.match(routes, /10\.196\.0\.0\/16 via 10\.197\.3\.1/);
    assert.match(routes, /10\.195\.0\.0\/16 dev wire0/);
    const published = wires.calls.find(({ method }) => method.endsWith('ProgramExternalConnectivity'))?.body;
    assert.match(JSON.stringify(published?.['Options']), /"Proto":6,"IP":"10\.197\.3\.2","Port":80,.*"HostPort":18080/);
    await engine.containers.remove(id, { force: true });
    const last = ['Join', 'ProgramExternalConnectivity', 'RevokeExternalConnectivity', 'Leave', 'DeleteEndpoint'];
    assert.deepEqual(methodsOf(wires).slice(-last.length), last);
    await engine.networks.remove('n1');
    assert.equal(methodsOf(wires).at(-1), 'DeleteNetwork');
  });

  test('addresses are the IPAM driver’s on a bridge of the engine, also for a container that connects later', async () => {
    const network = await engine.networks.create({ name: 'n2', driver: 'bridge', ipamDriver: 'pools' });
    assert.deepEqual(network.blocks, [
      { subnet: '10.197.8.0/24', isAsked: false, poolId: 'p1', gateway: '10.197.8.1' },
    ]);
    const id = await engine.containers.create(specOf('bb', ['sleep', '1000'], {}));
    await engine.containers.start(id);
    const container = engine.table.get(id);
    await connectNetwork(engine.table, container, { network: 'n2', aliases: [], mac: '02:00:00:00:00:07' });
    assert.match(await sh(id, 'ip addr show eth1'), /10\.197\.8\.2\/24/);
    assert.match(JSON.stringify(pools.calls.at(-1)?.body), /endpoint\.macaddress":"02:00:00:00:00:07"/);
    await disconnectNetwork(engine.table, container, network.id);
    assert.deepEqual(pools.calls.at(-1)?.body, { PoolID: 'p1', Address: '10.197.8.2' });
    await engine.containers.remove(id, { force: true });
    await engine.networks.remove('n2');
    assert.deepEqual(methodsOf(pools).slice(-2), ['ReleaseAddress', 'ReleasePool']);
  });

  test('garbage, endless bytes and refusals are errors that name the plugin, and leave nothing behind', async () => {
    const addresses = [{ subnet: '10.197.3.0/24' }];
    await engine.networks.create({ name: 'n3', driver: 'wires', addresses });
    const failing: [string, Answer, RegExp][] = [
      ['Join', { InterfaceName: { SrcName: '../../x', DstPrefix: 'eth' } }, /plugin "wires" gave "\.\.\/\.\.\/x"/],
      ['Join', { Err: 'no more wire' }, /NetworkDriver\.Join: no more wire/],
      ['Join', { Gateway: 'fd00::1' }, /no address of its family/],
      ['CreateEndpoint', { Interface: { Address: '10.0.0.1/8' } }, /where the address was chosen already/],
      ['CreateEndpoint', (response) => void response.end('<html>'), /did not answer with JSON/],
      [
        'CreateEndpoint',
        (response) => {
          const more = (): void => {
            if (!response.destroyed) response.write(Buffer.alloc(1 << 20, 32), () => setImmediate(more));
          };
          more();
        },
        /its answer is too long/,
      ],
    ];
    for (const [method, wrong, words] of failing) {
      odd.set(method, wrong);
      await assert.rejects(start('cc', 'n3'), words);
      odd.delete(method);
      assert.ok(methodsOf(wires).at(-1) === 'DeleteEndpoint', method);
      await engine.containers.remove(engine.table.get('cc').id, { force: true });
    }
    odd.set('DeleteNetwork', { Err: 'in use elsewhere' });
    await assert.rejects(engine.networks.remove('n3'), /in use elsewhere/);
    odd.delete('DeleteNetwork');
    await engine.networks.remove('n3');
    await assert.rejects(
      engine.networks.create({ name: 'n4', driver: 'nobody' }),
      /could not find plugin nobody in v1/,
    );
    await assert.rejects(
      engine.networks.create({ name: 'n4', driver: 'bridge', ipamDriver: 'wires' }),
      /does not implement the requested driver/,
    );
  });

  test('an engine that starts again has the network and its container, and can take both away', async () => {
    await engine.networks.create({ name: 'n5', driver: 'wires', addresses: [{ subnet: '10.197.3.0/24' }] });
    const id = await start('dd', 'n5');
    await engine[Symbol.asyncDispose]();
    engine = await openTestEngine(home, instanceId);
    assert.equal(await sh(id, 'ping -c 1 -W 2 10.197.3.1 >/dev/null && echo yes'), 'yes');
    await engine.containers.remove(id, { force: true });
    assert.equal(methodsOf(wires).at(-1), 'DeleteEndpoint');
    await engine.networks.remove('n5');
  });
});
