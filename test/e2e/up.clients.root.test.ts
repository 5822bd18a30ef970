/** Starting and stopping: ports in use, two at once, kept data, a run directory that is gone, two nodes. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { createMachine } from './machine.ts';

test('a named port that is taken is refused in words, and nothing is left', { timeout: 120_000 }, async () => {
  await using machine = createMachine();
  const server = createServer();
  const port = await new Promise<number>((resolve) =>
    server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port)),
  );
  try {
    const output = await machine.tiphys(['up', '--api-port', String(port)]);
    assert.equal(output.code, 1);
    assert.match(output.stderr, new RegExp(`port ${port} on 127.0.0.1 is in use by another program`));
    assert.deepEqual(machine.leftovers(), []);
  } finally {
    server.close();
  }
});

test('wrong words are refused with exit code 2', async () => {
  await using machine = createMachine();
  for (const args of [['up', '--nodes', '0'], ['up', '--api-port', '70000'], ['bogus'], ['completion', 'tcsh']])
    assert.equal((await machine.tiphys(args)).code, 2, args.join(' '));
});

test(
  'two ups at once make one platform, on two nodes, that comes back with its data',
  { timeout: 300_000 },
  async () => {
    await using machine = createMachine();
    const both = await Promise.all([machine.tiphys(['up', '--nodes', '2']), machine.tiphys(['up', '--nodes', '2'])]);
    assert.deepEqual(
      both.map((output) => output.code),
      [0, 0],
      both.map((output) => output.stderr).join('\n'),
    );
    assert.match(
      (await machine.kubectl('get', 'nodes', '--no-headers')).stdout,
      /( Ready .*\n){2}|( Ready [^]* Ready )/,
    );

    // Another user of the host, who knows every name: the way to volumes, layers, /dev/shm, database and keys is closed
    // at the top.
    chmodSync(machine.home, 0o755);
    const seen = spawnSync('find', [machine.home], { uid: 65_534, gid: 65_534, encoding: 'utf8' })
      .stdout.trim()
      .split('\n')
      .map((path) => path.slice(machine.home.length));
    assert.deepEqual(seen.filter((path) => !path.startsWith('/user')).sort(), ['', '/data', '/run']);
    for (const path of [
      'data/cluster.db',
      'data/keys.json',
      'run/logs',
      'run/node-1/engine',
      'data/nodes/1/engine/volumes',
    ]) {
      assert.equal(spawnSync('ls', [`${machine.home}/${path}`], { uid: 65_534, gid: 65_534 }).status, 2, path);
      assert.equal(statSync(`${machine.home}/${path}`).mode & 0o077, 0, path);
    }

    assert.equal((await machine.kubectl('create', 'configmap', 'kept', '--from-literal=a=1')).code, 0);
    assert.equal((await machine.tiphys(['down'])).code, 0);
    assert.deepEqual(machine.leftovers(), []);
    assert.equal((await machine.tiphys(['up'])).code, 0);
    assert.match((await machine.kubectl('get', 'configmap', 'kept', '-o', 'jsonpath={.data.a}')).stdout, /^1$/);
    assert.equal((await machine.tiphys(['down'])).code, 0);
    assert.deepEqual(machine.leftovers(), []);
  },
);
