import assert from 'node:assert/strict';
import test from 'node:test';
import type { Readable } from 'node:stream';
import type { Child } from './processes.ts';
import { linuxProcesses } from './processes.linux.ts';

async function textOf(stream: Readable | undefined): Promise<string> {
  let text = '';
  for await (const part of stream as AsyncIterable<Buffer>) text += part.toString();
  return text;
}

function start(script: string) {
  return linuxProcesses.spawn('/bin/sh', ['-c', script], {
    detached: true,
    directory: '/tmp',
    env: { PATH: '/bin:/usr/bin', NAME: 'a value' },
    stderr: 'pipe',
    extra: ['pipe'],
  });
}

test('a session starts in its directory with its environment, both pipes and its exit code', async () => {
  const child = start('pwd >&3; echo "$NAME" >&2; exit 7');
  const [errors, extra, exit] = await Promise.all([textOf(child.stderr), textOf(child.extra[0]), child.exit]);
  assert.equal(errors, 'a value\n');
  assert.equal(extra, '/tmp\n');
  assert.deepEqual(exit, { code: 7, signal: undefined });
});

test('a session has default signals, none blocked, and is its own leader', async () => {
  const child = start('cat /proc/self/status >&3; cut -d" " -f6 /proc/$$/stat >&2');
  const [errors, extra] = await Promise.all([textOf(child.stderr), textOf(child.extra[0]), child.exit]);
  assert.equal(Number(errors), child.pid);
  assert.match(extra, /^SigBlk:\s+0{16}$/m);
  assert.match(extra, /^SigIgn:\s+0{16}$/m);
});

test('a program that is not there is refused by the name of its error', () => {
  assert.throws(
    () =>
      linuxProcesses.spawn('/nowhere/program', [], {
        detached: true,
        directory: '/tmp',
        env: {},
        stderr: 'pipe',
        extra: ['pipe'],
      }),
    { code: 'ENOENT' },
  );
});

test('a session ended by a signal says so', async () => {
  const child = start('kill -KILL $$');
  child.stderr!.resume();
  child.extra[0]!.resume();
  assert.equal((await child.exit).code, 137);
});

test('what is given a pipe of the kernel can open it anew by its name', async () => {
  const child = linuxProcesses.spawn('/bin/sh', ['-c', 'cat /dev/stdin > /dev/stdout; echo e > /dev/stderr; exit 3'], {
    stdin: 'fifo',
    stdout: 'fifo',
    stderr: 'fifo',
  });
  const text = async (stream: AsyncIterable<Buffer>): Promise<string> => {
    let out = '';
    for await (const part of stream) out += part.toString();
    return out;
  };
  child.stdin!.end('typed');
  assert.deepEqual(await Promise.all([text(child.stdout!), text(child.stderr!), child.exit.then((end) => end.code)]), [
    'typed',
    'e\n',
    3,
  ]);
});

test('a program that stays a child has its pipes, its code or signal, and its absence is told by its end', async () => {
  const spawn = (file: string, script: string): Child =>
    linuxProcesses.spawn(file, ['-c', script], { env: { NAME: 'v' }, stdin: 'fifo', stdout: 'fifo', stderr: 'fifo' });
  const child = spawn('/bin/sh', 'read line; echo "$line $NAME"; echo e >&2; exit 5');
  child.stdin!.end('said\n');
  const [said, errors, exit] = await Promise.all([textOf(child.stdout), textOf(child.stderr), child.exit]);
  assert.deepEqual([said, errors, exit], ['said v\n', 'e\n', { code: 5, signal: undefined }]);
  const killed = spawn('/bin/sh', 'kill -TERM $$');
  assert.deepEqual(await killed.exit, { code: 143, signal: 'SIGTERM' });
  await assert.rejects(spawn('/nowhere/program', '').exit, { code: 'ENOENT' });
});
