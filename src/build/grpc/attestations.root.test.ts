/** What is attested of images: provenance of two versions and modes, and what a scanner finds. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { formatPlatform, hostPlatform } from '#base/platform.ts';
import { readTar } from '#base/tar-read.ts';
import { fieldOf } from '#base/unknown.ts';
import type { Message } from '#grpc/fields.ts';
import type { Index, Manifest } from '#content/manifest.ts';
import { bytesOf } from '#content/testing.ts';
import { parseFields } from './attestations.ts';
import { GrpcError, code } from '#grpc/errors.ts';
import { unary } from './grpc.ts';

import { dockerfile, makeBench, send } from './testing.ts';
import type { Bench } from './testing.ts';

const host = formatPlatform(hostPlatform());
const foreign = hostPlatform().architecture === 'arm64' ? 'linux/amd64' : 'linux/arm64';

interface Found {
  subject: { name: string; digest: Record<string, string> }[];
  predicateType: string;
  predicate: unknown;
}

async function readJson<T>({ content }: Bench, digest: string): Promise<T> {
  return JSON.parse((await content.blobs.readBytes(digest, 1 << 20)).toString()) as T;
}

/** Statements about each manifest of the index that the name stands for. */
async function statementsOf(bench: Bench, name: string): Promise<Map<string, Found[]>> {
  const found = new Map<string, Found[]>();
  const index = bench.records.findTarget(name)?.index;
  for (const { descriptor, kind, content } of index?.manifests ?? []) {
    if (kind !== 'attestation') continue;
    assert.ok(content !== undefined, 'the attestation is kept');
    assert.equal(formatPlatform(descriptor.platform!), 'unknown/unknown');
    const { layers } = await readJson<Manifest>(bench, descriptor.digest);
    const statements = await Promise.all(layers.map(({ digest }) => readJson<Found>(bench, digest)));
    for (const [at, layer] of layers.entries())
      assert.deepEqual(
        [layer.mediaType, layer.annotations],
        ['application/vnd.in-toto+json', { 'in-toto.io/predicate-type': statements[at]!.predicateType }],
      );
    found.set(descriptor.annotations!['vnd.docker.reference.digest']!, statements);
  }
  return found;
}

const secret = {
  '/moby.buildkit.secrets.v1.Secrets/GetSecret': unary(async ({ request }) => {
    if (request['ID'] !== 'token') throw new GrpcError(code.notFound, 'not found');
    return { data: Buffer.from('hidden') };
  }),
};

const files = dockerfile('FROM base\nARG A\nRUN --mount=type=secret,id=token ["write","/f","1"]\nCOPY empty /empty\n');

async function build(bench: Bench, attributes: Record<string, string>, name = 'x'): Promise<void> {
  const attests = Object.fromEntries(Object.entries(attributes).filter(([key]) => key.startsWith('attest:')));
  await bench.build(
    {
      filename: 'Dockerfile',
      'build-arg:A': 'argument',
      'label:l': 'label',
      'vcs:source': 'https://u:p@host/x',
      ...attributes,
    },
    { Exporters: [{ Type: 'moby', Attrs: { name } }], FrontendAttrs: attests },
  );
}

test('provenance tells the front end, the sources, and with mode=max the graph and the text', async (t) => {
  const bench = await makeBench(t, { files, serves: secret });
  await build(bench, { 'attest:provenance': 'mode=max,builder-id=me' });
  const { image, index } = bench.records.findTarget('x')!;
  const found = await statementsOf(bench, 'x');
  assert.deepEqual([...found.keys()], [image.manifestDigest]);
  const [statement, ...others] = found.get(image.manifestDigest)!;
  assert.deepEqual(others, []);
  const platform = encodeURIComponent(host);
  assert.deepEqual(statement!.subject, [
    { name: `pkg:docker/x@latest?platform=${platform}`, digest: { sha256: image.manifestDigest.slice(7) } },
  ]);
  assert.equal(statement!.predicateType, 'https://slsa.dev/provenance/v1');
  const { predicate } = statement!;
  const definition = (...path: string[]): unknown => fieldOf(predicate, 'buildDefinition', ...path);
  const base = bench.records.find('base')!;
  assert.deepEqual(definition('resolvedDependencies'), [
    { uri: `pkg:docker/base@latest?platform=${platform}`, digest: { sha256: base.manifestDigest.slice(7) } },
  ]);
  assert.deepEqual(definition('externalParameters'), {
    configSource: { path: 'Dockerfile' },
    request: {
      frontend: 'dockerfile.v0',
      args: { 'build-arg:A': 'argument', 'label:l': 'label' },
      secrets: [{ id: 'token', optional: true }],
      locals: [{ name: 'context' }, { name: 'dockerfile' }],
    },
  });
  assert.equal(definition('internalParameters', 'targetPlatform'), host);
  const steps = definition('internalParameters', 'buildConfig', 'llbDefinition') as { id: string; inputs?: string[] }[];
  assert.deepEqual(
    steps.map(({ id }) => id),
    steps.map((_, at) => `step${at}`),
  );
  // The last one says which of them is meant.
  assert.deepEqual([steps.at(-1)!.inputs, steps.at(-2)!.inputs?.length], [[`${steps.at(-2)!.id}:0`], 2]);
  const metadata = (...path: string[]): unknown => fieldOf(predicate, 'runDetails', 'metadata', ...path);
  // Each step of the image itself, with the layers that it has up to there.
  const layers = metadata('buildkit_metadata', 'layers') as Record<string, { digest: string }[][]>;
  const digests = image.layers.map(({ digest }) => digest);
  const chains = Object.values(layers).map((each) => each.map((chain) => chain.map(({ digest }) => digest)));
  assert.deepEqual(
    chains,
    digests.map((_, at) => [digests.slice(0, digests.length - at)]),
  );
  assert.deepEqual(Object.keys(layers)[0], `${steps.at(-2)!.id}:0`);
  const [info, ...more] = metadata('buildkit_metadata', 'source', 'infos') as Record<string, unknown>[];
  assert.deepEqual(
    [more, info!['filename'], Object.keys(info!['digestMapping'] as object).length],
    [[], 'Dockerfile', 1],
  );
  assert.equal(fieldOf(predicate, 'runDetails', 'builder', 'id'), 'me');
  assert.deepEqual(metadata('buildkit_metadata', 'vcs'), { source: 'https://xxxxx:xxxxx@host/x' });
  assert.deepEqual(metadata('buildkit_completeness'), { request: true, resolvedDependencies: false });
  const [text] = metadata('buildkit_metadata', 'source', 'infos') as { data: string }[];
  assert.match(Buffer.from(text!.data, 'base64').toString(), /^FROM base\n/);
  assert.ok(!JSON.stringify(predicate).includes('hidden'));
  // The list of images is what it was: one, by the id of its configuration.
  assert.deepEqual(bench.records.listShown().filter(({ id }) => id === image.id).length, 1);
  assert.equal((await readJson<Index>(bench, index!.digest)).manifests.length, 2);
});

test('mode=min names no argument, label or secret; version 0.2 says the same in its words', async (t) => {
  const bench = await makeBench(t, { files, serves: secret });
  await build(bench, { 'attest:provenance': 'mode=min,version=v0.2' });
  const [[statement]] = [...(await statementsOf(bench, 'x')).values()] as [[Found]];
  assert.equal(statement.predicateType, 'https://slsa.dev/provenance/v0.2');
  const text = JSON.stringify(statement.predicate);
  for (const word of ['argument', 'label', 'token', 'llbDefinition', 'FROM base'])
    assert.ok(!text.includes(word), word);
  assert.deepEqual(fieldOf(statement.predicate, 'metadata', 'completeness'), {
    parameters: false,
    environment: true,
    materials: false,
  });
  assert.equal(fieldOf(statement.predicate, 'invocation', 'parameters', 'frontend'), 'dockerfile.v0');
});

test('what clients ask for unasked makes no index, and is in one that there is', async (t) => {
  const bench = await makeBench(t, { files, serves: secret });
  const unasked = { 'attest:provenance': 'mode=min,inline-only=true' };
  await build(bench, unasked, 'plain');
  assert.equal(bench.records.findTarget('plain')!.index, undefined);
  await build(bench, { ...unasked, platform: host, 'multi-platform': 'true' }, 'index');
  assert.equal((await statementsOf(bench, 'index')).size, 1);
  await build(bench, { 'attest:provenance': 'disabled=true', platform: host, 'multi-platform': 'true' }, 'none');
  assert.equal((await statementsOf(bench, 'none')).size, 0);
});

const spdx = 'https://spdx.dev/Document';
const statement = (predicateType: string, more: object = {}): string =>
  JSON.stringify({ predicateType, predicate: { spdxVersion: 'SPDX-2.3' }, ...more });

test('a scanner sees the files of each platform, and what it finds is attested', async (t) => {
  const seen: Record<string, string>[] = [];
  let write: (directory: string) => void = () => {};
  const bench = await makeBench(t, { files }, ({ mounts, env, command }) => {
    const [out, source] = ['/run/out', '/run/src/core/sbom'].map((path) =>
      mounts.find(({ target }) => target === path),
    );
    if (out === undefined || command[0] !== 'say') return;
    const given = env.filter((each) => each.startsWith('BUILDKIT_SCAN_')).map((each) => each.split('='));
    seen.push(Object.fromEntries(given) as Record<string, string>);
    assert.ok(source?.readOnly === true && existsSync(join(source.source, 'empty')), 'the files are there');
    write(out.source);
  });
  files['dockerfile'] = { Dockerfile: { text: 'FROM base\nENTRYPOINT ["say","scan"]\n' } };
  await build(bench, {}, 'scanner');
  files['dockerfile'] = { Dockerfile: { text: 'FROM base\nENTRYPOINT []\nCMD []\n' } };
  await build(bench, {}, 'lazy');
  files['dockerfile'] = {
    Dockerfile: { text: 'FROM scratch\nARG TARGETARCH\nCOPY empty /empty\nCOPY <<-E /arch\n\t$TARGETARCH\n\tE\n' },
  };
  const scan = (more = ''): Promise<void> =>
    build(bench, { 'attest:sbom': `generator=scanner${more}`, platform: `${host},${foreign}`, 'no-cache': '' });
  write = (directory) => {
    writeFileSync(join(directory, 'sbom.spdx.json'), statement(spdx));
    writeFileSync(join(directory, 'extra.spdx.json'), statement(spdx, { subject: [{ name: 'own', digest: {} }] }));
  };
  await scan(',SELECT=x');
  assert.deepEqual(
    seen,
    [0, 1].map(() => ({
      BUILDKIT_SCAN_DESTINATION: '/run/out',
      BUILDKIT_SCAN_SOURCE: '/run/src/core/sbom',
      BUILDKIT_SCAN_SELECT: 'x',
    })),
  );
  const found = [...(await statementsOf(bench, 'x')).values()];
  assert.equal(found.length, 2);
  for (const statements of found) {
    assert.deepEqual(
      statements.map((each) => [each.predicateType, each.subject[0]!.name.split('?')[0], each.predicate]),
      ['pkg:docker/x@latest', 'own'].map((name) => [spdx, name, { spdxVersion: 'SPDX-2.3' }]),
    );
  }
  // What a scanner gives wrongly is told, and no image is made of it.
  for (const [wrong, expected] of [
    [(at: string) => writeFileSync(join(at, 'sbom.json'), '{'), /cannot decode in-toto statement/],
    [
      (at: string) => writeFileSync(join(at, 'sbom.json'), statement('https://slsa.dev/provenance/v1')),
      /does not match/,
    ],
    [(at: string) => symlinkSync('/etc/passwd', join(at, 'sbom.json')), /no regular files/],
  ] as const) {
    write = wrong;
    await assert.rejects(scan(`,N=${String(expected)}`), expected);
  }
  await assert.rejects(build(bench, { 'attest:sbom': 'generator=lazy' }), /scanner lazy does not have cmd/);
});

test('a scanner is shown the context and the stages that the Dockerfile names for it', async (t) => {
  const seen: string[][] = [];
  const bench = await makeBench(t, { files }, ({ mounts, env, command }) => {
    if (command[0] !== 'say') return;
    const beside = mounts.filter(({ target }) => target.startsWith('/run/src/extras/'));
    const names = env.filter((each) => each.startsWith('BUILDKIT_S'));
    seen.push([
      ...names.filter((each) => !/_(?:DESTINATION|SOURCE)=/.test(each)),
      ...beside.map(({ target, source }) => `${target} ${readdirSync(source).join(' ')}`).sort(),
    ]);
    const out = mounts.find(({ target }) => target === '/run/out');
    writeFileSync(join(out!.source, 'sbom.json'), statement(spdx));
  });
  files['dockerfile'] = { Dockerfile: { text: 'FROM base\nENTRYPOINT ["say","scan"]\n' } };
  await build(bench, {}, 'scanner');
  const scan = async (text: string, attributes: Record<string, string> = {}): Promise<string[]> => {
    files['dockerfile'] = { Dockerfile: { text } };
    await build(bench, { 'attest:sbom': 'generator=scanner', 'no-cache': '', ...attributes });
    return seen.pop() ?? [];
  };
  const stage = (name: string, more = ''): string =>
    `FROM scratch AS ${name}\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nCOPY empty /${name}\n${more}`;
  const text =
    `ARG BUILDKIT_SBOM_SCAN_CONTEXT=1\n${stage('one')}${stage('unused')}` +
    `${stage('two', 'COPY --from=one /one /o\n')}FROM two\nARG BUILDKIT_SBOM_SCAN_STAGE=true\n`;
  assert.deepEqual(await scan(text), [
    'BUILDKIT_SCAN_SOURCE_EXTRAS=/run/src/extras',
    '/run/src/extras/sbom-context .dockerignore d empty link',
    '/run/src/extras/sbom-one one',
    '/run/src/extras/sbom-two o two',
  ]);
  const no = { 'build-arg:BUILDKIT_SBOM_SCAN_CONTEXT': 'false', 'build-arg:BUILDKIT_SBOM_SCAN_STAGE': 'one' };
  assert.deepEqual((await scan(text, no)).slice(1), ['/run/src/extras/sbom-one one']);
  // What the file does not declare says nothing.
  assert.deepEqual(await scan('FROM scratch\nCOPY empty /\n', { 'build-arg:BUILDKIT_SBOM_SCAN_CONTEXT': 'true' }), []);
});

test('what a front end states itself is attested, in place of what a scanner would find', async (t) => {
  let attestation: Message = {};
  const text =
    `FROM scratch\nCOPY <<E /s/sbom.json\n${statement(spdx)}\nE\nCOPY <<E /s/a.json\n${statement(spdx)}\nE\n` +
    'COPY <<E /p.json\n{"own":1}\nE\n';
  const bench = await makeBench(t, {
    files: dockerfile(text),
    onReturn: (result) => ({
      ...result,
      attestations: { '': { attestation: [{ ref: result['ref'], ...attestation }] } },
    }),
  });
  const stated = async (given: Message): Promise<unknown[]> => {
    attestation = given;
    await build(bench, { 'attest:sbom': 'generator=nowhere' });
    return [...(await statementsOf(bench, 'x')).values()].flat().map((each) => [each.predicateType, each.predicate]);
  };
  const scanned = [spdx, { spdxVersion: 'SPDX-2.3' }];
  const bundle = { kind: 1, path: '/s', inTotoPredicateType: spdx, metadata: { 'sbom-core': Buffer.from('sbom') } };
  assert.deepEqual(await stated(bundle), [scanned, scanned]);
  const other = { path: 'p.json', inTotoPredicateType: 'https://x/y' };
  // Nobody has scanned, and the scanner that is asked for is not there.
  await assert.rejects(stated(other), /nowhere/);
  await build(bench, {});
  const found = [...(await statementsOf(bench, 'x')).values()].flat();
  assert.deepEqual(
    found.map(({ predicateType, predicate }) => [predicateType, predicate]),
    [['https://x/y', { own: 1 }]],
  );
  for (const [wrong, expected] of [
    [{ ...bundle, path: '/none' }, /attestation "\/none": not found/],
    [{ ...bundle, inTotoPredicateType: 'https://x' }, /does not match required predicate type https:\/\/x/],
    [{ ...other, path: '/s/..' }, /not decode|directory|EISDIR/],
    [{ kind: 7 }, /unknown attestation kind 7/],
    [{ ...other, inTotoSubjects: [{ kind: 1, name: 'n' }] }, /about the image itself/],
  ] as const)
    await assert.rejects(stated(wrong), expected);
});

test('files that are exported as such have documents beside them, about each of them', async (t) => {
  const archives: Buffer[] = [];
  const taken: Record<string, string> = {};
  const bench = await makeBench(t, {
    files: dockerfile('FROM scratch\nCOPY empty d/large /d/\n'),
    serves: {
      [send]: async ({ messages }) => {
        const parts: Buffer[] = [];
        for await (const message of messages) parts.push(message['data'] as Buffer);
        archives.push(Buffer.concat(parts));
        return undefined;
      },
    },
  });
  const exporters = [{ Type: 'tar', Attrs: { 'attestation-prefix': 'at.' } }];
  const attest = (value: string): Promise<unknown> =>
    bench.build({}, { Exporters: exporters, FrontendAttrs: { 'attest:provenance': value } });
  await attest('mode=min,filename=p.json');
  await attest('mode=min,inline-only=true');
  for (const [at, archive] of archives.entries())
    for await (const { header, content } of readTar(bytesOf(archive))) {
      const parts: Uint8Array[] = [];
      for await (const part of content) parts.push(Uint8Array.from(part));
      taken[`${at} ${header.path}`] = Buffer.concat(parts).toString();
    }
  assert.deepEqual(Object.keys(taken), [
    '0 d/',
    '0 d/empty',
    '0 d/large',
    '0 at.p.json',
    '1 d/',
    '1 d/empty',
    '1 d/large',
  ]);
  const { subject, predicateType } = JSON.parse(taken['0 at.p.json']!) as Found;
  assert.equal(predicateType, 'https://slsa.dev/provenance/v1');
  assert.deepEqual(
    subject.map(({ name, digest }) => [name, digest['sha256']]),
    ['empty', 'large'].map((name) => [`d/${name}`, createHash('sha256').update(taken[`0 d/${name}`]!).digest('hex')]),
  );
});

test('fields are read as one line of CSV, and what is not known is refused', async (t) => {
  assert.deepEqual(parseFields('mode=max,"builder-id=a,b ""c""",x'), { mode: 'max', 'builder-id': 'a,b "c"', x: '' });
  assert.deepEqual(parseFields(''), {});
  for (const text of ['a"b', '"open', 'a,"b"c']) assert.throws(() => parseFields(text), /failed to parse/, text);
  const bench = await makeBench(t, { files: dockerfile('FROM scratch\n') });
  for (const [key, value, expected] of [
    ['attest:other', '', /unknown attestation type "other"/],
    ['attest:provenance', 'mode=most', /invalid mode "most"/],
    ['attest:provenance', 'version=v3', /invalid provenance SLSA version: v3/],
  ] as const)
    await assert.rejects(build(bench, { [key]: value }), expected);
});
