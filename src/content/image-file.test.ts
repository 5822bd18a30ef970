import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isImageFile } from './image-file.ts';

const rootfs = { type: 'layers', diff_ids: ['sha256:1'] };

test('no layers, as Go writes them, are an empty list', () => {
  const file: unknown = { rootfs: { type: 'layers', diff_ids: null } };
  assert.ok(isImageFile(file));
  assert.deepEqual(file.rootfs.diff_ids, []);
});

test('a configuration of other types than an image has is none', () => {
  const bad: unknown[] = [
    null,
    [],
    'x',
    {},
    { rootfs: null },
    { rootfs: { diff_ids: 'x' } },
    { rootfs: { diff_ids: [1] } },
    { rootfs, history: 'x' },
    { rootfs, history: ['x'] },
    { rootfs, history: [{ created_by: 1 }] },
    { rootfs, created: 1 },
    { rootfs, os: {} },
    ...[
      [],
      { Labels: ['a'] },
      { Labels: { a: 1 } },
      { Env: 'A=b' },
      { Env: [1] },
      { Cmd: 'sh' },
      { Entrypoint: {} },
      { ExposedPorts: ['80'] },
      { Volumes: ['/a'] },
      { User: 1 },
      { WorkingDir: [] },
      { Healthcheck: 'x' },
      { Healthcheck: { Test: 'x' } },
      { Healthcheck: { Interval: '1s' } },
      { OnBuild: 'x' },
      { Shell: 'x' },
    ].map((config) => ({ rootfs, config })),
  ];
  for (const each of bad) assert.equal(isImageFile(each), false, JSON.stringify(each));
});

test('what is left out, null or unknown is no fault', () => {
  const good: unknown[] = [
    { rootfs },
    { rootfs, config: null, history: null, architecture: null },
    { rootfs, constructor: 1, extra: {} },
    {
      rootfs,
      config: { Labels: null, Cmd: null, Healthcheck: { Test: ['NONE'] }, ExposedPorts: { '80/tcp': {} }, Tty: false },
    },
    {
      rootfs,
      architecture: 'amd64',
      os: 'linux',
      created: '2024-01-01T00:00:00Z',
      config: { Env: ['A=b'], Labels: { a: 'b' }, Volumes: { '/v': {} }, StopSignal: 'SIGINT' },
      history: [{ created_by: 'x', empty_layer: true }],
    },
  ];
  for (const each of good) assert.equal(isImageFile(each), true, JSON.stringify(each));
});
