import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import type { DockerEngine } from './create-engine.ts';
import { makeImage, newInstanceId, openTestEngine, removeTestEngine, specOf } from './testing.ts';

const instanceId = newInstanceId();
const mebibyte = 1024 * 1024;

describe('limits that change while a container runs', { skip: process.getuid?.() !== 0 && 'needs root' }, () => {
  const home = mkdtempSync('/tmp/tiphys-update-');
  let engine: DockerEngine;
  const cgroupParent = `/tiphys_${instanceId}/kubepods/podp`;
  const memoryLimitOf = (path: string): number | undefined => engine.context.os.cgroups.stats(path)?.memoryLimitBytes;

  before(async () => {
    makeImage(home, ['sh', 'sleep']);
    engine = await openTestEngine(home, instanceId, '10.253.78.0/24');
  });
  after(async () => {
    await engine[Symbol.asyncDispose]();
    await removeTestEngine(home, instanceId);
  });

  test('the kernel has them at once, for the container and for the group around it, and so has the next engine', async () => {
    await engine.sandboxes.create({
      id: 'p',
      name: 'ns/p',
      hostname: 'p',
      labels: {},
      network: 'pod',
      cgroupParent,
      resources: { cpuShares: 100, memoryLimitBytes: 64 * mebibyte },
    });
    const id = await engine.containers.create(
      specOf('resized', ['sleep', '1000'], {
        network: { type: 'sandbox', sandboxId: 'p' },
        cgroupParent,
        resources: { cpuShares: 100, memoryLimitBytes: 32 * mebibyte },
      }),
    );
    await engine.containers.start(id);
    const cgroup = engine.containers.table.get(id).record.run?.cgroup ?? '';
    assert.equal(memoryLimitOf(cgroup), 32 * mebibyte);
    const wider = { cpuShares: 200, cpuPeriodUs: 100_000, cpuQuotaUs: 50_000, memoryLimitBytes: 96 * mebibyte };
    await engine.sandboxes.update('p', wider);
    await engine.containers.update(id, { ...wider, memoryLimitBytes: 48 * mebibyte });
    assert.equal(memoryLimitOf(cgroup), 48 * mebibyte);
    assert.equal(memoryLimitOf(cgroupParent), 96 * mebibyte);
    await engine[Symbol.asyncDispose]();
    engine = await openTestEngine(home, instanceId, '10.253.78.0/24');
    assert.equal(engine.containers.status(id)?.resources.memoryLimitBytes, 48 * mebibyte);
    assert.equal(engine.containers.status(id)?.resources.cpuQuotaUs, 50_000);
    assert.equal(engine.sandboxes.status('p')?.resources.memoryLimitBytes, 96 * mebibyte);
    await engine.containers.remove(id, { force: true });
    await engine.sandboxes.remove('p');
    await assert.rejects(engine.sandboxes.update('p', wider), /not found/);
  });
});
