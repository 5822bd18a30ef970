/** Servers that leave, and servers that are lost for good. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { noEtcd } from '../store/etcd.ts';
import type { FastMachine } from './fast-machines.ts';
import { bad, good, lasts, serverToken, threeServers, whole } from './servers.ts';

/** Where the state of a machine's cluster lies, and who its members are. */
const state = (machine: FastMachine): Promise<string> => good(machine, 'status');

test(
  'servers leave, are lost for good and replaced, down to one and up again',
  { timeout: 1_500_000, skip: noEtcd },
  async () => {
    await using made = await threeServers(['a', 'b', 'c', 'd']);
    const { servers, others } = made;
    const [a, b, c] = servers;
    const [d] = others as [FastMachine];
    await whole(a);
    const read = async (machine: FastMachine): Promise<string> =>
      machine.ok('kubectl', 'get', 'configmap', 'before', '-o', 'jsonpath={.metadata.resourceVersion} {.data.a}');
    const before = await read(a);
    await bad(a, ['leave'], /cluster began on this machine.*tiphys remove/);
    await bad(a, ['migrate', '--to-sqlite'], /SQLite is for one server, and there are others \((b, c|c, b)\)/);

    // Other keys and authorities, told to all three.
    assert.match(await lasts('another key', () => good(b, 'rotate-encryption-key')), /with key2 on servers b, a, c/);
    await lasts('other authorities', () => good(c, 'certs', 'rotate'));
    await a.ok('cp', '/run/tiphys/admin.conf', '/tmp/during.conf');
    await lasts('the former ones end', () => good(a, 'certs', 'finish'));
    await whole(b);
    assert.equal(await read(c), before);
    assert.match(await a.ok('kubectl', '--kubeconfig', '/tmp/during.conf', 'get', 'nodes'), /b .* Ready/);

    // Lost for good: its disk is never seen again.
    await c.cutPower();
    await bad(b, ['leave'], /no majority.*c must live.*tiphys remove c/);
    await lasts('a lost server is removed', () => good(a, 'remove', 'c'));
    assert.match(await state(a), /of two servers both must live/);
    const join = await serverToken(b);
    assert.match(join[2] ?? '', /10\.80\.0\.2/, 'any server takes others in');
    await lasts('another one takes its place', () => good(d, ...join));
    await whole(a);
    assert.equal(await read(d), before);
    // What was lost returns, and is told that it is no member any more.
    await c.boot();
    await c.run(`${process.cwd()}/tiphys`, ['up'], { timeoutMs: 120_000 });
    await c.until('its server ends', 'cat /run/tiphys/logs/server.log', /taken out of the cluster's servers/, 90_000);
    await good(c, 'leave', '--purge', '--yes');

    await lasts('the third leaves', () => good(d, 'leave'));
    for (const file of ['keys.json', 'etcd'])
      assert.notEqual((await d.run('ls', [`/var/lib/tiphys/${file}`])).code, 0, `${file} stays behind`);
    assert.match(await state(a), /of two servers both must live/);
    await lasts('the second leaves', () => good(b, 'leave', '--purge', '--yes'));
    assert.equal(await b.ok('ls', '-A', '/var/lib/tiphys'), '', 'keys and state are gone');
    assert.match(await state(a), / a +leader/);
    assert.equal(await read(a), before);
    const back = await good(a, 'migrate', '--to-sqlite');
    assert.match(back, /lies in SQLite/);
    console.log(back);
    assert.doesNotMatch(await state(a), /etcd/);
    assert.equal(await read(a), before);

    // And up again; who moves the state is killed on the way.
    const again = await serverToken(a);
    const joining = good(d, ...again);
    await a.until('a move begins', 'cat /run/tiphys/moving.json', /"pid"/);
    await a.ok('/bin/sh', '-c', 'kill -9 $(grep -o "pid.:[0-9]*" /run/tiphys/moving.json | grep -o "[0-9]*")');
    await lasts('a server joins although the first move was killed', () => joining);
    // Moved keys are written anew: their versions only grow.
    const moved = await read(d);
    assert.match(moved, / b$/);
    assert.ok(Number(moved.split(' ')[0]) > Number(before.split(' ')[0]), `${moved} after ${before}`);
    // Up to now `d` has no vote; the first server may be started anew all the same.
    await good(a, 'up', '--replace');
    assert.equal(await read(a), moved);
    await good(b, ...again);
    await whole(b);
    await lasts('the first server is removed by another', () => good(b, 'remove', 'a'));
    await a.until('its server ends', 'cat /run/tiphys/logs/server.log', /taken out of the cluster's servers/, 90_000);
    assert.equal(await read(b), moved);

    // The last two, of which each must live.
    await bad(b, ['recover', '--lost', 'd'], /a majority of the servers answers/);
    await d.cutPower();
    await bad(b, ['recover'], /what b knows.*tiphys recover --lost d/s);
    await lasts('the last one goes on alone', () => good(b, 'recover', '--lost', 'd'));
    assert.match(await b.ok('kubectl', 'create', 'configmap', 'alone', '-o', 'name'), /alone/);
    assert.equal((await read(b)).split(' ')[1], 'b');
  },
);
