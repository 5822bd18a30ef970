/** The keys and authorities of a cluster of three servers change under load, and the command is killed on the way. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { noEtcd } from '../store/etcd.ts';
import { checkout, type FastMachine } from '../e2e/fast-machines.ts';
import { good, lasts, threeServers, whole } from '../e2e/servers.ts';
import { buildImage, containers, killedOnTheWay, runsPod, startWriter, stopWriters } from './load.ts';

/** Generations and names of keys, without the keys. */
async function ringOf(machine: FastMachine): Promise<string> {
  const text = await machine.ok('cat', '/var/lib/tiphys/keys.json');
  const ring = JSON.parse(text) as { generation?: number; encryption: { id: string; key: string }[]; ca: unknown };
  return JSON.stringify([ring.generation, ring.encryption, ring.ca]);
}

test('keys and authorities change on three servers under load', { timeout: 1_500_000, skip: noEtcd }, async () => {
  await using made = await threeServers(['a', 'b', 'c', 'd', 'e']);
  const { servers } = made;
  const [a, b, c] = servers;
  const [d, e] = made.others as [FastMachine, FastMachine];
  const token = (await good(a, 'token', 'create')).trim().split(' ').slice(1);
  await good(d, ...token, '--yes');
  await buildImage(d);
  await whole(b);
  for (const [name, node] of [
    ['on-b', 'b'],
    ['on-d', 'd'],
  ] as const)
    await runsPod(a, name, node);
  const before = await containers(a);
  await a.ok('kubectl', 'create', 'secret', 'generic', 'first', '--from-literal=a=b');
  await a.ok('cp', '/run/tiphys/admin.conf', '/tmp/old.conf');
  await a.ok('cp', '-r', '/var/lib/tiphys/etcd/pki', '/tmp/old-pki');
  const secrets = async (): Promise<void> => {
    for (const machine of servers)
      assert.equal(await machine.ok('kubectl', 'get', 'secret', 'first', '-o', 'jsonpath={.data.a}'), 'Yg==');
    const rings = await Promise.all(servers.map(ringOf));
    assert.deepEqual(rings, [rings[0], rings[0], rings[0]]);
  };
  const answers = async (): Promise<void> => {
    for (const machine of servers)
      for (const name of ['on-b', 'on-d']) assert.equal(await machine.ok('kubectl', 'logs', name), 'begun\n');
    assert.equal(await containers(a), before, 'no container was restarted');
    const nodes = await good(a, 'nodes');
    assert.doesNotMatch(nodes, /NotReady/, nodes);
  };

  const writers = servers.map((each) => startWriter(each));
  const said = await lasts('another key on three servers', () => good(a, 'rotate-encryption-key'));
  assert.match(said, /encrypted with key2 on servers a, b, c/);
  await secrets();
  console.log(
    `# killed ${await killedOnTheWay(servers, `${checkout}/tiphys rotate-encryption-key`, 0.4)} times on the way to another key`,
  );
  await secrets();

  console.log(
    `# killed ${await killedOnTheWay(servers, `${checkout}/tiphys certs rotate`, 2)} times on the way to other authorities`,
  );
  const rotated = await lasts('run once more', () => good(b, 'certs', 'rotate'));
  assert.match(rotated, /Other authorities signed already, and sign on servers b, .*no container was restarted/);
  await secrets();
  await whole(a);
  await answers();
  // Who knows the former authority alone, and is known by it alone.
  await a.ok('kubectl', '--kubeconfig', '/tmp/old.conf', 'get', 'nodes');
  await lasts('a machine joins by a token of before', () => good(e, ...token, '--yes'));
  console.log(
    `# killed ${await killedOnTheWay(servers, `${checkout}/tiphys certs finish`, 2)} times on the way to their end`,
  );
  await good(b, 'certs', 'finish');
  await secrets();
  await whole(a);
  await answers();
  const old = await a.run('kubectl', ['--kubeconfig', '/tmp/old.conf', 'get', 'nodes']);
  assert.notEqual(old.code, 0, 'what the former authority has signed holds no more');
  for (const machine of servers) {
    const health = `https://${machine.address}:2379/health`;
    const by = (pki: string): string[] => ['-sk', '--cert', `${pki}/member.crt`, '--key', `${pki}/member.key`, health];
    assert.match(await a.ok('curl', ...by('/var/lib/tiphys/etcd/pki')), /true/);
    assert.notEqual((await a.run('curl', by('/tmp/old-pki'))).code, 0, `etcd on ${machine.name} knows the former one`);
  }
  await lasts('a Pod on the machine that joined amid it, its image from another', () => runsPod(c, 'on-e', 'e'));
  await stopWriters(writers, b);
});
