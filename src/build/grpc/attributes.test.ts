/** Attributes of the Dockerfile front end: each is carried out, refused, or of no consequence. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isBuiltInFrontend, parseAttributes } from './attributes.ts';
import type { FrontendRequest } from './attributes.ts';

const parse = (attributes: Record<string, string>): FrontendRequest => parseAttributes(attributes, new Map());

test('what a client asks for becomes a request of the builder', () => {
  const { build, run, ...files } = parse({
    filename: 'sub/D',
    'build-arg:A': '1',
    'build-arg:SOURCE_DATE_EPOCH': '86400',
    'build-arg:BUILDKIT_INLINE_CACHE': '1',
    'label:l': 'v',
    target: 't',
    'no-cache': '',
    'image-resolve-mode': 'pull',
    platform: 'linux/arm64',
    'force-network-mode': 'none',
    'add-hosts': 'a=1.2.3.4,b=::1',
    'shm-size': '1048576',
    ulimit: 'nofile=9:10,core=-1',
    'cgroup-parent': '/p',
    'local-sessionid:context': 's2',
    'vcs:revision': 'x',
    'context:base': 'docker-image://x',
    'attest:provenance': 'mode=min,inline-only=true',
    'cache-imports': '[{"Type":"registry","Attrs":{"ref":"r/c:1"}}]',
    'cache-from': 'old',
  });
  assert.deepEqual(build, {
    buildArgs: { A: '1', SOURCE_DATE_EPOCH: '86400' },
    labels: { l: 'v' },
    noCache: true,
    target: 't',
    hostname: '',
    cacheNamespace: '',
  });
  assert.deepEqual(run, {
    network: 'none',
    extraHosts: ['a:1.2.3.4', 'b:::1'],
    shmSizeBytes: 1_048_576,
    resources: {
      ulimits: [
        { name: 'nofile', soft: 9, hard: 10 },
        { name: 'core', soft: -1, hard: -1 },
      ],
    },
    cgroupParent: '/p',
  });
  assert.deepEqual(files, {
    filename: 'sub/D',
    dockerfileDirectory: 'dockerfile',
    hasOwnDockerfile: false,
    contextDirectory: 'context',
    contextUrl: undefined,
    contextSubdirectory: '',
    // Files of a repository are then as old as its commit.
    namedGitAttributes: {},
    gitAttributes: { 'git.mtime': 'commit' },
    sessions: new Map([['context', 's2']]),
    contexts: new Map([['base', 'docker-image://x']]),
    inputs: new Map(),
    pull: true,
    platforms: [{ os: 'linux', architecture: 'arm64' }],
    isMultiPlatform: false,
    cacheImports: [
      { type: 'registry', attributes: { ref: 'r/c:1' } },
      { type: 'registry', attributes: { ref: 'old' } },
    ],
  });
});

test('what is not carried out is refused by its name', () => {
  for (const [key, value, expected] of [
    ['platform', 'linux/amd64,linux/a/b/c', /cannot parse platform specifier/],
    ['platform', Array.from({ length: 65 }, (_, at) => `linux/a${at}`).join(), /at most 64 platforms/],
    ['force-network-mode', 'other', /unsupported network mode "other"/],
    ['ulimit', 'nofile', /invalid ulimit: nofile/],
    ['new-thing', 'x', /unsupported front end attribute new-thing=x/],
  ] as const)
    assert.throws(() => parse({ [key]: value }), expected, key);
});

test('platforms are several where they are, or where the client says so', () => {
  const asked = (attributes: Record<string, string>): [string[], boolean] => {
    const { platforms, isMultiPlatform } = parse(attributes);
    return [platforms.map((each) => each.architecture), isMultiPlatform];
  };
  assert.deepEqual(asked({}), [[], false]);
  assert.deepEqual(asked({ platform: 'linux/arm64,linux/s390x,arm64' }), [['arm64', 's390x'], true]);
  assert.deepEqual(asked({ platform: 'linux/arm64', 'multi-platform': 'true' }), [['arm64'], true]);
  assert.deepEqual(asked({ 'multi-platform': 'true' })[0].length, 1);
});

test('the front end that is built in has several names', () => {
  for (const image of ['docker/dockerfile', 'docker/dockerfile:1.7', 'docker.io/docker/dockerfile-upstream:master'])
    assert.ok(isBuiltInFrontend(image), image);
  for (const image of ['docker/dockerfiles', 'example/docker/dockerfile:1'])
    assert.ok(!isBuiltInFrontend(image), image);
});
