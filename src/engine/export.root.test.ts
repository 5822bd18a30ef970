/** `docker export` of a container that never ran. */
import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { Readable } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import { readTar } from '#base/tar-read.ts';
import { exportRoot } from './archive.ts';
import { listChanges } from './changes.ts';
import type { DockerEngine } from './create-engine.ts';
import { makeImage, newInstanceId, openTestEngine, removeTestEngine, specOf } from './testing.ts';

const isRoot = process.getuid?.() === 0;
const instanceId = newInstanceId();

describe('the export of a container', { skip: !isRoot && 'needs root' }, () => {
  const home = mkdtempSync('/tmp/tiphys-export-');
  let engine: DockerEngine;

  before(async () => {
    makeImage(home, ['true']);
    engine = await openTestEngine(home, instanceId);
  });

  after(async () => {
    await engine[Symbol.asyncDispose]();
    await removeTestEngine(home, instanceId);
  });

  test('has the mark of a container also where none has run, which is no change of it', async () => {
    const container = engine.table.get(await engine.containers.create(specOf('created', ['true'])));
    const parts: Uint8Array[] = [];
    await exportRoot(engine.table, container, async (bytes) => {
      parts.push(Buffer.from(bytes));
    });
    const names: string[] = [];
    for await (const entry of readTar(Readable.from(parts))) names.push(entry.header.path);
    assert.ok(names.includes('.dockerenv'), names.join(' '));
    assert.ok(names.includes('bin/busybox'));
    assert.deepEqual(await listChanges(engine.context.snapshots.upperDir(container.id)), []);
  });
});
