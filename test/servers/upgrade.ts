/** Another program on three servers and a worker: machine by machine under load, killed on the way, and back. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { noEtcd } from '../store/etcd.ts';
import { checkout, type FastMachine } from '../e2e/fast-machines.ts';
import { bad, good, lasts, threeServers, whole } from '../e2e/servers.ts';
import { buildImage, containers, killedOnTheWay, runsPod, startWriter, stopWriters } from './load.ts';

/** This program with something else in it, on a machine's own disk. */
async function changed(
  machine: FastMachine,
  name: string,
  [file, from, to]: [string, string, string],
): Promise<string> {
  const directory = `/opt/${name}`;
  const script = `mkdir -p ${directory} && cd ${directory} && cp -r ${checkout}/src ${checkout}/tiphys ${checkout}/package.json . && ln -s ${checkout}/node_modules node_modules
    sed -i 's/${from}/${to}/' src/${file} && ! cmp -s src/${file} ${checkout}/src/${file}`;
  await machine.ok('/bin/sh', '-ec', script);
  return `${directory}/tiphys`;
}

test(
  'three servers and a worker come to another program and back, under load',
  { timeout: 2_400_000, skip: noEtcd },
  async () => {
    await using made = await threeServers(['a', 'b', 'c', 'd']);
    const { servers } = made;
    const [a, b, c] = servers;
    const [d] = made.others as [FastMachine];
    const all = [...servers, d];
    await good(d, ...(await good(a, 'token', 'create')).trim().split(' ').slice(1), '--yes');
    await buildImage(d);
    await whole(b);
    for (const [name, node] of [
      ['on-b', 'b'],
      ['on-d', 'd'],
    ] as const)
      await runsPod(a, name, node);
    const before = await containers(a);
    const runsOn = async (machines: readonly FastMachine[]): Promise<string[]> =>
      Promise.all(
        machines.map(async (each) => {
          const status = await good(each, 'status', '--json');
          return (JSON.parse(status) as { versions: { program: string } }).versions.program;
        }),
      );
    const answers = async (): Promise<void> => {
      for (const name of ['on-b', 'on-d']) assert.equal(await a.ok('kubectl', 'logs', name), 'begun\n');
      assert.equal(await containers(a), before, 'no container was restarted');
      await whole(a);
    };

    const writers = [startWriter(a)];
    const first = await lasts('four machines come to a kept program', () => good(a, 'upgrade', '--yes'));
    assert.match(first, /This machine, b, c, d run Tiphys/);
    assert.equal(new Set(await runsOn(all)).size, 1);
    await answers();

    const levelRaised: [string, string, string] = [
      'platform/instance.ts',
      'newestFormat: number = severalFormat',
      'newestFormat: number = 5',
    ];
    const newer = await changed(b, 'newer', levelRaised);
    const kills = await killedOnTheWay([b], `${newer} upgrade --yes`, 6);
    console.log(`# killed ${kills} times on the way to a program that knows a newer format`);
    assert.equal(new Set(await runsOn(all)).size, 1);
    await answers();
    const back = await lasts('back', () => good(c, 'upgrade', '--back'));
    assert.match(back, /This machine, a, b, d run Tiphys/);
    assert.equal(new Set(await runsOn(all)).size, 1);
    assert.match(first, new RegExp((await runsOn([d]))[0]!.split('+')[1]!), 'the one of before');
    await answers();

    // One machine cannot take it: it goes on with what it ran, and the others are not asked.
    await d.ok(
      '/bin/sh',
      '-c',
      'fallocate -l $(( $(stat -f -c "%a * %S" /var/lib/tiphys) - 4194304 )) /var/lib/tiphys/fill',
    );
    const full = await a.run(await changed(a, 'other', ['platform/version.ts', 'Versions that', 'The versions that']), [
      'upgrade',
      '--yes',
    ]);
    assert.match(full.stderr, /d does not take it: the disk of .*has no room/);
    await d.ok('rm', '/var/lib/tiphys/fill');
    await good(a, 'upgrade', '--back');
    await d.cutPower();
    await a.until('it is known to be away', 'kubectl get node d', / NotReady /);
    await bad(a, ['upgrade', '--back'], /d is away/);
    await d.boot();
    await good(d, 'up');
    await a.until('it is back', 'kubectl get node d', / Ready /);

    const again = await b.run(newer, ['upgrade', '--yes'], { timeoutMs: 600_000 });
    assert.equal(again.code, 0, again.stderr);
    assert.equal((await b.run(newer, ['upgrade', '--finish'], { timeoutMs: 600_000 })).code, 0);
    for (const machine of all) assert.match(await machine.ok('cat', '/var/lib/tiphys/instance.json'), /"format": 5/);
    await bad(c, ['upgrade', '--yes'], /format 5; this one knows 4/);
    await answers();
    await stopWriters(writers, b);
  },
);
