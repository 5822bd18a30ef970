/** Several servers: machines that join as further control planes, and what goes on when one of them is lost. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { etcdPrograms, noEtcd } from '../store/etcd.ts';
import { createFastMachines, type FastMachine, type FastMachines } from './fast-machines.ts';

const [etcd = ''] = etcdPrograms();

async function good(machine: FastMachine, ...words: string[]): Promise<string> {
  const { code, stdout, stderr } = await machine.tiphys(...words);
  assert.equal(code, 0, `tiphys ${words.join(' ')}: ${stdout}${stderr}`);
  return stdout;
}

/** The words after `tiphys`, as a user copies them. */
async function serverToken(machine: FastMachine): Promise<string[]> {
  const printed = await good(machine, 'token', 'create', '--server', '--etcd-binary', etcd);
  assert.match(printed, /^tiphys join --server https:\/\/[\d.]+:6443 \S+\n$/);
  return [...printed.trim().split(' ').slice(1), '--etcd-binary', etcd, '--yes'];
}

const lasts = async (what: string, run: () => Promise<unknown>): Promise<void> => {
  const begun = Date.now();
  await run();
  console.log(`# ${what}: ${((Date.now() - begun) / 1000).toFixed(1)} s`);
};

/** Three machines, of which each is a server. */
async function threeServers(): Promise<FastMachines> {
  await using stack = new AsyncDisposableStack();
  const made = stack.use(await createFastMachines({ machines: ['a', 'b', 'c'].map((name) => ({ name, link: 0 })) }));
  const [a, b, c] = made.machines as [FastMachine, FastMachine, FastMachine];
  await good(a, 'up', '--yes');
  const join = await serverToken(a);
  await a.ok('kubectl', 'create', 'configmap', 'before', '--from-literal=a=b');
  await lasts('b joins as a server', async () => {
    const printed = await good(b, ...join);
    console.log(printed);
    assert.match(printed, /Server b has joined.*\n.*lies in etcd now; the API did not answer for/);
    assert.match(printed, /two servers are no gain/);
  });
  await lasts('c joins as a server', async () => {
    const printed = await good(c, ...join);
    console.log(printed);
    assert.match(printed, /Server c has joined/);
    assert.doesNotMatch(printed, /no gain|no vote/);
  });
  const undo = stack.move();
  return { machines: made.machines, [Symbol.asyncDispose]: () => undo.disposeAsync() };
}

/** A write, and a read of it, as soon as they succeed. */
const writes = (name: string): string =>
  `kubectl --request-timeout=3s create configmap ${name} >/dev/null && kubectl get configmap ${name} -o name`;

test('the API goes on when any one of three servers is killed', { timeout: 900_000, skip: noEtcd }, async () => {
  await using made = await threeServers();
  const [a, b, c] = made.machines as [FastMachine, FastMachine, FastMachine];
  console.log(await good(a, 'status'));
  console.log(await good(b, 'status'));
  console.log(await good(b, 'nodes'));
  for (const machine of [b, c])
    assert.match(await machine.ok('kubectl', 'get', 'configmap', 'before', '-o', 'jsonpath={.data.a}'), /b/);
  await a.killPlatform();
  await lasts('a write after a was killed', () => b.until('a write', writes('one'), /configmap\/one/));
  assert.match(await c.ok('kubectl', 'get', 'configmap', 'one', '-o', 'name'), /one/);
  await good(a, 'up');
  assert.match(await a.ok('kubectl', 'get', 'configmap', 'one', '-o', 'name'), /one/);
});
