/** The supervisor of a process that takes another one's place (`heir.ts`), which may be killed at each step of that. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

const script = join(import.meta.dirname, 'supervise.sh');

class Parts implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'tiphys-supervise-'));
  readonly #started: ChildProcess[] = [];

  start(command: string, environment: Record<string, string> = {}): ChildProcess {
    const words = [script, 'part', this.directory, '/dev/null', '/bin/sh', '-c', command];
    const child = spawn('/bin/sh', words, { stdio: 'ignore', env: { ...process.env, ...environment } });
    this.#started.push(child);
    return child;
  }

  read(kind: string): number | undefined {
    try {
      return Number(readFileSync(join(this.directory, `part.${kind}`), 'utf8'));
    } catch {
      return undefined;
    }
  }

  async until(what: string, look: () => boolean): Promise<void> {
    for (let tries = 0; !look(); tries++) {
      assert.ok(tries < 3_000, what);
      await sleep(10);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#started) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGTERM');
      await new Promise((done) => child.once('exit', done));
    }
    rmSync(this.directory, { recursive: true });
  }
}

const heir = { TIPHYS_HEIR: '1' };
const exitOf = (child: ChildProcess): Promise<number | null> => new Promise((done) => child.once('exit', done));

test('an heir that ends before it took over is not started again, and the one before it goes on', async () => {
  await using parts = new Parts();
  const first = parts.start('exec sleep 1000');
  await parts.until('it runs', () => parts.read('pid') !== undefined);
  const before = [parts.read('supervisor'), parts.read('pid')];
  assert.equal(before[0], first.pid);
  assert.equal(await exitOf(parts.start('exit 3', heir)), 3);
  assert.deepEqual([parts.read('supervisor'), parts.read('pid')], before);
});

test('an heir that ends after it has begun to take over is started again, as no heir', async () => {
  await using parts = new Parts();
  const first = parts.start('exec sleep 1000');
  await parts.until('it runs', () => parts.read('pid') !== undefined);
  const firstPid = parts.read('pid');
  const file = join(parts.directory, 'part.supervisor');
  // Says who it is, and is killed then.
  const second = parts.start(`[ -n "$TIPHYS_HEIR" ] || exec sleep 1000; echo $PPID >${file}; kill -9 $$`, heir);
  await parts.until('it has another process', () => parts.read('supervisor') === second.pid && isOther());
  function isOther(): boolean {
    const pid = parts.read('pid');
    return pid !== undefined && readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('sleep') && pid !== firstPid;
  }
  const gone = exitOf(first);
  first.kill('SIGTERM');
  await gone;
  assert.equal(parts.read('supervisor'), second.pid, 'who ends takes no files of another');
});
