import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KubeObject } from '#base/objects.ts';
import { IndexedObjects } from './indexed-objects.ts';

interface Coloured extends KubeObject {
  colours: string[] | string | undefined;
}

const object = (name: string, colours: Coloured['colours']): Coloured => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name },
  colours,
});
const names = (objects: Iterable<KubeObject>): string[] => [...objects].map(({ metadata }) => metadata.name!);

function filled(): IndexedObjects<Coloured> {
  const objects = new IndexedObjects<Coloured>();
  objects.set('a', object('a', 'red'));
  objects.addIndex('colour', (each) => each.colours);
  objects.set('b', object('b', ['red', 'blue']));
  objects.set('c', object('c', undefined));
  return objects;
}

test('objects are found by one value, by several, and by none', () => {
  const objects = filled();
  assert.deepEqual(names(objects.by('colour', 'red')), ['a', 'b']);
  assert.deepEqual(names(objects.by('colour', 'blue')), ['b']);
  assert.equal(objects.countBy('colour', 'green'), 0);
  assert.deepEqual(names(objects.by('size', 'red')), []);
  assert.deepEqual(names(objects.values()), ['a', 'b', 'c']);
});

test('a newer version is found in the place of the older one, and elsewhere once its values differ', () => {
  const objects = filled();
  const newer = object('a', 'red');
  assert.equal(objects.set('a', newer)!.metadata.name, 'a');
  assert.equal([...objects.by('colour', 'red')][0], newer);
  objects.set('b', object('b', ['blue', 'green']));
  objects.set('c', object('c', 'green'));
  assert.deepEqual(
    ['red', 'blue', 'green'].map((colour) => names(objects.by('colour', colour))),
    [['a'], ['b'], ['b', 'c']],
  );
  objects.set('b', object('b', undefined));
  assert.deepEqual(
    ['red', 'blue', 'green'].map((colour) => objects.countBy('colour', colour)),
    [1, 0, 1],
  );
});

test('what is removed is found nowhere', () => {
  const objects = filled();
  assert.equal(objects.delete('b')!.metadata.name, 'b');
  assert.equal(objects.delete('b'), undefined);
  assert.deepEqual(
    [names(objects.by('colour', 'red')), objects.countBy('colour', 'blue'), objects.size],
    [['a'], 0, 2],
  );
});
