/** A container's place on its networks, and what options of bridges do, on the real kernel. */
import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { linuxProcesses } from '#os/processes.linux.ts';
import type { RunRecord } from './container-record.ts';
import type { DockerEngine } from './create-engine.ts';
import type { ContainerSpec, NetworkAttachment } from './engine.ts';
import { connectNetwork, disconnectNetwork } from './network-connect.ts';
import { execText, makeImage, newInstanceId, openTestEngine, removeTestEngine, specOf } from './testing.ts';

const isRoot = process.getuid?.() === 0;
const instanceId = newInstanceId();
const driver = 'com.docker.network.bridge.';
const outside = `tiphys-end-${instanceId}`;

const skip = !isRoot ? 'needs root' : linuxProcesses.find('ip') === undefined && 'needs iproute2';

describe('endpoints and options of bridges', { skip }, () => {
  const home = mkdtempSync('/tmp/tiphys-endpoints-');
  const wire = `e${instanceId}`;
  let engine: DockerEngine;

  const start = async (name: string, networks: (string | NetworkAttachment)[], more: Partial<ContainerSpec> = {}) => {
    const attachments = networks.map((one) => (typeof one === 'string' ? { network: one, aliases: [] } : one));
    const id = await engine.containers.create(specOf(name, ['sleep', '1000'], { networks: attachments, ...more }));
    await engine.containers.start(id);
    return id;
  };
  const sh = async (id: string, script: string): Promise<string> =>
    (await execText(engine, id, ['sh', '-c', script])).text.trim();
  const runOf = (id: string): RunRecord => {
    const { run } = engine.table.get(id).record;
    assert.ok(run);
    return run;
  };
  const ipOf = (id: string): string => runOf(id).endpoints[0]?.ip ?? '';
  const reaches = async (id: string, target: string): Promise<boolean> =>
    (await sh(id, `ping -c 1 -W 1 ${target} >/dev/null 2>&1 && echo yes`)) === 'yes';
  const ip = async (...args: string[]): Promise<void> => {
    const done = await linuxProcesses.run('ip', args);
    assert.equal(done.code, 0, `ip ${args.join(' ')}: ${done.stderr}`);
  };
  /** What somebody elsewhere hears at a port of an address. */
  const outsideHears = async (address: string, port: number): Promise<string> => {
    const script = `timeout 2 busybox nc ${address} ${port} </dev/null`;
    return (await linuxProcesses.run('ip', ['netns', 'exec', outside, 'sh', '-c', script])).stdout.trim();
  };
  const serve = async (id: string, port: number): Promise<void> => {
    void sh(id, `while true; do echo inside | nc -l -p ${port}; done`);
    const local = `:${port.toString(16).toUpperCase().padStart(4, '0')} .* 0A `;
    const wait = `i=0; until grep -q '${local}' /proc/net/tcp /proc/net/tcp6 || [ $i -gt 200 ]; do i=$((i+1)); sleep 0.02; done`;
    await sh(id, wait);
  };

  before(async () => {
    makeImage(home, ['sh', 'sleep', 'echo', 'ip', 'ping', 'nc', 'cat', 'grep', 'timeout', '[', 'env']);
    engine = await openTestEngine(home, instanceId);
    await ip('netns', 'add', outside);
    await ip('link', 'add', wire, 'type', 'veth', 'peer', 'name', 'out', 'netns', outside);
    await ip('addr', 'add', '10.199.250.1/24', 'dev', wire);
    await ip('link', 'set', wire, 'up');
    await ip('-n', outside, 'addr', 'add', '10.199.250.2/24', 'dev', 'out');
    await ip('-n', outside, 'link', 'set', 'out', 'up');
    await ip('-n', outside, 'route', 'add', 'default', 'via', '10.199.250.1');
    await engine.networks.create({ name: 'aa', addresses: [{ subnet: '10.199.1.0/24' }] });
    await engine.networks.create({ name: 'bb', addresses: [{ subnet: '10.199.2.0/24' }] });
    await engine.networks.create({ name: 'cc', addresses: [{ subnet: '10.199.3.0/24' }] });
  });

  after(async () => {
    await engine[Symbol.asyncDispose]();
    await removeTestEngine(home, instanceId);
    await linuxProcesses.run('ip', ['link', 'del', wire]);
    await linuxProcesses.run('ip', ['netns', 'del', outside]);
  });

  test('an endpoint has the name, the addresses, the MAC address and the settings that were asked for', async () => {
    const id = await start('asked', [
      {
        network: 'aa',
        aliases: ['other'],
        ip: '10.199.1.77',
        mac: '02:42:00:00:00:99',
        linkLocalIps: ['169.254.7.7', 'fe80::77'],
        options: {
          'com.docker.network.endpoint.ifname': 'foo0',
          'com.docker.network.endpoint.sysctls':
            'net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.ifname.forwarding=0',
        },
      },
      'bb',
    ]);
    const shown = await sh(id, 'ip addr show foo0; cat /proc/sys/net/ipv4/conf/foo0/log_martians; ip addr show eth0');
    for (const part of ['02:42:00:00:00:99', '10.199.1.77/24', '169.254.7.7/16', 'fe80::77/64', '10.199.2.2/24'])
      assert.ok(shown.includes(part), `${part} in ${shown}`);
    assert.match(shown, /\n1\n/);
    const twice = { options: { 'com.docker.network.endpoint.ifname': 'x0' } };
    await assert.rejects(
      start('twice', [
        { network: 'aa', aliases: [], ...twice },
        { network: 'bb', aliases: [], ...twice },
      ]),
      /error renaming interface to "x0": file exists/,
    );
    const next = await start('next', ['aa', 'bb']);
    assert.equal(ipOf(next), '10.199.1.2', 'what was taken for a start that failed is free again');
  });

  test('the way out is by priority, then by name; an internal network is none', async () => {
    await engine.networks.create({ name: 'a-inner', internal: true });
    const way = async (id: string): Promise<string> => /default via (\S+)/.exec(await sh(id, 'ip route'))?.[1] ?? '';
    assert.equal(await way(await start('by-name', ['cc', 'a-inner', 'bb'])), '10.199.2.1');
    const prior = { network: 'cc', aliases: [], gatewayPriority: 1 };
    const id = await start('by-priority', ['bb', prior]);
    assert.equal(await way(id), '10.199.3.1');
    const container = engine.table.get(id);
    await disconnectNetwork(engine.table, container, 'cc');
    assert.equal(await way(id), '10.199.2.1');
    await connectNetwork(engine.table, container, { network: 'aa', aliases: [] });
    assert.equal(await way(id), '10.199.1.1');
  });

  test('connections go on while other networks come and go', async () => {
    const id = await start('busy', ['bb']);
    const container = engine.table.get(id);
    const peers: Socket[] = [];
    const server = createServer((socket) => peers.push(socket));
    await new Promise<void>((done) => {
      server.listen(0, '10.199.2.1', done);
    });
    try {
      const address = server.address();
      assert.ok(typeof address === 'object' && address !== null);
      void sh(id, `while true; do echo tick; sleep 0.05; done | nc 10.199.2.1 ${address.port}`);
      const heard = async (): Promise<number> => {
        let count = 0;
        for (let tries = 0; tries < 100 && count < 3; tries++) {
          await new Promise((done) => setTimeout(done, 50));
          for (const peer of peers) if (peer.read() !== null) count++;
        }
        return count;
      };
      assert.equal(await heard(), 3);
      for (let round = 0; round < 3; round++) {
        await connectNetwork(engine.table, container, { network: 'aa', aliases: [], gatewayPriority: 9 });
        assert.equal(await heard(), 3);
        await disconnectNetwork(engine.table, container, 'aa');
        assert.equal(await heard(), 3);
      }
      assert.equal(peers.length, 1);
    } finally {
      for (const peer of peers) peer.destroy();
      server.close();
    }
  });

  test('who has the network of the host, of another or none takes no further one', async () => {
    const [host, none] = [
      await start('of-host', [], { network: { type: 'host' } }),
      await start('of-none', [], { network: { type: 'none' } }),
    ];
    const joined = await start('of-other', [], { network: { type: 'container', containerId: none } });
    const join = (id: string, network: string): Promise<void> =>
      connectNetwork(engine.table, engine.table.get(id), { network, aliases: [] });
    await assert.rejects(join(host, 'aa'), /container sharing network namespace with another container or host/);
    await assert.rejects(join(joined, 'aa'), /container sharing network namespace with another container or host/);
    await assert.rejects(join(none, 'aa'), /one of the networks in private \(none\) mode/);
    const own = await start('of-own', ['aa']);
    await assert.rejects(join(own, 'host'), /cannot connect container to host network/);
    await assert.rejects(join(own, 'none'), /one of the networks in private \(none\) mode/);
    await assert.rejects(join(own, 'aa'), /endpoint with name of-own already exists in network aa/);
    await assert.rejects(
      disconnectNetwork(engine.table, engine.table.get(own), 'bb'),
      /is not connected to network bb/,
    );
    const rejected = disconnectNetwork(engine.table, engine.table.get(host), 'host');
    await assert.rejects(rejected, /cannot disconnect container from host network/);
  });

  test('gateway modes: published ports only, every port, or the published ones at the own address', async () => {
    const open: Record<string, [boolean, boolean]> = {
      nat: [false, false],
      'nat-unprotected': [true, true],
      routed: [true, false],
    };
    for (const [mode, [published, other]] of Object.entries(open)) {
      const network = `mode-${mode}`;
      await engine.networks.create({ name: network, options: { [`${driver}gateway_mode_ipv4`]: mode } });
      const ports = [{ hostIp: '', hostPort: 0, protocol: 'tcp' as const, containerPort: 80 }];
      const id = await start(network, [network], { ports });
      await Promise.all([serve(id, 80), serve(id, 81)]);
      assert.equal((await outsideHears(ipOf(id), 80)) === 'inside', published, `${mode}: the published port`);
      assert.equal((await outsideHears(ipOf(id), 81)) === 'inside', other, `${mode}: another`);
      const onHost = runOf(id).ports.filter((port) => port.hostPort > 0);
      assert.equal(onHost.length > 0, mode !== 'routed', mode);
    }
    await assert.rejects(
      engine.networks.create({ name: 'iso', options: { [`${driver}gateway_mode_ipv4`]: 'isolated' } }),
      /'isolated' can only be used for an internal network/,
    );
    const isolated = { [`${driver}gateway_mode_ipv4`]: 'isolated' };
    const network = await engine.networks.create({ name: 'iso', internal: true, options: isolated });
    const addresses = await engine.netlink.listAddresses();
    const link = (await engine.netlink.listLinks()).find(({ name }) => name === network.link);
    assert.ok(addresses.every((address) => address.linkIndex !== link?.index));
    const [a, b] = [await start('iso-a', ['iso']), await start('iso-b', ['iso'])];
    assert.ok(await reaches(a, ipOf(b)));
  });

  test('from a trusted link published ports are reached at the own address, and from no other', async () => {
    const ports = [{ hostIp: '', hostPort: 0, protocol: 'tcp' as const, containerPort: 80 }];
    for (const trusted of [wire, 'absent0']) {
      const network = `trust-${trusted}`;
      const options = { [`${driver}trusted_host_interfaces`]: `lo:${trusted}` };
      await engine.networks.create({ name: network, options });
      const id = await start(network, [network], { ports });
      await Promise.all([serve(id, 80), serve(id, 81)]);
      assert.equal(await outsideHears(ipOf(id), 80), trusted === wire ? 'inside' : '', trusted);
      assert.equal(await outsideHears(ipOf(id), 81), '');
    }
  });

  test('packets leave with the address of the host that is named, or with their own', async () => {
    await ip('addr', 'add', '10.199.250.9/24', 'dev', wire);
    const from = async (name: string, port: number, options: Record<string, string>): Promise<string> => {
      await engine.networks.create({ name, options });
      const id = await start(name, [name]);
      const script = [
        `busybox nc -l -p ${port} >/dev/null &`,
        `for i in $(busybox seq 1 80); do busybox netstat -tn | busybox grep ':${port} ' && break; sleep 0.1; done`,
        'kill %1',
      ];
      const capture = linuxProcesses.run('ip', ['netns', 'exec', outside, 'sh', '-c', script.join('\n')]);
      const send = `(sleep 1 | timeout 2 nc 10.199.250.2 ${port}) 2>/dev/null && break; sleep 0.2`;
      await sh(id, `for i in 1 2 3 4 5 6 7 8 9; do ${send}; done`);
      return new RegExp(`:${port}\\s+(?:::ffff:)?([\\d.]+):`).exec((await capture).stdout)?.[1] ?? '';
    };
    assert.equal(await from('source', 7000, { 'com.docker.network.host_ipv4': '10.199.250.9' }), '10.199.250.9');
    assert.equal(await from('masked', 7001, {}), '10.199.250.1');
    assert.match(await from('plain', 7002, { [`${driver}enable_ip_masquerade`]: 'false' }), /^1(72|92)\./);
  });

  test('links, MTU and neighbours are as the options say', async () => {
    await engine.networks.create({
      name: 'tuned',
      options: {
        [`${driver}enable_icc`]: 'false',
        [`${driver}host_binding_ipv4`]: '127.0.0.1',
        'com.docker.network.driver.mtu': '1234',
        'com.docker.network.container_iface_prefix': 'net',
      },
    });
    const ports = [{ hostIp: '', hostPort: 0, protocol: 'tcp' as const, containerPort: 80 }];
    const [a, b] = [await start('tuned-a', ['tuned', 'aa'], { ports }), await start('tuned-b', ['tuned'])];
    assert.match(await sh(a, 'ip link'), /net0@.* mtu 1234 [^]*eth0@.* mtu 1500/);
    assert.equal(await reaches(b, runOf(a).endpoints[0]?.ip ?? ''), false);
    const c = await start('tuned-c', ['tuned'], { ports });
    assert.deepEqual(
      runOf(c).ports.map(({ hostIp }) => hostIp),
      ['127.0.0.1'],
    );
  });

  test('a legacy link gives names and variables', async () => {
    const target = await start('db-server', ['bridge'], {
      env: ['SECRET=x'],
      request: { ExposedPorts: { '5432/tcp': {} } },
    });
    const id = await start('linked', ['bridge'], { links: ['db-server:db'] });
    assert.match(await sh(id, 'cat /etc/hosts'), new RegExp(`${ipOf(target)}\tdb ${target.slice(0, 12)} db-server`));
    const environment = await sh(id, 'env');
    for (const line of [`DB_PORT=tcp://${ipOf(target)}:5432`, 'DB_ENV_SECRET=x', 'DB_NAME=/linked/db'])
      assert.ok(environment.includes(line), line);
    await assert.rejects(start('unlinked', ['bridge'], { links: ['nobody:x'] }), /No such container|nobody/);
  });

  test('a published port is answered while the engine is told of further networks a hundred times', async () => {
    const ports = [{ hostIp: '127.0.0.1', hostPort: 0, protocol: 'tcp' as const, containerPort: 80 }];
    const id = await start('steady', ['bb'], { ports });
    void sh(id, 'while true; do echo inside | nc -l -p 80; done');
    const port = runOf(id).ports[0]?.hostPort ?? 0;
    const container = engine.table.get(id);
    for (let round = 0; round < 20; round++) {
      await connectNetwork(engine.table, container, { network: 'cc', aliases: [] });
      await disconnectNetwork(engine.table, container, 'cc');
    }
    const answer = await new Promise<string>((resolve) => {
      const attempt = (left: number): void => {
        const socket = connect(port, '127.0.0.1');
        let text = '';
        socket.on('data', (part) => (text += part.toString()));
        socket.on('error', () => {});
        socket.on('close', () => (text === '' && left > 0 ? setTimeout(attempt, 50, left - 1) : resolve(text.trim())));
      };
      attempt(100);
    });
    assert.equal(answer, 'inside');
    assert.equal(runOf(id).endpoints.length, 1);
  });
});
