import assert from 'node:assert/strict';
import { PassThrough, Writable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { test } from 'node:test';
import { settle, SimClock, SimRandom } from '#os/clock.sim.ts';
import { ContainerLog } from './container-log.ts';
import { runAttach, runExec } from './pod-exec.ts';
import type { ExecContext, PodScript } from './pod-script.ts';

const euro = Buffer.from('€');

class Sink extends Writable {
  bytes = Buffer.alloc(0);
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.bytes = Buffer.concat([this.bytes, chunk]);
    done();
  }
  get text(): string {
    return this.bytes.toString();
  }
}

function speak(script: PodScript, { tty = false, stdinOnce = false } = {}) {
  const clock = new SimClock(0);
  const [stdin, stdout, stderr, leave] = [new PassThrough(), new Sink(), new Sink(), new AbortController()];
  const log = new ContainerLog([], 0, 0);
  const spoken = {
    script,
    log,
    tty,
    openStdin: true,
    stdinOnce,
    context: {
      pod: {
        apiVersion: 'v1' as const,
        kind: 'Pod' as const,
        metadata: { name: 'p', namespace: 'd', uid: 'u', resourceVersion: '1', creationTimestamp: '' },
        spec: { containers: [{ name: 'c' }] },
      },
      container: 'c',
      attempt: 0,
      nowMs: 0,
      random: new SimRandom(1),
    },
  };
  const exec = (command: string[] = ['it'], streams = {}): Promise<number> =>
    runExec({
      spoken,
      spec: { command, tty },
      streams: { stdin, stdout, stderr, ...streams },
      clock,
      signal: leave.signal,
    });
  return {
    clock,
    stdin,
    stdout,
    stderr,
    leave,
    log,
    exec,
    attach: () => runAttach(spoken, { stdin, stdout, stderr }, clock, leave.signal),
  };
}

function run(script: (context: ExecContext) => Promise<number>, options = {}) {
  return speak({ exec: async (_command, context) => ({ exitCode: await script(context) }) }, options);
}

test('characters may come in two pieces, to a program and from it', async () => {
  for (const tty of [false, true]) {
    const it = run(
      async ({ stdin, stdout }) => {
        const heard: Buffer[] = [];
        for await (const chunk of stdin) heard.push(Buffer.from(chunk as Uint8Array));
        for (const byte of euro) stdout.write(Buffer.of(byte));
        stdout.write(`\n${Buffer.concat(heard).toString()}`);
        return 0;
      },
      { tty },
    );
    const done = it.exec();
    for (const byte of euro) {
      it.stdin.write(Buffer.of(byte));
      await setImmediate();
    }
    it.stdin.end(tty ? '\n\x04' : '\n');
    assert.equal(await done, 0);
    assert.equal(it.stdout.text, tty ? '€\r\n€\r\n€\r\n' : '€\n€\n');
  }
  const attached = speak({ input: (text) => `<${text}>` });
  const done = attached.attach();
  for (const byte of euro) {
    attached.stdin.write(Buffer.of(byte));
    await setImmediate();
  }
  attached.log.end(0);
  await done;
  assert.equal(attached.stdout.text, '<€>');
});

test('what a program writes when nobody listens any more is dropped', async () => {
  let late: ExecContext | undefined;
  const it = run(async (context) => {
    late = context;
    return 3;
  });
  assert.equal(await it.exec(), 3);
  late!.stdout.write('late');
  late!.stderr.write('late');
  await setImmediate();
  assert.deepEqual([it.stdout.text, it.stderr.text], ['', '']);
});

test('a client that leaves without a word holds nothing up, and a command that ends lets its client go on', async () => {
  const gone = run(async ({ stdout, signal }) => {
    stdout.write('never taken');
    await new Promise((resolve) => {
      signal.addEventListener('abort', resolve);
    });
    return 0;
  });
  const stuck = new Writable({ write: () => undefined });
  const done = gone.exec(['it'], { stdout: stuck });
  await settle();
  gone.leave.abort();
  assert.equal(await done, 137);
  const deaf = run(async () => 0);
  for (let at = 0; at < 20; at++) deaf.stdin.write(Buffer.alloc(16_384));
  assert.equal(await deaf.exec(), 0);
  await new Promise((resolve) => {
    deaf.stdin.end(resolve);
  });
});

test('a stream that fails takes neither the other one nor the exit code away', async () => {
  const it = run(async ({ stdout, stderr }) => {
    stdout.write('x');
    stderr.write('still here');
    return 5;
  });
  const broken = new Writable({
    write: (_chunk, _encoding, done) => {
      done(new Error('broken'));
    },
  });
  broken.on('error', () => undefined);
  assert.equal(await it.exec(['it'], { stdout: broken }), 5);
  assert.equal(it.stderr.text, 'still here');
});

test('who detaches leaves the input to the next one; one that is for once is closed', async () => {
  for (const stdinOnce of [false, true]) {
    const heard: string[] = [];
    const it = speak(
      {
        input: (text) => {
          heard.push(text);
          return undefined;
        },
      },
      { stdinOnce },
    );
    const done = it.attach();
    it.stdin.write('a');
    await settle();
    it.leave.abort();
    await done;
    it.stdin.write('not for the container');
    await setImmediate();
    assert.deepEqual(heard, stdinOnce ? ['a', ''] : ['a']);
  }
});
