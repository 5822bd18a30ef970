/** Networks on a link of the host, with a wire that the test makes: macvlan on the real kernel, ipvlan where it is. */
import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { messageOf } from '#base/thrown.ts';
import { linkPrefix } from '#net/kernel-names.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import type { DockerEngine } from './create-engine.ts';
import type { ContainerSpec } from './engine.ts';
import { connectNetwork, disconnectNetwork } from './network-connect.ts';
import { execText, makeImage, newInstanceId, openTestEngine, removeTestEngine, specOf } from './testing.ts';

const isRoot = process.getuid?.() === 0;
const instanceId = newInstanceId();
const outside = `tiphys-mac-${instanceId}`;
const parent = `m${instanceId}`;

const skip = !isRoot ? 'needs root' : linuxProcesses.find('ip') === undefined && 'needs iproute2';

describe('networks on a link of the host', { skip }, () => {
  const home = mkdtempSync('/tmp/tiphys-macvlan-');
  let engine: DockerEngine;

  const ip = async (...args: string[]): Promise<void> => {
    const done = await linuxProcesses.run('ip', args);
    assert.equal(done.code, 0, `ip ${args.join(' ')}: ${done.stderr}`);
  };
  const start = async (name: string, network: string, more: Partial<ContainerSpec> = {}): Promise<string> => {
    const networks = [{ network, aliases: [] }];
    const id = await engine.containers.create(specOf(name, ['sleep', '1000'], { networks, ...more }));
    await engine.containers.start(id);
    return id;
  };
  const sh = async (id: string, script: string): Promise<string> =>
    (await execText(engine, id, ['sh', '-c', script])).text.trim();
  const reaches = async (id: string, target: string): Promise<boolean> =>
    (await sh(id, `ping -c 1 -W 1 ${target} >/dev/null 2>&1 && echo yes`)) === 'yes';
  /** Those of this instance: others come and go beside it. */
  const links = async (): Promise<string[]> =>
    (await engine.netlink.listLinks())
      .map(({ name }) => name)
      .filter((name) => name.startsWith(linkPrefix(instanceId)));
  let subnets = 0;
  /** A network of each test's own, with its gateway on the other end of the wire. */
  const create = async (name: string, options: Record<string, string>, driver = 'macvlan'): Promise<string> => {
    const subnet = `10.198.${subnets++}`;
    await ip('-n', outside, 'addr', 'add', `${subnet}.1/24`, 'dev', 'wire');
    await engine.networks.create({ name, driver, options, addresses: [{ subnet: `${subnet}.0/24` }] });
    return `${subnet}.1`;
  };

  before(async () => {
    makeImage(home, ['sh', 'sleep', 'echo', 'ip', 'ping', 'cat']);
    engine = await openTestEngine(home, instanceId);
    await ip('netns', 'add', outside);
    await ip('link', 'add', parent, 'type', 'veth', 'peer', 'name', 'wire', 'netns', outside);
    await ip('link', 'set', parent, 'up');
    await ip('-n', outside, 'link', 'set', 'wire', 'up');
  });

  after(async () => {
    await engine[Symbol.asyncDispose]();
    await removeTestEngine(home, instanceId);
    await linuxProcesses.run('ip', ['link', 'del', parent]);
    await linuxProcesses.run('ip', ['netns', 'del', outside]);
  });

  test('containers are on the wire with addresses of their own, of both families, and know each other by name', async () => {
    await ip('-n', outside, 'addr', 'add', '10.198.200.1/24', 'dev', 'wire');
    await ip('-n', outside, 'addr', 'add', 'fd00:198::1/64', 'dev', 'wire', 'nodad');
    await engine.networks.create({
      name: 'wire',
      driver: 'macvlan',
      enableIpv6: true,
      options: { parent },
      addresses: [{ subnet: '10.198.200.0/24' }, { subnet: '10.198.201.0/24' }, { subnet: 'fd00:198::/64' }],
    });
    const ports = [{ hostIp: '', hostPort: 0, protocol: 'tcp' as const, containerPort: 80 }];
    const [a] = [await start('wire-a', 'wire', { ports }), await start('wire-b', 'wire')];
    assert.deepEqual(engine.table.get(a).record.run?.ports, []);
    for (const target of ['10.198.200.1', 'fd00:198::1', 'wire-b']) assert.ok(await reaches(a, target), target);
    assert.match(await sh(a, 'ip route; ip -6 route'), /default via 10\.198\.200\.1[^]*default via fd00:198::1/);
    await engine.containers.remove(a, { force: true });
    await assert.rejects(engine.networks.remove('wire'), /has active endpoints/);
  });

  test('modes keep containers together or apart', async () => {
    for (const [mode, together] of [
      ['bridge', true],
      ['private', false],
      ['vepa', false],
    ] as const) {
      const network = `mode-${mode}`;
      const gateway = await create(network, { parent, macvlan_mode: mode });
      const [a, b] = [await start(`${mode}-a`, network), await start(`${mode}-b`, network)];
      assert.ok(await reaches(a, gateway), `${mode}: the wire`);
      assert.equal(await reaches(a, engine.table.get(b).record.run?.endpoints[0]?.ip ?? ''), together, mode);
    }
    await assert.rejects(create('whole', { parent, macvlan_mode: 'passthru' }), /cannot use mode passthru, macvlan/);
  });

  test('one network has a link for itself in mode passthru', async () => {
    await ip('link', 'add', `${parent}p`, 'type', 'veth', 'peer', 'name', 'wire2', 'netns', outside);
    await ip('link', 'set', `${parent}p`, 'up');
    try {
      await create('passing', { parent: `${parent}p`, macvlan_mode: 'passthru' });
      await assert.rejects(create('second', { parent: `${parent}p` }), /is already using parent interface .* passthru/);
      const id = await start('passing-a', 'passing');
      assert.match(
        await sh(id, 'ip link show eth0'),
        new RegExp(engine.table.get(id).record.run?.endpoints[0]?.mac ?? ''),
      );
      await assert.rejects(
        start('passing-b', 'passing'),
        /failed to create the macvlan port: (invalid argument|device)/,
      );
      await engine.containers.remove(id, { force: true });
    } finally {
      await ip('link', 'del', `${parent}p`);
    }
  });

  test('without a parent they reach each other alone, and nothing of it stays', async () => {
    const before = await links();
    await engine.networks.create({ name: 'lone', driver: 'macvlan' });
    const [a, b] = [await start('lone-a', 'lone'), await start('lone-b', 'lone')];
    assert.ok(await reaches(a, 'lone-b'));
    assert.doesNotMatch(await sh(a, 'ip route'), /default/);
    await engine[Symbol.asyncDispose]();
    engine = await openTestEngine(home, instanceId);
    assert.ok(await reaches(a, 'lone-b'), 'with the next engine');
    await Promise.all([a, b].map((id) => engine.containers.remove(id, { force: true })));
    await engine.networks.remove('lone');
    assert.deepEqual((await links()).toSorted(), before.toSorted());
  });

  test('a container comes and goes while it runs, and the address is free again', async () => {
    const gateway = await create('late', { parent });
    const id = await start('late-a', 'bridge');
    const container = engine.table.get(id);
    await connectNetwork(engine.table, container, { network: 'late', aliases: [], gatewayPriority: 1 });
    const { ip: address } = container.record.run?.endpoints[1] ?? {};
    assert.match(await sh(id, 'ip route'), new RegExp(`default via ${gateway} dev eth1`));
    await disconnectNetwork(engine.table, container, 'late');
    assert.match(await sh(id, 'ip route; ip link'), /default via .* dev eth0/);
    assert.doesNotMatch(await sh(id, 'ip link'), /eth1/);
    assert.equal(engine.table.get(await start('late-b', 'late')).record.run?.endpoints[0]?.ip, address);
  });

  test('what is wrong is said, and leaves nothing', async () => {
    const before = await links();
    const bad: [string, Record<string, string>, RegExp][] = [
      ['macvlan', { parent: 'lo' }, /loopback interface is not a valid macvlan parent link/],
      ['macvlan', { parent, macvlan_mode: 'x' }, /requested macvlan mode 'x' is not valid/],
      ['macvlan', { parent: 'absent0' }, /invalid subinterface vlan name absent0, example formatting is eth0\.10/],
      ['macvlan', { parent: 'absent0.5' }, /-o parent interface was not found on the host: absent0/],
      ['macvlan', { parent: `${parent}.5000` }, /vlan id must be between 1-4094, received: 5000/],
      ['macvlan', { parent: `${parent}.x` }, /unable to parse a valid vlan id from: x/],
      ['macvlan', { parent: `${parent}.1.2` }, /required interface name format is: name\.vlan_id/],
      ['ipvlan', { ipvlan_mode: 'l4' }, /requested ipvlan mode 'l4' is not valid/],
      ['ipvlan', { ipvlan_flag: 'x' }, /requested ipvlan flag 'x' is not valid/],
    ];
    for (const [driver, options, message] of bad)
      await assert.rejects(engine.networks.create({ name: 'wrong', driver, options }), message);
    await assert.rejects(
      engine.networks.create({ name: 'wrong', driver: 'macvlan', ipamDriver: 'null' }),
      /pool is empty/,
    );
    assert.deepEqual((await links()).toSorted(), before.toSorted());
  });

  test('a VLAN of a link is made and goes, or the kernel says that it has none', async () => {
    const name = `${parent}.10`;
    try {
      await engine.networks.create({ name: 'vlan', driver: 'macvlan', options: { parent: name } });
    } catch (error) {
      assert.match(messageOf(error), /vlan link: operation not supported/);
      return;
    }
    assert.ok((await links()).includes(name));
    await engine.networks.remove('vlan');
    assert.ok(!(await links()).includes(name));
  });

  test('ipvlan in each mode, or the kernel says that it has none', async (context) => {
    for (const [index, mode] of ['l2', 'l3', 'l3s'].entries()) {
      const wire = `${parent}i${index}`;
      await ip('link', 'add', wire, 'type', 'veth', 'peer', 'name', `i${index}`, 'netns', outside);
      await ip('link', 'set', wire, 'up');
      context.after(() => linuxProcesses.run('ip', ['link', 'del', wire]));
      await create(`ip-${mode}`, { parent: wire, ipvlan_mode: mode }, 'ipvlan');
      await assert.rejects(create(`again-${mode}`, { parent: wire }, 'ipvlan'), /is already using parent interface/);
      try {
        const id = await start(`ip-${mode}-a`, `ip-${mode}`);
        assert.match(await sh(id, 'ip route'), mode === 'l2' ? /default via/ : /default dev eth0/);
        assert.ok(
          await reaches(
            id,
            engine.table.get(await start(`ip-${mode}-b`, `ip-${mode}`)).record.run?.endpoints[0]?.ip ?? '',
          ),
        );
      } catch (error) {
        assert.match(messageOf(error), /failed to create the ipvlan port: operation not supported/);
      }
    }
  });
});
