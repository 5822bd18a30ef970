/** Names of containers, asked from inside of them. */
import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { addressAt, subnetOf } from '#base/ip.ts';
import type { DockerEngine } from './create-engine.ts';
import type { ContainerSpec } from './engine.ts';
import { connectNetwork, disconnectNetwork } from './network-connect.ts';
import { execText, makeImage, newInstanceId, openTestEngine, removeTestEngine, specOf } from './testing.ts';

const isRoot = process.getuid?.() === 0;
const instanceId = newInstanceId();

describe('the resolver inside containers', { skip: !isRoot && 'needs root' }, () => {
  const home = mkdtempSync('/tmp/tiphys-names-');
  let engine: DockerEngine;
  let web = '';
  let asker = '';

  const start = async (name: string, networks: string[], more: Partial<ContainerSpec> = {}): Promise<string> => {
    const asked = networks.map((network) => ({ network, aliases: name === 'web' ? ['www'] : [] }));
    const id = await engine.containers.create(
      specOf(name, ['sleep', '1000'], { ...(networks.length === 0 ? {} : { networks: asked }), ...more }),
    );
    await engine.containers.start(id);
    return id;
  };
  const sh = async (id: string, script: string): Promise<string> =>
    (await execText(engine, id, ['sh', '-c', script])).text;
  const lookUp = async (id: string, name: string): Promise<string> => {
    const text = await sh(id, `nslookup -type=a ${name}`);
    return (
      text
        .split('\n')
        .filter((line) => line.startsWith('Address'))
        .slice(1)
        .map((line) => line.replace(/^Address.*: */, ''))
        .join() ||
      /NXDOMAIN|SERVFAIL|REFUSED|refused|no servers/.exec(text)?.[0] ||
      text
    );
  };
  const ipOf = (id: string): string => engine.table.get(id).record.run!.endpoints[0]!.ip!;

  before(async () => {
    makeImage(home, ['sh', 'sleep', 'echo', 'true', 'nslookup', 'cat', 'nc', 'hostname', 'timeout']);
    engine = await openTestEngine(home, instanceId);
    await engine.networks.create({ name: 'front' });
    await engine.networks.create({ name: 'inner', internal: true });
    web = await start('web', ['front'], { hostname: 'webhost' });
    asker = await start('asker', ['front']);
  });

  after(async () => {
    await engine[Symbol.asyncDispose]();
    await removeTestEngine(home, instanceId);
  });

  test('an address that is asked for is one of IPv4, of the network, and free', async () => {
    const subnet = subnetOf(
      (await engine.networks.create({ name: 'asked', addresses: [{ subnet: '10.197.7.0/24' }] })).blocks[0]!.subnet,
    );
    const id = await start('asked', []);
    const connect = (ip: string): Promise<void> =>
      connectNetwork(engine.table, engine.table.get(id), { network: 'asked', aliases: [], ip });
    for (const bad of ['x', '10.0.0.07', 'fd00::1', '10.0.0'])
      await assert.rejects(connect(bad), new RegExp(`invalid endpoint settings:\n\\* invalid IPv4 address: ${bad}\n`));
    await assert.rejects(connect('192.0.2.1'), /no configured subnet or ip-range contain the IP address 192\.0\.2\.1/);
    await assert.rejects(connect(addressAt(subnet, 1)), /Address already in use/);
    await connect(addressAt(subnet, 7));
    assert.equal(engine.table.get(id).record.run!.endpoints.at(-1)!.ip, addressAt(subnet, 7));
  });

  test('it is at 127.0.0.11, also where the container names resolvers', async () => {
    const own = await start('own-dns', ['front'], {
      dns: { servers: ['192.0.2.1'], search: [], options: ['timeout:1'] },
    });
    assert.match(await sh(asker, 'cat /etc/resolv.conf'), /^nameserver 127\.0\.0\.11\n[^]*ndots:0/);
    assert.match(await sh(own, 'cat /etc/resolv.conf'), /^nameserver 127\.0\.0\.11\n[^]*timeout:1/);
    assert.equal(await lookUp(own, 'web'), ipOf(web));
  });

  test('a container is known by its name, alias, short id and hostname, each with the name of the network too', async () => {
    for (const name of ['web', 'www', web.slice(0, 12), 'webhost', 'WEB', 'web.front', 'webhost.front'])
      assert.equal(await lookUp(asker, name), ipOf(web), name);
    assert.notEqual(await lookUp(asker, 'web.inner'), ipOf(web));
    assert.match(await sh(asker, `nslookup ${ipOf(web)}`), /name = web\.front/);
  });

  test('on the default bridge containers do not know each other', async () => {
    const plain = await start('plain', []);
    assert.doesNotMatch(await sh(plain, 'cat /etc/resolv.conf'), /127\.0\.0\.11/);
    assert.notEqual(await lookUp(asker, 'plain'), ipOf(plain));
  });

  test('one that is connected and disconnected later is told so', async () => {
    const late = await start('late', []);
    await connectNetwork(engine.table, engine.table.get(late), { network: 'front', aliases: [] });
    assert.equal(await lookUp(late, 'web'), ipOf(web));
    await disconnectNetwork(engine.table, engine.table.get(late), 'front');
    assert.doesNotMatch(await sh(late, 'cat /etc/resolv.conf'), /127\.0\.0\.11/);
    assert.notEqual(await lookUp(asker, 'late'), ipOf(late));
  });

  test('from internal networks alone no question leaves', async () => {
    const locked = await start('locked', ['inner']);
    assert.equal(await lookUp(locked, 'locked.inner'), ipOf(locked));
    assert.equal(await lookUp(locked, 'example.org'), 'SERVFAIL');
  });

  test("port 53 is the container's own to serve", async () => {
    assert.match(await sh(asker, 'timeout 1 nc -l -p 53; echo ended $?'), /ended (124|143)/);
    assert.equal(await lookUp(asker, 'web'), ipOf(web));
  });

  test("one that shares another's network has its names and files", async () => {
    const sidecar = await start('sidecar', [], { network: { type: 'container', containerId: web } });
    assert.equal(await lookUp(sidecar, 'asker'), ipOf(asker));
    assert.equal(await sh(sidecar, 'cat /etc/hostname; hostname'), 'webhost\nwebhost\n');
    assert.equal(await sh(sidecar, 'cat /etc/hosts'), await sh(web, 'cat /etc/hosts'));
  });

  test("one that shares another's network loses it with the other, whose address is free again", async () => {
    const owner = await start('owner', ['front']);
    const ip = ipOf(owner);
    const sidecar = await start('left-alone', [], { network: { type: 'container', containerId: owner } });
    await engine.containers.remove(owner, { force: true });
    assert.doesNotMatch(await sh(sidecar, 'cat /proc/net/dev'), /eth0/);
    assert.equal(ipOf(await start('heir', ['front'])), ip);
  });

  test('a new engine answers again in the containers that went on', async () => {
    await engine[Symbol.asyncDispose]();
    engine = await openTestEngine(home, instanceId);
    assert.equal(await lookUp(asker, 'webhost'), ipOf(web));
    await engine.containers.restart(web, 0);
    assert.equal(await lookUp(asker, 'web'), ipOf(web));
    assert.equal(await lookUp(web, 'asker'), ipOf(asker));
  });
});
