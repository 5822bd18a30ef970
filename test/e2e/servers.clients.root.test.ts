/** Several servers: machines that join as further control planes, and what goes on when one of them is lost. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { noEtcd } from '../store/etcd.ts';
import { buildImage, runsPod, startWriter, stopWriters } from '../servers/load.ts';
import type { FastMachine } from './fast-machines.ts';
import { good, lasts, threeServers, whole } from './servers.ts';

/** A write, and a read of it, as soon as they succeed. */
const written = (name: string): string =>
  `kubectl --request-timeout=3s create configmap ${name} >/dev/null && kubectl get configmap ${name} -o name`;

async function leaderOf(machine: FastMachine): Promise<string> {
  const [, name = ''] = /^(\S+) +\S*leader/m.exec(await good(machine, 'nodes')) ?? [];
  assert.notEqual(name, '');
  return name;
}

/** The machine that leads, and two others. */
async function byLeader(servers: readonly FastMachine[]): Promise<[FastMachine, FastMachine, FastMachine]> {
  const [first] = servers;
  const name = await leaderOf(first!);
  const [leader, ...others] = [...servers].sort((x, y) => Number(y.name === name) - Number(x.name === name));
  return [leader!, others[0]!, others[1]!];
}

test(
  'any one of three servers may be killed, lose its power or its network',
  { timeout: 1_500_000, skip: noEtcd },
  async () => {
    await using made = await threeServers(['a', 'b', 'c', 'd']);
    const { servers } = made;
    const [a, b, c] = servers;
    const [d] = made.others as [FastMachine];
    await good(d, ...(await good(a, 'token', 'create')).trim().split(' ').slice(1), '--yes');
    await buildImage(d);
    await whole(b);
    console.log(await good(b, 'status'));
    console.log(await good(b, 'nodes'));
    for (const machine of [b, c])
      assert.match(await machine.ok('kubectl', 'get', 'configmap', 'before', '-o', 'jsonpath={.data.a}'), /b/);
    const endpoints = "kubectl get endpoints kubernetes -o jsonpath='{.subsets[*].addresses[*].ip}'";
    await b.until('all servers in the Service', endpoints, /10\.244\.0\.1.*10\.244\.16\.1.*10\.244\.17\.1/);

    const writers = servers.map((server) => startWriter(server));
    // The first, to which the worker once joined, and which has the registry.
    await a.killPlatform();
    await lasts('a write after the first server was killed', () => b.until('a write', written('one'), /one/));
    await b.until(
      'the dead server leaves the Service',
      endpoints,
      /^(?!.*10\.244\.0\.1)10\.244\.16\.1.*10\.244\.17\.1/,
    );
    await lasts('the worker finds another server', () =>
      d.until('nodes', `${process.cwd()}/tiphys nodes`, /^d .*Ready/m),
    );
    await lasts('a Pod on the worker, without the registry', () => runsPod(c, 'without-a', 'd'));
    await good(a, 'up');
    await whole(b);
    assert.match(await a.ok('kubectl', 'get', 'configmap', 'one', '-o', 'name'), /one/);

    {
      const [leader, ...others] = await byLeader(servers);
      await leader.cutPower();
      await lasts(`a write after the leader, ${leader.name}, lost its power`, () =>
        others[0].until('a write', written('two'), /two/),
      );
      await lasts('another server leads', () =>
        others[1].until(
          'a leader',
          `${process.cwd()}/tiphys nodes | grep leader`,
          new RegExp(`^[^${leader.name}] `, 'm'),
        ),
      );
      await leader.boot();
      await lasts('it is back', () => good(leader, 'up'));
      await whole(leader);
      assert.match(await leader.ok('kubectl', 'get', 'configmap', 'two', '-o', 'name'), /two/);
    }
    {
      const [leader, ...others] = await byLeader(servers);
      leader.setLink('down');
      await lasts(`a write after the leader, ${leader.name}, lost its network`, () =>
        others[0].until('a write', written('three'), /three/),
      );
      await lasts('another server leads', () =>
        others[1].until(
          'a leader',
          `${process.cwd()}/tiphys nodes | grep leader`,
          new RegExp(`^[^${leader.name}] `, 'm'),
        ),
      );
      const alone = await leader.run('kubectl', ['--request-timeout=20s', 'get', 'configmap', 'three']);
      assert.notEqual(alone.code, 0, 'what is cut off answers no consistent read');
      leader.setLink('up');
      await lasts('it is one of them again', () =>
        leader.until('a read', 'kubectl --request-timeout=3s get configmap three -o name', /three/),
      );
      await whole(leader);
    }
    await stopWriters(writers, b);
    await runsPod(a, 'at-last', 'd');
  },
);
