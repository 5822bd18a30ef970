/** Builds with a runner that obeys a few words instead of starting containers: everything but the processes is real. */
import assert from 'node:assert/strict';
import { existsSync, lstatSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { encodeTarFile, encodeTarHeader, tarEnd } from '#base/tar.ts';
import { createImageRecords } from '#content/image-records.ts';
import type { ImageRecord } from '#content/image-records.ts';
import { HttpTransport } from '#content/remote.ts';
import { createSnapshots } from '#content/snapshots.ts';
import { bytesOf, openTestContent } from '#content/testing.ts';
import type { TestScope } from '#content/testing.ts';
import { createImages } from '#engine/images.ts';
import { silentLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { createMounts } from '#os/mount.linux.ts';
import { createBuilder } from './builder.ts';
import type { BuildRunner, RunRequest } from './runner.ts';

interface Bench { build(dockerfile: string, options?: { files?: Record<string, string>; args?: Record<string, string>; target?: string; noCache?: boolean; signal?: AbortSignal; tags?: string[]; ignore?: string }): Promise<{ record: ImageRecord; text: string }>; runs: RunRequest[]; read(record: ImageRecord, look: (root: string) => void): Promise<void>; root: string; collect(): Promise<number> }

async function makeBench(t: TestScope): Promise<Bench> {
  const content = await openTestContent(t);
  const records = createImageRecords(content);
  const mounts = createMounts();
  const snapshots = createSnapshots({ content, images: records, mounts });
  const transport = new HttpTransport({});
  t.after(() => transport.close());
  const images = createImages({ content, records, clock: realClock, log: silentLogger, transport, emit: () => {} });
  await images.import(bytesOf(encodeTarHeader({ path: 'etc', type: 'directory', mode: 0o755 }), encodeTarFile({ path: 'etc/passwd' }, 'web:x:33:44::/:\n'), encodeTarFile({ path: 'etc/group' }, 'staff:x:50:\n'), encodeTarHeader({ path: 'bin', type: 'symlink', linkTarget: 'usr/bin' }), encodeTarHeader({ path: 'usr/bin', type: 'directory', mode: 0o755 }), tarEnd), { name: 'base' });
  const runs: RunRequest[] = [];
  const runner: BuildRunner = {
    async run(request) {
      runs.push(request);
      const { root } = await snapshots.mountContainerRoot(request.id, request.imageId);
      const [verb, path, text] = request.command;
      if (verb === 'write') writeFileSync(join(root, path!), text!);
      if (verb === 'delete') rmSync(join(root, path!), { recursive: true });
      if (verb === 'say') request.onOutput(Buffer.from(`${path}\n`));
      if (verb === 'wait') await realClock.sleep(60_000, request.signal).catch(() => {});
      return { exitCode: verb === 'fail' ? Number(path) : 0 };
    },
    remove: (id) => snapshots.removeContainerRoot(id),
    removeStale: async () => {},
  };
  const builder = createBuilder({ content, images, records, snapshots, runner, clock: realClock, random: realRandom });
  return {
    runs, root: content.root, collect: () => content.collect({ evenYoung: true }),
    async build(dockerfile, options = {}) {
      const files = { ...options.files, Dockerfile: dockerfile, ...(options.ignore === undefined ? {} : { '.dockerignore': options.ignore }) };
      await using context = await builder.receiveContext(bytesOf(...Object.entries(files).map(([path, text]) => encodeTarFile({ path }, text)), tarEnd), 'Dockerfile');
      let text = '';
      const record = await builder.build({
        dockerfile, context, tags: options.tags ?? [], buildArgs: options.args ?? {}, labels: {}, noCache: options.noCache ?? false, pull: false, run: { network: 'default', extraHosts: [] },
        signal: options.signal ?? new AbortController().signal, onEvent: (event) => { if (typeof event['stream'] === 'string') text += event['stream']; }, ...(options.target === undefined ? {} : { target: options.target }),
      });
      return { record, text };
    },
    async read(record, look) {
      const { root } = await snapshots.mountReadOnly('look', record.layers);
      try { look(root); } finally { await snapshots.removeContainerRoot('look'); }
    },
  };
}

test('a repeated build runs nothing and gives the same image', async (t) => {
  const bench = await makeBench(t);
  const file = 'FROM base\nENV X=1\nRUN ["write","/a","1"]\nCOPY f /dir/\nWORKDIR /w\n';
  const first = await bench.build(file, { files: { f: 'x' } });
  const again = await bench.build(file, { files: { f: 'x' } });
  assert.deepEqual([again.record.id, bench.runs.length], [first.record.id, 1]);
  assert.match(again.text, /Step 3\/5 : RUN .*\n ---> Using cache\n/);
  const changed = await bench.build(file, { files: { f: 'y' } });
  assert.deepEqual([changed.record.id === first.record.id, bench.runs.length], [false, 1]);
  await bench.build(file, { files: { f: 'x' }, noCache: true });
  assert.equal(bench.runs.length, 2);
});

test('a command\'s work becomes a layer, also what it deleted', async (t) => {
  const bench = await makeBench(t);
  const { record } = await bench.build('FROM base\nRUN ["write","/etc/new","1"]\nRUN ["delete","/etc/group"]\n');
  await bench.read(record, (root) => {
    assert.equal(readFileSync(join(root, 'etc/new'), 'utf8'), '1');
    assert.equal(existsSync(join(root, 'etc/group')), false);
    assert.equal(existsSync(join(root, 'etc/passwd')), true);
  });
});

test('stages that the target does not need are not built, the others may run at the same time', async (t) => {
  const bench = await makeBench(t);
  const file = 'FROM base AS a\nRUN ["write","/a","a"]\nFROM base AS unused\nRUN ["fail","9"]\nFROM base AS b\nRUN ["write","/b","b"]\nFROM scratch\nCOPY --from=a /a /x/\nCOPY --from=b /b /x/\n';
  const { record, text } = await bench.build(file);
  assert.match(text, /Step 7\/7/);
  await bench.read(record, (root) => assert.deepEqual(readdirSync(join(root, 'x')).sort(), ['a', 'b']));
  assert.equal((await bench.build(file, { target: 'a' })).record.layers.length, 2);
  await assert.rejects(bench.build(file, { target: 'zzz' }), /failed to reach build target zzz in Dockerfile/);
});

test('copies follow docker\'s rules for directories, owners, modes and links', async (t) => {
  const bench = await makeBench(t);
  const { record } = await bench.build('FROM base\nCOPY d /out\nCOPY d/a d/b /many/\nCOPY d/a /renamed\nCOPY --chown=web:staff --chmod=600 d/a /owned\nCOPY d/a /bin/\nCOPY *.txt /glob/\nCOPY <<EOF /here\n$HOME text\nEOF\n', { files: { 'd/a': '1', 'd/b': '2', 'x.txt': 'x', 'y.txt': 'y' } });
  await bench.read(record, (root) => {
    assert.deepEqual(readdirSync(join(root, 'out')).sort(), ['a', 'b']);
    assert.deepEqual(readdirSync(join(root, 'many')).sort(), ['a', 'b']);
    assert.ok(statSync(join(root, 'renamed')).isFile());
    const owned = statSync(join(root, 'owned'));
    assert.deepEqual([owned.uid, owned.gid, owned.mode & 0o777], [33, 50, 0o600]);
    assert.ok(lstatSync(join(root, 'bin')).isSymbolicLink() && statSync(join(root, 'usr/bin/a')).isFile());
    assert.deepEqual(readdirSync(join(root, 'glob')).sort(), ['x.txt', 'y.txt']);
    assert.equal(readFileSync(join(root, 'here'), 'utf8'), ' text\n');
  });
  await assert.rejects(bench.build('FROM base\nCOPY ../../etc/passwd2 /\n'), /file does not exist/);
  await assert.rejects(bench.build('FROM base\nCOPY secret /\n', { files: { secret: 's' }, ignore: 'secret\n' }), /excluded by .dockerignore/);
  await assert.rejects(bench.build('FROM base\nCOPY a b /c\n', { files: { a: '', b: '' } }), /destination must be a directory and end with a \//);
});

test('arguments have the scope of their stage, and the environment hides them', async (t) => {
  const bench = await makeBench(t);
  await bench.build('ARG G=global\nFROM base\nARG G\nARG L=local\nARG E=arg\nENV E=env\nRUN ["say","x"]\n', { args: { L: 'given' } });
  const { env } = bench.runs[0]!;
  assert.ok(env.includes('G=global') && env.includes('L=given') && env.includes('E=env') && !env.includes('E=arg'));
  const { text } = await bench.build('FROM base\nENV A=1\n', { args: { NOBODY: 'x' } });
  assert.match(text, /One or more build-args \[NOBODY\] were not consumed/);
});

test('triggers of the base image run in the child', async (t) => {
  const bench = await makeBench(t);
  await bench.build('FROM base\nONBUILD COPY f /f\nONBUILD RUN ["write","/t","t"]\n', { tags: ['parent'] });
  const { record, text } = await bench.build('FROM parent\n', { files: { f: 'f' } });
  assert.match(text, /# Executing 2 build triggers/);
  await bench.read(record, (root) => assert.deepEqual([readFileSync(join(root, 'f'), 'utf8'), readFileSync(join(root, 't'), 'utf8')], ['f', 't']));
});

test('a failed command fails the build with its exit code and leaves nothing', async (t) => {
  const bench = await makeBench(t);
  await assert.rejects(bench.build('FROM base\nRUN ["fail","7"]\n'), (error: unknown) => error instanceof Error && error.message === "The command 'fail 7' returned a non-zero code: 7" && (error as Error & { exitCode?: number }).exitCode === 7);
  assert.deepEqual([readdirSync(join(bench.root, 'containers')), readdirSync(join(bench.root, 'uploads'))], [[], []]);
});

test('a build that is given up stops its command and leaves nothing', async (t) => {
  const bench = await makeBench(t);
  const controller = new AbortController();
  const building = bench.build('FROM base\nRUN ["wait"]\n', { signal: controller.signal });
  while (bench.runs.length === 0) await realClock.sleep(5);
  controller.abort(new Error('gone'));
  await assert.rejects(building, /gone/);
  assert.deepEqual(readdirSync(join(bench.root, 'containers')), []);
});

test('an archive in the context that climbs out is refused', async (t) => {
  const bench = await makeBench(t);
  await assert.rejects(bench.build('FROM base\nADD evil.tar /\n', { files: { 'evil.tar': Buffer.concat([encodeTarFile({ path: '../../evil' }, 'x'), tarEnd]).toString('latin1') } }), /escapes the root|invalid tar/);
});
