import { test } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { subnetOf } from '#base/ip.ts';
import {
  clusterDnsAddress,
  establishInstance,
  loadInstance,
  newestFormat,
  nodePlan,
  saveInstance,
} from './instance.ts';
import { forgetLeaving, leavingNodes, localNodes } from './local-nodes.ts';
import type { Paths } from './paths.ts';

const random = { float: () => 0.5, bytes: (count: number) => new Uint8Array(count).fill(0xab), uuid: () => '' };
const host = (used: string[]) => ({
  usedSubnets: used.map(subnetOf),
  freePort: (candidates: number[]) => candidates[0]!,
});

async function inDirectory(run: (paths: Paths) => Promise<void>): Promise<void> {
  const top = mkdtempSync(join(tmpdir(), 'instance-'));
  try {
    await run({ home: top, data: join(top, 'data'), run: join(top, 'run') });
  } finally {
    rmSync(top, { recursive: true, force: true });
  }
}

test('a new instance takes ranges that the host does not use, and keeps them', async () => {
  await inDirectory(async (paths) => {
    const made = await establishInstance(paths, {}, random, host(['10.244.7.0/24', '10.96.0.0/12']));
    assert.equal(made.podRange, '10.245.0.0/16');
    assert.ok(
      !['10.96', '10.97', '10.98', '10.99', '10.100', '10.101'].some((start) =>
        made.serviceRange.startsWith(`${start}.`),
      ),
      made.serviceRange,
    );
    assert.deepEqual(await establishInstance(paths, {}, random, host([])), made);
    assert.deepEqual(localNodes(paths), [1]);
    await establishInstance(paths, { nodes: 3 }, random, host([]));
    assert.deepEqual(localNodes(paths), [1, 2, 3]);
    await establishInstance(paths, { registryMirrors: [] }, random, host([]));
    assert.deepEqual(localNodes(paths), [1, 2, 3], 'what nobody speaks of stays');
    await establishInstance(paths, { nodes: 2 }, random, host([]));
    assert.deepEqual([localNodes(paths), leavingNodes(paths)], [[1, 2], [3]]);
    await establishInstance(paths, { nodes: 3 }, random, host([]));
    assert.deepEqual([localNodes(paths), leavingNodes(paths)], [[1, 2, 3], [3]], 'it is made schedulable again');
    forgetLeaving(paths, 3);
    assert.deepEqual(leavingNodes(paths), []);
  });
});

test('nodes have ranges, addresses and ids of their own', async () => {
  await inDirectory(async (paths) => {
    const instance = await establishInstance(paths, {}, random, host([]));
    const [first, second] = [nodePlan(instance, 1, 'box'), nodePlan(instance, 2, 'box')];
    assert.deepEqual([first.name, first.podRange, first.address], ['box', '10.244.0.0/24', '10.244.0.1']);
    assert.deepEqual([second.name, second.podRange, second.address], ['box-2', '10.244.1.0/24', '10.244.1.1']);
    assert.notEqual(first.instanceId, second.instanceId);
    assert.equal(clusterDnsAddress(instance), '10.96.0.10');
  });
});

test('an instance of format 1 keeps the nodes that it listed', async () => {
  await inDirectory(async (paths) => {
    const made = await establishInstance(paths, {}, random, host([]));
    rmSync(join(paths.data, 'nodes'), { recursive: true });
    const file = join(paths.data, 'instance.json');
    writeFileSync(file, JSON.stringify({ ...made, format: 1, nodes: 2 }));
    assert.deepEqual(await establishInstance(paths, {}, random, host([])), made);
    assert.deepEqual(localNodes(paths), [1, 2]);
    assert.equal('nodes' in JSON.parse(readFileSync(file, 'utf8')), false);
  });
});

test('data of a newer version is refused, not touched', async () => {
  await inDirectory(async (paths) => {
    const instance = await establishInstance(paths, {}, random, host([]));
    writeFileSync(join(paths.data, 'instance.json'), JSON.stringify({ ...instance, format: 99 }));
    assert.throws(() => loadInstance(paths), /written by a newer version of Tiphys \(format 99/);
  });
});

test('a level that was raised is the format of the data, and one that is newer than the program is refused', async () => {
  await inDirectory(async (paths) => {
    const made = await establishInstance(paths, {}, random, host([]));
    saveInstance(paths, { ...made, level: newestFormat });
    assert.equal(loadInstance(paths)?.format, newestFormat);
    saveInstance(paths, { ...made, level: newestFormat + 1 });
    assert.throws(
      () => loadInstance(paths),
      new RegExp(`newer version of Tiphys \\(format ${newestFormat + 1}; this one knows ${newestFormat}\\)`),
    );
  });
});
