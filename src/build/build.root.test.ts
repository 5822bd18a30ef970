/** Builds by the classic API. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { existsSync, lstatSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { encodeFileName } from '#base/file-names.ts';
import { formatPlatform, hostPlatform, parsePlatform } from '#base/platform.ts';
import { encodeTarFile, tarEnd } from '#base/tar-write.ts';
import type { ImageRecord } from '#content/image-records.ts';
import { bytesOf } from '#content/testing.ts';
import type { TestScope } from '#content/testing.ts';
import { realClock } from '#os/clock.real.ts';
import type { RunRequest } from './runner.ts';
import { openTestBuilder } from './testing.ts';

interface Bench {
  build(
    dockerfile: string,
    options?: {
      files?: Record<string, string | Buffer>;
      platform?: string;
      args?: Record<string, string>;
      target?: string;
      noCache?: boolean;
      signal?: AbortSignal;
      tags?: string[];
      ignore?: string;
    },
  ): Promise<{ record: ImageRecord; text: string }>;
  runs: RunRequest[];
  read(record: ImageRecord, look: (root: string) => void): Promise<void>;
  root: string;
  collect(): Promise<number>;
}

async function makeBench(t: TestScope): Promise<Bench> {
  const { builder, content, runs, read } = await openTestBuilder(t);
  return {
    runs,
    root: content.root,
    collect: () => content.collect({ evenYoung: true }),
    async build(dockerfile, options = {}) {
      const files = {
        ...options.files,
        Dockerfile: dockerfile,
        ...(options.ignore === undefined ? {} : { '.dockerignore': options.ignore }),
      };
      await using context = await builder.receiveContext(
        bytesOf(
          ...Object.entries(files).map(([path, text]) =>
            encodeTarFile({ path }, typeof text === 'string' && path === 'Dockerfile' ? encodeFileName(text) : text),
          ),
          tarEnd,
        ),
        { dockerfile: 'Dockerfile' },
      );
      let text = '';
      const record = await builder.build({
        dockerfile,
        context,
        tags: options.tags ?? [],
        buildArgs: options.args ?? {},
        labels: {},
        noCache: options.noCache ?? false,
        pull: false,
        run: { network: 'default', extraHosts: [] },
        signal: options.signal ?? new AbortController().signal,
        onEvent: (event) => {
          if (typeof event['stream'] === 'string') text += event['stream'];
        },
        ...(options.target === undefined ? {} : { target: options.target }),
        ...(options.platform === undefined ? {} : { platform: parsePlatform(options.platform) }),
      });
      return { record, text };
    },
    read: (record, look) => read(record.layers, look),
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

test("a command's work becomes a layer, also what it deleted", async (t) => {
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
  const file =
    'FROM base AS a\nRUN ["write","/a","a"]\nFROM base AS unused\nRUN ["fail","9"]\nFROM base AS b\nRUN ["write","/b","b"]\nFROM scratch\nCOPY --from=a /a /x/\nCOPY --from=b /b /x/\n';
  const { record, text } = await bench.build(file);
  assert.match(text, /Step 7\/7/);
  await bench.read(record, (root) => assert.deepEqual(readdirSync(join(root, 'x')).sort(), ['a', 'b']));
  assert.equal((await bench.build(file, { target: 'a' })).record.layers.length, 2);
  await assert.rejects(bench.build(file, { target: 'zzz' }), /failed to reach build target zzz in Dockerfile/);
});

test("copies follow docker's rules for directories, owners, modes and links", async (t) => {
  const bench = await makeBench(t);
  const { record } = await bench.build(
    'FROM base\nCOPY d /out\nCOPY d/a d/b /many/\nCOPY d/a /renamed\nCOPY --chown=web:staff --chmod=600 d/a /owned\nCOPY d/a /bin/\nCOPY *.txt /glob/\nCOPY <<EOF /here\n$HOME text\nEOF\n',
    { files: { 'd/a': '1', 'd/b': '2', 'x.txt': 'x', 'y.txt': 'y' } },
  );
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
  await assert.rejects(
    bench.build('FROM base\nCOPY secret /\n', { files: { secret: 's' }, ignore: 'secret\n' }),
    /excluded by .dockerignore/,
  );
  await assert.rejects(
    bench.build('FROM base\nCOPY a b /c\n', { files: { a: '', b: '' } }),
    /destination must be a directory and end with a \//,
  );
});

test('arguments have the scope of their stage, and the environment hides them', async (t) => {
  const bench = await makeBench(t);
  await bench.build('ARG G=global\nFROM base\nARG G\nARG L=local\nARG E=arg\nENV E=env\nRUN ["say","x"]\n', {
    args: { L: 'given' },
  });
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
  await bench.read(record, (root) =>
    assert.deepEqual([readFileSync(join(root, 'f'), 'utf8'), readFileSync(join(root, 't'), 'utf8')], ['f', 't']),
  );
});

test('a failed command fails the build with its exit code and leaves nothing', async (t) => {
  const bench = await makeBench(t);
  await assert.rejects(
    bench.build('FROM base\nRUN ["fail","7"]\n'),
    (error: unknown) =>
      error instanceof Error &&
      error.message === "The command 'fail 7' returned a non-zero code: 7" &&
      (error as Error & { exitCode?: number }).exitCode === 7,
  );
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
  await assert.rejects(
    bench.build('FROM base\nADD evil.tar /\n', {
      files: { 'evil.tar': Buffer.concat([encodeTarFile({ path: '../../evil' }, 'x'), tarEnd]).toString('latin1') },
    }),
    /escapes the root|invalid tar/,
  );
});

test('ADD unpacks what is an archive, whatever it is called and however it is compressed', async (t) => {
  const bench = await makeBench(t);
  const tar = Buffer.concat([encodeTarFile({ path: 'in' }, 'x'), tarEnd]);
  const compress = (program: string, bytes: Buffer): Buffer => execFileSync(program, ['-c'], { input: bytes });
  const files: Record<string, Buffer> = {
    'x.tar.xz': compress('xz', tar),
    y: compress('bzip2', tar),
    'rootfs.gz': gzipSync(tar),
    z: zstdCompressSync(tar),
    'short.tar': tar.subarray(0, 512 + 1),
    'note.tar': Buffer.from('no archive'.repeat(100)),
    'text.gz': gzipSync('text'),
    'text.xz': compress('xz', Buffer.from('text')),
  };
  const names = Object.keys(files);
  const { record } = await bench.build(
    `FROM base\n${names.map((name, index) => `ADD ${name} /${index}/\n`).join('')}ADD --unpack=false y /raw/\nCOPY y /copied/\n`,
    { files },
  );
  await bench.read(record, (root) => {
    assert.deepEqual(
      names.map((_, index) => readdirSync(join(root, String(index))).join()),
      ['in', 'in', 'in', 'in', 'in', 'note.tar', 'text.gz', 'text.xz'],
    );
    assert.deepEqual([readdirSync(join(root, 'raw')), readdirSync(join(root, 'copied'))], [['y'], ['y']]);
  });
  const damaged = Buffer.from(
    compress('xz', Buffer.concat([encodeTarFile({ path: 'in' }, randomBytes(100_000)), tarEnd])),
  );
  damaged[60_000]! ^= 1;
  await assert.rejects(
    bench.build('FROM base\nADD d /d/\n', { files: { d: damaged } }),
    /failed to decompress|Compressed data is corrupt/,
  );
});

test('what is kept out of an ignored directory is copied, and nothing else of it', async (t) => {
  const bench = await makeBench(t);
  const files = { 'd/keep': 'k', 'd/drop': 'x', 'd/sub/deep/keep': 'k', 'd/sub/drop': 'x', 'e/drop': 'x', a: 'a' };
  const { record } = await bench.build('FROM base\nCOPY . /c/\nCOPY d /d/\n', {
    files,
    ignore: 'd\n!d/keep\n!d/sub/deep\ne\n',
  });
  await bench.read(record, (root) => {
    assert.deepEqual(
      ['c', 'c/d', 'c/d/sub', 'c/d/sub/deep', 'd'].map((path) => readdirSync(join(root, path)).sort().join()),
      ['.dockerignore,Dockerfile,a,d', 'keep,sub', 'deep', 'keep', 'keep,sub'],
    );
  });
});

test('a stage number is a stage or an error, and a letter of an image id is a name', async (t) => {
  const bench = await makeBench(t);
  const { record } = await bench.build('FROM base\n', { tags: ['other'] });
  const digit = /\d/.exec(record.id.slice(7))![0];
  await assert.rejects(
    bench.build('FROM base\nCOPY --from=9 /etc/passwd /y\n'),
    /invalid from flag value 9: index out of bounds/,
  );
  await assert.rejects(
    bench.build('FROM base\nCOPY --from=0 /etc/passwd /y\n'),
    /invalid from flag value 0: refers to current build stage/,
  );
  for (const name of [record.id.slice(7, 8), record.id.slice(7, 12), digit])
    await assert.rejects(
      bench.build(`FROM ${name}\nENV A=1\n`),
      /No registry|ENOTFOUND|EAI_AGAIN|getaddrinfo|not found|connect|pull access/,
      name,
    );
  assert.equal((await bench.build(`FROM ${record.id.slice(7, 19)}\nENV A=1\n`)).record.parent, record.id);
});

test('file names of any bytes go through context, patterns, cache and layer', async (t) => {
  const bench = await makeBench(t);
  const dockerfile = 'FROM base\nCOPY f? /all/\nCOPY f\udce4 /one\nRUN ["write","/x","1"]\n';
  const first = await bench.build(dockerfile, { files: { 'f\udce4': 'a', 'f\udce5': 'b' } });
  const other = await bench.build(dockerfile, { files: { 'f\udce4': 'b', 'f\udce5': 'a' } });
  assert.notEqual(first.record.id, other.record.id);
  await bench.read(other.record, (root) => {
    assert.deepEqual(
      readdirSync(join(root, 'all'), { encoding: 'buffer' })
        .map((each) => each.toString('latin1'))
        .sort(),
      ['f\xe4', 'f\xe5'],
    );
    assert.equal(readFileSync(join(root, 'one'), 'utf8'), 'b');
  });
});

test('a build for another platform says so to its steps and in its image', async (t) => {
  const bench = await makeBench(t);
  const { record } = await bench.build(
    'FROM --platform=linux/arm64/v8 scratch\nARG TARGETPLATFORM\nENV T=$TARGETPLATFORM\n',
  );
  // The stage runs on another platform; what is built is for this one still.
  const host = formatPlatform(hostPlatform());
  assert.deepEqual([record.file.architecture, record.file.config?.Env?.at(-1)], ['arm64', `T=${host}`]);
  const whole = await bench.build('FROM scratch\nARG TARGETARCH\nARG BUILDARCH\nENV T=$TARGETARCH\n', {
    platform: 'linux/arm/v6',
  });
  assert.deepEqual(
    [whole.record.file.architecture, whole.record.file.variant, whole.record.file.config?.Env?.at(-1)],
    ['arm', 'v6', 'T=arm'],
  );
  const same = 'FROM scratch\nENV SAME=1\n';
  assert.deepEqual(
    [
      (await bench.build(same, { platform: 'linux/arm64' })).record.file.architecture,
      (await bench.build(same, { platform: 'linux/riscv64' })).record.file.architecture,
    ],
    ['arm64', 'riscv64'],
  );
  await assert.rejects(bench.build('FROM --platform=a/b/c/d scratch\nENV A=1\n'), /cannot parse platform specifier/);
  await assert.rejects(
    bench.build('FROM base\nENV A=1\n', { platform: 'linux/s390x' }),
    /s390x|getaddrinfo|not found|pull access|connect/,
  );
});

test('flags that need BuildKit are refused, not dropped', async (t) => {
  const bench = await makeBench(t);
  for (const [line, expected] of [
    ['RUN --security=insecure true', /security\.insecure is not allowed/],
    ['RUN --device=x true', /--device option needs an entitlement/],
    ['RUN --network=nowhere true', /unsupported network mode/],
    ['RUN --mount=type=secret,target=/s true', /requires BuildKit/],
    [`ADD --checksum=sha256:${'0'.repeat(64)} a /`, /checksum is only supported for sources that are URLs/],
  ] as const) {
    await assert.rejects(bench.build(`FROM base\n${line}\n`, { files: { a: '' } }), expected, line);
  }
});

test('copies of one file are files of their own, and look as each copy says', async (t) => {
  const bench = await makeBench(t);
  const { record } = await bench.build(
    'FROM scratch\nCOPY f f /a/\nCOPY f /b\nCOPY --chmod=600 f /c\nCOPY --chown=7:8 f /d\nCOPY d /e/\n',
    { files: { f: 'f', 'd/x': 'x', 'd/y': 'x' } },
  );
  await bench.read(record, (root) => {
    const about = (path: string): string => {
      const { mode, uid, gid } = statSync(join(root, path));
      return [path, (mode & 0o777).toString(8), uid, gid].join(' ');
    };
    assert.deepEqual(['a/f', 'b', 'c', 'd', 'e/x'].map(about), [
      'a/f 644 0 0',
      'b 644 0 0',
      'c 600 0 0',
      'd 644 7 8',
      'e/x 644 0 0',
    ]);
    assert.notEqual(statSync(join(root, 'e/x')).ino, statSync(join(root, 'e/y')).ino);
  });
});

test("what is not there is told in the classic builder's words", async (t) => {
  const bench = await makeBench(t);
  for (const [line, expected] of [
    ['ADD http://127.0.0.1:1/f /', /^ADD failed: Get "http:/],
    ['ADD http://[1/f /', /^ADD failed: invalid URL/],
    ['COPY none /', /^COPY failed: file not found in build context or excluded by .dockerignore: stat none: file/],
    ['COPY none* /', /^COPY failed: no source files were specified/],
  ] as const)
    await assert.rejects(bench.build(`FROM base\n${line}\n`, { files: { a: '' } }), { message: expected }, line);
});
