/** Networks with addresses of version 6, on the real kernel: inside, across, out, in, and what goes with them. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { linuxProcesses } from '#os/processes.linux.ts';
import type { RunRecord } from './container-record.ts';
import type { DockerEngine } from './create-engine.ts';
import type { ContainerSpec, PortBinding } from './engine.ts';
import { connectNetwork, disconnectNetwork } from './network-connect.ts';
import { execText, makeImage, newInstanceId, openTestEngine, removeTestEngine, specOf } from './testing.ts';

const isRoot = process.getuid?.() === 0;
const instanceId = newInstanceId();
/** The same as a group of an address, which is written without zeros before it. */
const group = Number.parseInt(instanceId, 16).toString(16);
const outside = `tiphys-v6-${instanceId}`;

/** What the host is told by whoever listens there; empty when nobody does. */
function ask(host: string, port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, host);
    let heard = '';
    socket.setTimeout(5_000, () => socket.destroy());
    socket.on('data', (chunk) => (heard += chunk.toString()));
    socket.on('error', () => {});
    socket.on('close', () => resolve(heard.trim()));
  });
}

function askUdp(host: string, port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
    const finish = (text: string): void => {
      clearTimeout(timer);
      socket.close();
      resolve(text);
    };
    const timer = setTimeout(() => finish(''), 5_000);
    socket.send('ask\n', port, host);
    socket.on('message', (message) => finish(message.toString().trim()));
    socket.on('error', () => {});
  });
}

const skip = !isRoot ? 'needs root' : linuxProcesses.find('ip') === undefined && 'needs iproute2';

describe('networks with IPv6', { skip }, () => {
  const home = mkdtempSync('/tmp/tiphys-ipv6-');
  const children: ChildProcess[] = [];
  let engine: DockerEngine;

  /** A program in a network namespace, for as long as the test goes on; resolves when it has said something. */
  const inNamespace = (path: string, script: string): Promise<unknown> => {
    const args = [`--net=${path}`, process.execPath, '-e', script];
    const child = spawn('nsenter', args, { stdio: ['ignore', 'pipe', 'inherit'] });
    children.push(child);
    return once(child.stdout, 'data');
  };

  const start = async (name: string, networks: string[], more: Partial<ContainerSpec> = {}): Promise<string> => {
    const attachments = networks.map((network) => ({ network, aliases: [] }));
    const id = await engine.containers.create(
      specOf(name, ['sleep', '1000'], { networks: attachments, hostname: name, ...more }),
    );
    await engine.containers.start(id);
    // With ports to serve: everybody who comes is told the name.
    if (more.ports !== undefined)
      await inNamespace(
        namespaceOf(id),
        `require('net').createServer((socket) => socket.on('error', () => {}).end('${name}')).listen(80, () => console.log())`,
      );
    return id;
  };
  const sh = async (id: string, script: string): Promise<string> =>
    (await execText(engine, id, ['sh', '-c', script])).text.trim();
  const runOf = (id: string): RunRecord => {
    const { run } = engine.table.get(id).record;
    assert.ok(run);
    return run;
  };
  const namespaceOf = (id: string): string => runOf(id).networkNamespace ?? '';
  /** Of version 4 and 6; empty where there is none. */
  const addressesOf = (id: string, at = 0): { v4: string; v6: string } => {
    const { ip = '', ip6 = '' } = runOf(id).endpoints[at] ?? {};
    return { v4: ip, v6: ip6 };
  };
  const subnetOf = (network: string): string => engine.networks.find(network).blocks.at(-1)?.subnet ?? '';
  const portOf = (id: string, hostIp: string): number =>
    runOf(id).ports.find((port) => port.hostIp === hostIp)?.hostPort ?? 0;
  const publish = (...hostIps: string[]): PortBinding[] =>
    hostIps.map((hostIp) => ({ hostIp, hostPort: 0, protocol: 'tcp', containerPort: 80 }));
  const ip = async (...args: string[]): Promise<string> => {
    const done = await linuxProcesses.run('ip', args);
    assert.equal(done.code, 0, `ip ${args.join(' ')}: ${done.stderr}`);
    return done.stdout;
  };

  before(async () => {
    makeImage(home, ['sh', 'sleep', 'echo', 'true', 'ip', 'ping', 'nc', 'cat', 'grep', 'timeout', 'nslookup']);
    engine = await openTestEngine(home, instanceId);
    await engine.networks.create({ name: 'dual', enableIpv6: true });
    await engine.networks.create({
      name: 'six',
      enableIpv4: false,
      enableIpv6: true,
      addresses: [{ subnet: `fd00:${group}:6::/64`, ipRange: `fd00:${group}:6::ff00/120` }],
    });
    // Somebody elsewhere, who has no way back to the containers' own addresses.
    await ip('netns', 'add', outside);
    await ip('link', 'add', `x${instanceId}`, 'type', 'veth', 'peer', 'name', 'out', 'netns', outside);
    await ip('addr', 'add', `fd00:${group}:9::1/64`, 'dev', `x${instanceId}`, 'nodad');
    await ip('link', 'set', `x${instanceId}`, 'up');
    await ip('-n', outside, 'addr', 'add', `fd00:${group}:9::2/64`, 'dev', 'out', 'nodad');
    await ip('-n', outside, 'link', 'set', 'out', 'up');
    await ip('-n', outside, 'link', 'set', 'lo', 'up');
  });

  after(async () => {
    for (const child of children) child.kill();
    await engine[Symbol.asyncDispose]();
    await removeTestEngine(home, instanceId);
    await linuxProcesses.run('ip', ['link', 'del', `x${instanceId}`]);
    await linuxProcesses.run('ip', ['netns', 'del', outside]);
    assert.doesNotMatch((await linuxProcesses.run('nft', ['list', 'tables'])).stdout, new RegExp(instanceId));
  });

  test('a subnet that nobody asked for is a /64 of the instance own /48, the same for each and never twice', async () => {
    await Promise.all(['auto1', 'auto2'].map((name) => engine.networks.create({ name, enableIpv6: true })));
    const [one, two] = [subnetOf('auto1'), subnetOf('auto2')];
    assert.match(one, /^fd.*\/64$/);
    assert.notEqual(one, two);
    const site = (subnet: string): string => subnet.split(':').slice(0, 3).join(':');
    assert.equal(site(one), site(subnetOf('dual')));
    await Promise.all(['auto1', 'auto2'].map((name) => engine.networks.remove(name)));
  });

  test('addresses, names and files are of both families, or of the one that the network has', async () => {
    const [a, b] = [await start('dual-a', ['dual']), await start('dual-b', ['dual'])];
    const { v4, v6 } = addressesOf(b);
    const found = await sh(a, 'nslookup dual-b');
    assert.ok(found.includes(v4) && found.includes(v6), found);
    assert.match(await sh(a, `nslookup ${v6}`), /name = dual-b\.dual/);
    assert.equal(await sh(a, `ping -6 -c 1 -W 2 dual-b >/dev/null && echo yes`), 'yes');
    const hosts = await sh(b, 'cat /etc/hosts');
    assert.ok(hosts.includes(`${v4}\tdual-b`) && hosts.includes(`${v6}\tdual-b`), hosts);
    const six = await start('six-a', ['six']);
    assert.deepEqual(addressesOf(six), { v4: '', v6: `fd00:${group}:6::ff01` });
    assert.doesNotMatch(await sh(six, 'ip -4 addr show eth0'), /inet /);
    assert.match(await sh(six, 'ip -6 route'), new RegExp(`default via fd00:${group}:6::ff00 dev eth0`));
  });

  test('where the network has no IPv6, neither has the link of the container', async () => {
    const id = await start('four', ['bridge']);
    assert.equal(await sh(id, 'cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip -6 addr show eth0'), '1');
  });

  test('ports are published in both families with the same number, on ::1 and for containers without IPv6, too', async () => {
    const dual = await start('web-dual', ['dual'], { ports: publish('') });
    const four = await start('web-four', ['bridge'], { ports: publish('') });
    const six = await start('web-six', ['six'], { ports: publish('') });
    const host = `fd00:${group}:9::1`;
    for (const id of [dual, four, six]) {
      const { name } = engine.table.get(id);
      const port = portOf(id, '::');
      if (id !== six) assert.equal(portOf(id, '0.0.0.0'), port);
      for (const address of id === six ? ['::1', host] : ['127.0.0.1', '::1', host])
        assert.equal(await ask(address, port), name, `${name} at ${address}`);
      const script = `timeout 5 busybox nc ${host} ${port} </dev/null`;
      const from = await linuxProcesses.run('ip', ['netns', 'exec', outside, 'sh', '-c', script]);
      assert.equal(from.stdout.trim(), name, `${name} from outside: ${from.stderr}`);
    }
    // By a container of another network, and by itself.
    assert.match(await sh(four, `timeout 5 nc ${host} ${portOf(dual, '::')} </dev/null`), /unreachable/);
    assert.equal(await sh(six, `timeout 5 nc ${host} ${portOf(dual, '::')} </dev/null`), 'web-dual');
    assert.equal(await sh(dual, `timeout 5 nc ${host} ${portOf(dual, '::')} </dev/null`), 'web-dual');
  });

  test('a datagram is answered on ::1 and at an address of the host', async () => {
    const ports: PortBinding[] = [{ hostIp: '', hostPort: 0, protocol: 'udp', containerPort: 5353 }];
    for (const network of ['dual', 'bridge']) {
      const id = await start(`udp-${network}`, [network], { ports });
      await inNamespace(
        namespaceOf(id),
        `const socket = require('dgram').createSocket('udp6');
        socket.on('message', (message, from) => socket.send('answer', from.port, from.address));
        socket.bind(5353, () => console.log());`,
      );
      for (const host of ['::1', `fd00:${group}:9::1`, '127.0.0.1'])
        assert.equal(
          await askUdp(host, portOf(id, host.includes(':') ? '::' : '0.0.0.0')),
          'answer',
          `${network} ${host}`,
        );
      for (const child of children.splice(-2)) child.kill();
      await engine.containers.remove(id, { force: true });
    }
  });

  test('packets leave with an address of the host, and none comes to a port that is not published', async () => {
    const id = await start('leaver', ['dual']);
    const heard = mkdtempSync('/tmp/tiphys-heard-');
    await inNamespace(
      `/run/netns/${outside}`,
      `require('net').createServer((socket) => {
        require('fs').writeFileSync('${heard}/from', socket.remoteAddress);
        socket.end('heard');
      }).listen(7777, () => console.log());`,
    );
    assert.equal(await sh(id, `timeout 5 nc fd00:${group}:9::2 7777 </dev/null`), 'heard');
    assert.equal(readFileSync(`${heard}/from`, 'utf8'), `fd00:${group}:9::1`);
    rmSync(heard, { recursive: true });
    const ip6 = addressesOf(id).v6;
    await ip('-n', outside, 'route', 'add', 'default', 'via', `fd00:${group}:9::1`);
    const from = await linuxProcesses.run('ip', ['netns', 'exec', outside, 'ping', '-6', '-c', '1', '-W', '1', ip6]);
    assert.notEqual(from.code, 0, 'reached from outside');
    const other = await start('neighbour', ['six']);
    assert.doesNotMatch(await sh(other, `ping -6 -c 1 -W 1 ${ip6} && echo reached`), /reached/);
  });

  test('a container sends with an address of its network only', async () => {
    const id = await start('liar', ['dual'], { security: { capAdd: ['NET_ADMIN', 'NET_RAW'] } });
    const target = `fd00:${group}:9::1`;
    const { code } = await execText(engine, id, ['ping', '-6', '-c', '1', '-W', '2', target], { privileged: true });
    assert.equal(code, 0, 'its own');
    const script = `ip addr add fd00:dead::5/128 dev lo; ping -6 -c 1 -W 1 -I fd00:dead::5 ${target}`;
    assert.notEqual((await execText(engine, id, ['sh', '-c', script], { privileged: true })).code, 0);
  });

  test('networks come and go while it runs: its way out and its ports follow', async () => {
    const id = await start('mover', ['bridge'], { ports: publish('') });
    const container = engine.table.get(id);
    const port = portOf(id, '::');
    assert.equal(await ask('::1', port), 'mover');
    await connectNetwork(engine.table, container, { network: 'dual', aliases: [], gatewayPriority: 1 });
    assert.match(await sh(id, 'ip -6 route; ip route'), /default via fd[^]*dev eth1[^]*default via 17[\d.]* dev eth1/);
    assert.equal(portOf(id, '::'), port);
    assert.equal(runOf(id).ports.find((one) => one.hostIp === '::')?.ip, addressesOf(id, 1).v6);
    assert.equal(await ask('::1', port), 'mover');
    assert.equal(await ask(`fd00:${group}:9::1`, port), 'mover');
    await disconnectNetwork(engine.table, container, 'dual');
    assert.doesNotMatch(await sh(id, 'ip -6 route'), /default/);
    assert.match(await sh(id, 'ip route'), /default via .* dev eth0/);
    assert.equal(await ask('::1', port), 'mover');
    assert.equal(await ask('127.0.0.1', port), 'mover');
  });

  test('a new engine finds all of it again', async () => {
    const id = await start('stayer', ['dual'], { ports: publish('') });
    const port = portOf(id, '::');
    const before = engine.networks.find('dual');
    await engine[Symbol.asyncDispose]();
    engine = await openTestEngine(home, instanceId);
    assert.deepEqual(engine.networks.find('dual'), before);
    assert.equal(await ask(`fd00:${group}:9::1`, port), 'stayer');
    assert.equal(await ask('::1', port), 'stayer');
    const next = await start('newcomer', ['dual']);
    assert.notEqual(addressesOf(next).v6, addressesOf(id).v6);
    assert.match(await sh(next, 'nslookup -type=aaaa stayer'), new RegExp(addressesOf(id).v6));
  });

  test('forwarding is on, and links that took routes from routers go on to do so', () => {
    assert.equal(readFileSync('/proc/sys/net/ipv6/conf/all/forwarding', 'utf8').trim(), '1');
    assert.notEqual(readFileSync(`/proc/sys/net/ipv6/conf/lo/accept_ra`, 'utf8').trim(), '0');
  });
});
