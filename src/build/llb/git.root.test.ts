/** Sources out of git repositories, served on the loopback by git itself. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ImageRecord } from '#content/image-records.ts';
import type { TestScope } from '#content/testing.ts';
import { realClock } from '#os/clock.real.ts';
import { freePort } from '#os/test-port.ts';
import { openTestBuilder } from '../testing.ts';
import type { TestBuilder } from '../testing.ts';

interface Remote {
  url: string;
  git(...args: string[]): string;
  write(path: string, text: string): void;
}

async function serves(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

/** A repository with two commits: tag `one`, and branch `main`, which has a second file. */
async function serveRepository(t: TestScope): Promise<Remote> {
  const base = mkdtempSync(join(tmpdir(), 'tiphys-git-'));
  const tree = join(base, 'repo.git');
  const env = { PATH: process.env['PATH'] ?? '', HOME: base, GIT_CONFIG_NOSYSTEM: '1' };
  const git = (...args: string[]): string =>
    execFileSync('git', ['-C', tree, '-c', 'user.name=a', '-c', 'user.email=a@b', ...args], { env })
      .toString()
      .trim();
  execFileSync('git', ['init', '-q', '-b', 'main', tree], { env });
  const write = (path: string, text: string): void => writeFileSync(join(tree, path), text);
  write('first', '1');
  git('add', '.');
  git('commit', '-q', '-m', 'one');
  git('tag', '-a', '-m', 'one', 'one');
  write('second', '2');
  git('add', '.');
  git('commit', '-q', '-m', 'two');
  const port = await freePort();
  const args = ['daemon', '--listen=127.0.0.1', `--port=${port}`, `--base-path=${base}`, '--export-all', '--reuseaddr'];
  const daemon = spawn('git', args, { env, stdio: 'ignore', detached: true });
  t.after(() => {
    if (daemon.pid !== undefined) process.kill(-daemon.pid, 'SIGKILL');
    rmSync(base, { recursive: true, force: true });
  });
  while (!(await serves(port))) await realClock.sleep(20);
  return { url: `git://127.0.0.1:${port}/repo.git`, git, write };
}

function build({ builder }: TestBuilder, dockerfile: string): Promise<ImageRecord> {
  return builder.build({
    dockerfile,
    context: undefined,
    tags: [],
    buildArgs: {},
    labels: {},
    noCache: false,
    pull: false,
    run: { network: 'default', extraHosts: [] },
    signal: new AbortController().signal,
    onEvent: () => {},
  });
}

test('ADD takes a commit by tag, branch or digest, without its history unless it is wanted', async (t) => {
  const remote = await serveRepository(t);
  const bench = await openTestBuilder(t);
  const head = remote.git('rev-parse', 'HEAD');
  const record = await build(
    bench,
    `FROM scratch\nADD ${remote.url} /head/\nADD ${remote.url}#one /tag/\nADD ${remote.url}#${head} /commit/\nADD --keep-git-dir=true --checksum=${head} ${remote.url}#main /whole/\n`,
  );
  await bench.read(record.layers, (root) => {
    const names = (path: string): string => readdirSync(join(root, path)).sort().join();
    assert.deepEqual(['head', 'tag', 'commit', 'whole'].map(names), [
      'first,second',
      'first',
      'first,second',
      '.git,first,second',
    ]);
  });
  remote.write('second', 'changed');
  remote.git('commit', '-q', '-a', '-m', 'three');
  const changed = await build(bench, `FROM scratch\nADD ${remote.url} /\n`);
  await bench.read(changed.layers, (root) => assert.equal(readFileSync(join(root, 'second'), 'utf8'), 'changed'));
  assert.ok(
    !existsSync(join(bench.content.root, 'uploads')) || readdirSync(join(bench.content.root, 'uploads')).length === 0,
  );
});

test('what a repository has not, and what is no repository, is told', async (t) => {
  const remote = await serveRepository(t);
  const bench = await openTestBuilder(t);
  for (const [source, flags, expected] of [
    [`${remote.url}#none`, '', /repository does not contain ref none/],
    [`${remote.url}#main:none`, '', /the repository has no directory none/],
    [`${remote.url}#--upload-pack=x`, '', /invalid git reference/],
    [`${remote.url}#main`, `--checksum=${'0'.repeat(40)} `, /expected checksum to match 0+, got [0-9a-f]{40}/],
    [
      remote.url.replace('repo.git', 'other.git'),
      '',
      /failed to run git ls-remote: .*(?:not found|not exported|access denied)/s,
    ],
  ] as const)
    await assert.rejects(build(bench, `FROM scratch\nADD ${flags}${source} /\n`), expected, source);
});
