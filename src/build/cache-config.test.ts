/** Descriptions of caches, ours and strangers'. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ImageLayer } from '#content/image-records.ts';
import { parseCacheConfig, recordsOver, writeCacheConfig } from './cache-config.ts';
import type { TravellingResult } from './cache-config.ts';

const digest = (letter: string): string => `sha256:${letter.repeat(64)}`;
const layer = (letter: string): ImageLayer => ({
  digest: digest(letter),
  diffId: digest(letter.toUpperCase() === letter ? letter : '0'),
  sizeBytes: 1,
  mediaType: 'x',
});
const [a, b, c] = [layer('a'), layer('b'), layer('c')];
const known = new Map([a, b, c].map((each) => [each.digest, each]));
const key = 'd'.repeat(64);
const record = (more: object): unknown => ({ digest: `sha256:${key}`, ...more });

test('what was written is read again, also of work that changed nothing', () => {
  const results = new Map<string, TravellingResult>([
    [key, { layers: [a, b], createdAtMs: 1000 }],
    ['e'.repeat(64), { layers: [], createdAtMs: 2000 }],
    ['f'.repeat(64), { layers: [c], createdAtMs: 0 }],
  ]);
  const config: unknown = JSON.parse(writeCacheConfig([a, b], recordsOver([a, b], results)).toString());
  const absent = { digest: '', diffId: c.diffId, sizeBytes: 0, mediaType: '' };
  assert.deepEqual(
    parseCacheConfig(config, known),
    new Map<string, TravellingResult>([
      ...results,
      ['f'.repeat(64), { layers: [absent], createdAtMs: 0, isAbsent: true }],
    ]),
  );
});

test('layers that are not there are named once', () => {
  const [x, y] = ['1', '2'].map((letter) => ({ ...layer('c'), diffId: digest(letter) }));
  const results = new Map<string, TravellingResult>([
    [key, { layers: [a, x!], createdAtMs: 1000 }],
    ['e'.repeat(64), { layers: [a, x!, y!], createdAtMs: 1000, isAbsent: true }],
  ]);
  const records = recordsOver([a], results);
  assert.deepEqual(
    records.map(({ absent }) => absent?.layers),
    [
      [0, digest('1')],
      [0, -1, digest('2')],
    ],
  );
  const parsed = parseCacheConfig(JSON.parse(writeCacheConfig([a], records).toString()), known);
  assert.deepEqual(
    [...parsed.values()].map(({ layers }) => layers.map(({ diffId }) => diffId)),
    [
      [a.diffId, digest('1')],
      [a.diffId, digest('1'), digest('2')],
    ],
  );
});

test("BuildKit's own are read: a layer with its parents, a parent that is left out, inputs", () => {
  const layers = [{ blob: a.digest, parent: -1 }, { blob: b.digest }, { blob: c.digest, parent: 1 }];
  const records = [
    record({
      layers: [{ layer: 2, createdAt: '1970-01-01T00:00:01Z' }],
      inputs: [[{ selector: '/x', link: 0 }]],
    }),
  ];
  assert.deepEqual(
    parseCacheConfig({ layers, records }, known),
    new Map([[key, { layers: [a, b, c], createdAtMs: 1000 }]]),
  );
  const lost = new Map([[a.digest, a]]);
  assert.equal(parseCacheConfig({ layers, records }, lost).size, 0, 'a blob that is not named is no result');
});

test('circles, places that are not there and whatever is no config are refused', () => {
  const layersOf = (...parents: number[]): unknown[] => parents.map((parent) => ({ blob: a.digest, parent }));
  const top = [record({ layers: [{ layer: 0 }] })];
  const cases: [unknown, RegExp][] = [
    [{ layers: layersOf(1, 0), records: top }, /circle/],
    [{ layers: layersOf(0), records: top }, /circle/],
    [{ layers: layersOf(-2), records: top }, /no layer -2/],
    [{ layers: layersOf(7), records: top }, /no layer 7/],
    [{ layers: layersOf(1.5), records: top }, /no number/],
    [{ layers: layersOf(-1), records: [record({ layers: [{ layer: -1e9 }] })] }, /no layer/],
    [{ layers: layersOf(-1), records: [record({ chains: [{ layers: [1] }] })] }, /no layer 1/],
    [{ layers: layersOf(-1), records: [record({ chains: [{ layers: [-1] }] })] }, /no layer -1/],
    [{ layers: layersOf(-1), records: [record({ chains: [{ layers: ['0'] }] })] }, /no number/],
    [{ layers: layersOf(-1), records: [record({ chains: [{ layers: Array(481).fill(0) }] })] }, /too many layers/],
    [{ records: [{ digest: 'x' }] }, /no digest/],
    [{ records: [record({ absent: { layers: ['x'] } })] }, /no digest/],
    [{ records: [record({ absent: { layers: [-1] } })] }, /no layer -1/],
    [{ records: [record({ absent: { layers: [0] } })] }, /no layer 0/],
    [{ records: [record({ absent: { layers: Array(481).fill(digest('a')) } })] }, /too many layers/],
    [{ records: [null] }, /no object/],
    [{ records: Array(20_001).fill(record({})) }, /more than/],
    [[], /no object/],
    ['x', /no object/],
  ];
  for (const [config, error] of cases) assert.throws(() => parseCacheConfig(config, known), error);
  for (const nothing of [{}, { layers: null, records: null }, { records: [record({ layers: 7, chains: 'x' })] }])
    assert.equal(parseCacheConfig(nothing, known).size, 0);
});
