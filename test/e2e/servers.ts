/** What tests of several servers share. */
import assert from 'node:assert/strict';
import { etcdPrograms } from '../store/etcd.ts';
import { createFastMachines, type FastMachine, type FastMachines } from './fast-machines.ts';

const [etcd = ''] = etcdPrograms();

export async function good(machine: FastMachine, ...words: string[]): Promise<string> {
  const { code, stdout, stderr } = await machine.tiphys(...words);
  if (code !== 0) {
    const logs = await machine.run('/bin/sh', ['-c', 'tail -n 5 /run/tiphys/logs/*.log | cut -c1-400']);
    assert.fail(`${machine.name}: tiphys ${words.join(' ')}: ${stdout}${stderr}${logs.stdout}`);
  }
  return stdout;
}

export async function bad(machine: FastMachine, words: string[], says: RegExp): Promise<void> {
  const { code, stdout, stderr } = await machine.tiphys(...words);
  assert.notEqual(code, 0, `tiphys ${words.join(' ')}: ${stdout}`);
  assert.match(stderr, says);
}

/** The words after `tiphys`, as a user copies them. */
export async function serverToken(machine: FastMachine): Promise<string[]> {
  const printed = await good(machine, 'token', 'create', '--server', '--etcd-binary', etcd);
  assert.match(printed, /^tiphys join --server https:\/\/[\d.]+:6443 \S+\n$/);
  return [...printed.trim().split(' ').slice(1), '--etcd-binary', etcd, '--yes'];
}

export async function lasts<T>(what: string, run: () => Promise<T>): Promise<T> {
  const begun = Date.now();
  const result = await run();
  console.log(`# ${what}: ${((Date.now() - begun) / 1000).toFixed(1)} s`);
  return result;
}

interface Servers extends AsyncDisposable {
  servers: [FastMachine, FastMachine, FastMachine];
  /** Not started. */
  others: FastMachine[];
}

/** Machines of which the first three are servers. */
export async function threeServers(names = ['a', 'b', 'c']): Promise<Servers> {
  await using stack = new AsyncDisposableStack();
  const made: FastMachines = stack.use(
    await createFastMachines({ machines: names.map((name) => ({ name, link: 0 })) }),
  );
  const [a, b, c, ...others] = made.machines as [FastMachine, FastMachine, FastMachine, ...FastMachine[]];
  await good(a, 'up', '--yes');
  const join = await serverToken(a);
  await a.ok('kubectl', 'create', 'configmap', 'before', '--from-literal=a=b');
  const second = await lasts('the second server joins', () => good(b, ...join));
  assert.match(second, /Server b has joined[^]*lies in etcd now; the API did not answer for \d/);
  assert.match(second, /two servers are no gain yet: without a/);
  console.log(second.split('\n').find((line) => line.includes('lies in etcd')));
  const third = await lasts('the third server joins', () => good(c, ...join));
  assert.match(third, /Server c has joined/);
  assert.doesNotMatch(third, /no gain|no vote|lies in etcd now/);
  const undo = stack.move();
  return { servers: [a, b, c], others, [Symbol.asyncDispose]: () => undo.disposeAsync() };
}

/** All three have a vote and a leader, as one of them tells. */
export async function whole(machine: FastMachine): Promise<void> {
  const words = `${process.cwd()}/tiphys status --json`;
  await machine.until('three members', `${words} | grep -o '"state":"\\(voter\\|leader\\)"' | wc -l`, /^3$/m, 90_000);
}
