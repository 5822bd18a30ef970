/**
 * What packets may do: real namespaces, real rules. Senders are containers that an ordinary user may start (NET_ADMIN
 * at most).
 */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { mkdtempSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { PassThrough } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import { realRandom } from '#os/clock.real.ts';
import { createNetworkDoor } from '#os/network.linux.ts';
import type { DockerEngine } from './create-engine.ts';
import type { ContainerSpec } from './engine.ts';
import { removeUnusedNetwork } from './network-connect.ts';
import { execText, makeImage, newInstanceId, openTestEngine, removeTestEngine, specOf } from './testing.ts';

const isRoot = process.getuid?.() === 0;
const instanceId = newInstanceId();

describe('packets between containers, Pods and the host', { skip: !isRoot && 'needs root' }, () => {
  const home = mkdtempSync('/tmp/tiphys-isolation-');
  const named = `br${instanceId}x`;
  let engine: DockerEngine;

  const start = async (name: string, more: Partial<ContainerSpec>, command = ['sleep', '1000']): Promise<string> => {
    const security = { capAdd: ['NET_ADMIN', 'NET_RAW'] };
    const id = await engine.containers.create(specOf(name, command, { security, ...more }));
    await engine.containers.start(id);
    return id;
  };
  const sh = async (id: string, script: string): Promise<string> => {
    const { code, text } = await execText(engine, id, ['sh', '-c', script], { privileged: true });
    return `${text.trim()} (${code})`;
  };
  const ipOf = (id: string): string => engine.table.get(id).record.run!.endpoints[0]!.ip!;
  const startPod = async (name: string): Promise<{ id: string; ip: string }> => {
    const sandbox = await engine.sandboxes.create({
      id: name,
      name,
      hostname: name,
      labels: {},
      network: 'pod',
      cgroupParent: `/tiphys_${instanceId}/kubepods/${name}`,
      resources: {},
    });
    return {
      id: await start(`in-${name}`, { owner: 'kubelet', network: { type: 'sandbox', sandboxId: name } }),
      ip: sandbox.podIp,
    };
  };
  /** Echo requests that came in, as the receiver's kernel counts them. */
  const echoes = async (id: string): Promise<number> => {
    const [names = '', values = ''] = (await sh(id, 'grep ^Icmp: /proc/net/snmp')).split('\n');
    return Number(values.split(' ')[names.split(' ').indexOf('InEchos')]);
  };
  /** One ping with this source; true when it arrived. */
  const arrives = async (from: string, source: string, to: { id: string; ip: string }): Promise<boolean> => {
    const before = await echoes(to.id);
    await sh(from, `ip addr add ${source}/32 dev lo 2>/dev/null; ping -c 1 -W 1 -I ${source} ${to.ip}`);
    return (await echoes(to.id)) > before;
  };

  /** One answer, `inside`, on a port; resolves when it listens. */
  const serve = async (id: string, port: number): Promise<void> => {
    void sh(id, `echo inside | timeout 15 nc -l -p ${port}`);
    const local = `:${port.toString(16).toUpperCase().padStart(4, '0')} .* 0A `;
    assert.match(
      await sh(
        id,
        `i=0; while [ $i -lt 200 ] && ! grep -q '${local}' /proc/net/tcp /proc/net/tcp6; do i=$((i+1)); sleep 0.05; done; echo $i`,
      ),
      /^1?\d{1,2} /,
    );
  };

  before(async () => {
    makeImage(home, ['sh', 'sleep', 'echo', 'true', 'ip', 'ping', 'nc', 'grep', 'cat', 'timeout', 'tftp', 'wc']);
    engine = await openTestEngine(home, instanceId, '10.253.78.0/24');
  });

  after(async () => {
    await engine[Symbol.asyncDispose]();
    await removeTestEngine(home, instanceId);
    assert.equal(readFileSync('/proc/net/dev', 'utf8').includes(`${named}:`), false);
  });

  test('a Pod sends with its own address only', async () => {
    const [a, b] = [await startPod('pod-a'), await startPod('pod-b')];
    assert.equal(await arrives(a.id, a.ip, b), true, 'its own');
    for (const source of ['8.8.8.8', '10.253.78.1', '10.253.78.200', '172.17.0.1'])
      assert.equal(await arrives(a.id, source, b), false, source);
  });

  test('a container sends with an address of its network only', async () => {
    const pod = await startPod('pod-c');
    const id = await start('sender', {});
    assert.equal(await arrives(id, ipOf(id), pod), true, 'its own');
    for (const source of ['8.8.8.8', '10.253.78.1', pod.ip])
      assert.equal(await arrives(id, source, pod), false, source);
  });

  test('links of containers and Pods speak no IPv6 with the host', async () => {
    await startPod('pod-d');
    const ours = (await engine.netlink.listLinks()).filter(
      (link) => link.name.startsWith(`tph${instanceId}`) && link.master === 0 && link.kind !== 'bridge',
    );
    assert.ok(ours.length > 0);
    for (const link of ours)
      assert.equal(readFileSync(`/proc/sys/net/ipv6/conf/${link.name}/disable_ipv6`, 'utf8').trim(), '1', link.name);
  });

  test('a bridge that the user names is guarded, publishes on 127.0.0.1, and goes with the network', async () => {
    const network = await engine.networks.create({
      name: 'named',
      options: { 'com.docker.network.bridge.name': named },
    });
    const heard: string[] = [];
    const server = createSocket('udp4', (message) => heard.push(message.toString()));
    await new Promise<void>((done) => {
      server.bind(0, '127.0.0.1', done);
    });
    try {
      const { port } = server.address();
      const id = await start('intruder', {
        security: { privileged: true },
        networks: [{ network: 'named', aliases: [] }],
        ports: [{ hostIp: '127.0.0.1', hostPort: 0, containerPort: 80, protocol: 'tcp' }],
      });
      const sent = await sh(
        id,
        `echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet; ip route del local 127.0.0.1 table local; ip route del local 127.0.0.0/8 table local; ip route add 127.0.0.1/32 via ${network.blocks[0]!.gateway} src ${ipOf(id)}; timeout 2 tftp -g -r x 127.0.0.1 ${port}; cat /proc/net/route | wc -l`,
      );
      assert.match(sent, /4 \(0\)$/, 'the routes are made');
      assert.deepEqual(heard, []);
      await serve(id, 80);
      const published = engine.table.get(id).record.run!.ports[0]!;
      assert.equal(await answerOf(published.hostPort), 'inside');
      await engine.containers.remove(id, { force: true });
    } finally {
      server.close();
    }
    await engine.networks.remove('named');
    assert.equal(
      (await engine.netlink.listLinks()).some((link) => link.name === named),
      false,
    );
  });

  test("the Pods' addresses are no network's, nor is a wider subnet", async () => {
    const before = engine.networks.list().length;
    for (const subnet of ['10.253.78.0/24', '10.253.0.0/16'])
      await assert.rejects(engine.networks.create({ name: 'over', addresses: [{ subnet }] }), /Pool overlaps/, subnet);
    assert.equal(engine.networks.list().length, before);
  });

  test("a link of the host that is no bridge, or another network's, is not taken for one", async () => {
    const refused = (name: string, pattern: RegExp): Promise<void> =>
      assert.rejects(
        engine.networks.create({
          name: `n${Math.floor(realRandom.float() * 1e9)}`,
          options: { 'com.docker.network.bridge.name': name },
        }),
        pattern,
      );
    await refused('lo', /existing interface lo is not a bridge/);
    await refused(engine.networks.find('bridge').link!, /networks have same bridge name/);
    await refused('x } ; flush', /invalid bridge name/);
    await refused('..', /invalid bridge name/);
  });

  test('Pods and other networks reach published ports of a container, and no others', async () => {
    await engine.networks.create({ name: 'apart' });
    const id = await start('served', {
      networks: [{ network: 'apart', aliases: [] }],
      ports: [{ hostIp: '', hostPort: 0, containerPort: 80, protocol: 'tcp' }],
    });
    const [pod, other] = [await startPod('pod-e'), await start('stranger', {})];
    const published = engine.table.get(id).record.run!.ports[0]!.hostPort;
    for (const from of [pod.id, other]) {
      await serve(id, 81);
      assert.doesNotMatch(await sh(from, `nc -w 1 ${ipOf(id)} 81 </dev/null`), /inside/);
      assert.equal(await arrives(from, from === pod.id ? pod.ip : ipOf(other), { id, ip: ipOf(id) }), false);
      await serve(id, 80);
      assert.match(await sh(from, `nc -w 2 10.253.78.1 ${published} </dev/null`), /inside/);
    }
  });

  test('without icc containers of one network do not reach each other; with it they do', async () => {
    for (const icc of ['false', 'true']) {
      await engine.networks.create({
        name: `icc-${icc}`,
        options: {
          'com.docker.network.bridge.enable_icc': icc,
          'com.docker.network.container_iface_prefix': 'lan',
          'com.docker.network.driver.mtu': '1400',
        },
      });
      const [a, b] = [
        await start(`a-${icc}`, { networks: [{ network: `icc-${icc}`, aliases: [] }] }),
        await start(`b-${icc}`, { networks: [{ network: `icc-${icc}`, aliases: [] }] }),
      ];
      assert.equal(await arrives(a, ipOf(a), { id: b, ip: ipOf(b) }), icc === 'true');
      assert.match(await sh(a, 'ip link show lan0'), /mtu 1400/);
    }
  });

  test('ports go to the address that the network binds to', async () => {
    await engine.networks.create({
      name: 'bound',
      options: { 'com.docker.network.bridge.host_binding_ipv4': '127.0.0.1' },
    });
    const id = await start('bound', {
      networks: [{ network: 'bound', aliases: [] }],
      ports: [{ hostIp: '', hostPort: 0, containerPort: 80, protocol: 'tcp' }],
    });
    assert.equal(engine.table.get(id).record.run!.ports[0]!.hostIp, '127.0.0.1');
  });

  test('a command that is run in a container is as dear to the kernel as the container', async () => {
    const id = await start('dear', { resources: { oomScoreAdj: 500 } });
    assert.equal(await sh(id, 'cat /proc/self/oom_score_adj /proc/1/oom_score_adj'), '500\n500 (0)');
  });

  test('of ten networks of one name made at once, one is made', async () => {
    const made = await Promise.allSettled(Array.from({ length: 10 }, () => engine.networks.create({ name: 'once' })));
    assert.equal(made.filter((result) => result.status === 'fulfilled').length, 1);
    assert.equal(engine.networks.list().filter((network) => network.name === 'once').length, 1);
    assert.ok(made.every((result) => result.status === 'fulfilled' || /already exists/.test(String(result.reason))));
  });

  test('a network is not taken from under a container that starts, and a stopped one does not hold it', async () => {
    await engine.networks.create({ name: 'held' });
    const id = await start('holder', { networks: [{ network: 'held', aliases: [] }] });
    await assert.rejects(engine.networks.remove('held'), /network held has active endpoints/);
    await engine.containers.stop(id, 0);
    await engine.networks.remove('held');
  });

  test('a network goes as soon as the end of the run on it is seen', async () => {
    for (let times = 0; times < 5; times++) {
      const network = await engine.networks.create({ name: 'brief' });
      const id = await engine.containers.create(
        specOf('brief', ['true'], { networks: [{ network: 'brief', aliases: [] }] }),
      );
      const attached = engine.containers.attach(id, { stdout: new PassThrough() });
      await engine.containers.start(id);
      await attached;
      await removeUnusedNetwork(engine.table, network);
      await engine.containers.remove(id);
    }
  });

  test('a bridge that was there before is used as it is, and stays', async () => {
    const bridge = `br${instanceId}y`;
    await engine.netlink.run([{ steps: [{ op: 'addBridge', name: bridge }] }]);
    try {
      await engine.networks.create({ name: 'borrowed', options: { 'com.docker.network.bridge.name': bridge } });
      assert.deepEqual(
        ['ipv4/conf', 'ipv6/conf'].map((family, i) =>
          readFileSync(`/proc/sys/net/${family}/${bridge}/${['route_localnet', 'disable_ipv6'][i]}`, 'utf8').trim(),
        ),
        ['0', '0'],
      );
      const id = await start('guest', { networks: [{ network: 'borrowed', aliases: [] }] });
      await engine.containers.remove(id, { force: true });
      await engine.networks.remove('borrowed');
      assert.ok((await engine.netlink.listLinks()).some((link) => link.name === bridge && link.alias === ''));
    } finally {
      await engine.netlink.run([{ steps: [{ op: 'deleteLink', name: bridge, ignore: ['ENODEV'] }] }]);
    }
  });

  test('parameters of the host are not written for a sandbox or a container, whoever asked', async () => {
    const value = readFileSync('/proc/sys/vm/swappiness', 'utf8').trim();
    const door = createNetworkDoor();
    try {
      for (const name of ['vm.swappiness', 'net/../vm/swappiness', 'kernel.hostname']) {
        await assert.rejects(
          door.namespaces.create({ pins: { network: `${home}/run/ns-refused` }, sysctls: { [name]: value } }),
          /not in a separate kernel namespace/,
          name,
        );
      }
      for (const path of ['vm/swappiness', 'net/ipv4/conf/../../../vm/swappiness'])
        await assert.rejects(
          door.netlink.run([{ steps: [{ op: 'sysctl', path, value }] }]),
          /is not one of the network's/,
          path,
        );
    } finally {
      await door.close();
    }
    await assert.rejects(
      start('swappy', { sysctls: { 'vm.swappiness': value } }),
      /not in a separate kernel namespace/,
    );
    await assert.rejects(
      start('hosty', { network: { type: 'host' }, sysctls: { 'net.ipv4.ip_forward': '1' } }),
      /not allowed in host network namespace/,
    );
  });
});

function answerOf(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = connect(port, '127.0.0.1');
    socket.setTimeout(3_000, () => {
      socket.destroy(new Error('no answer'));
    });
    socket.on('data', (part: Buffer) => {
      text += part.toString();
    });
    socket.on('error', reject);
    socket.on('end', () => {
      socket.destroy();
      resolve(text.trim());
    });
  });
}
