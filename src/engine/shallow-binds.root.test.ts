/** Binds that leave out what is mounted below their source, on a real kernel with the runtime that is installed. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import type { DockerEngine } from './create-engine.ts';
import type { Mount } from './engine.ts';
import { execText, makeImage, newInstanceId, openTestEngine, removeTestEngine, specOf } from './testing.ts';

const isRoot = process.getuid?.() === 0;
const instanceId = newInstanceId();

describe('binds without what is mounted below', { skip: !isRoot && 'needs root' }, () => {
  const home = mkdtempSync('/tmp/tiphys-shallow-');
  const source = `${home}/source`;
  let engine: DockerEngine;

  const listOf = async (name: string, more: Partial<Mount>): Promise<string> => {
    const mount: Mount = { type: 'bind', source, target: '/t', readOnly: false, ...more };
    const id = await engine.containers.create(specOf(name, ['sleep', '1000'], { mounts: [mount] }));
    await engine.containers.start(id);
    const { text } = await execText(engine, id, ['find', '/t', '-type', 'f']);
    await engine.containers.remove(id, { force: true });
    return text.trim();
  };
  const places = (): boolean => readFileSync('/proc/self/mountinfo', 'utf8').includes(`${home}/run/binds/`);

  before(async () => {
    makeImage(home, ['sleep', 'find']);
    engine = await openTestEngine(home, instanceId);
    mkdirSync(`${source}/below`, { recursive: true });
    writeFileSync(`${source}/here`, '');
    await engine.context.os.mounts.mountTmpfs(`${source}/below`, {});
    writeFileSync(`${source}/below/there`, '');
  });

  after(async () => {
    await engine.context.os.mounts.unmount(`${source}/below`);
    await engine[Symbol.asyncDispose]();
    await removeTestEngine(home, instanceId);
  });

  test('it comes along, or not, and no bind of the engine stays', async () => {
    assert.deepEqual((await listOf('whole', {})).split('\n').sort(), ['/t/below/there', '/t/here']);
    assert.equal(await listOf('shallow', { nonRecursive: true }), '/t/here');
    assert.equal(await listOf('shallow-ro', { nonRecursive: true, readOnly: true }), '/t/here');
    assert.equal(places(), false);
  });

  test('a start that fails leaves none, and takes away nothing of the source', async () => {
    const mounts: Mount[] = [{ type: 'bind', source, target: '/t', readOnly: false, nonRecursive: true }];
    const id = await engine.containers.create(specOf('fails', ['none'], { mounts }));
    await assert.rejects(engine.containers.start(id), /executable file not found/);
    await engine.containers.remove(id, { force: true });
    assert.equal(places(), false);
    assert.ok(existsSync(`${source}/here`) && existsSync(`${source}/below/there`));
  });

  test('what a death left is taken away by the next engine, and nothing of the source', async () => {
    const place = `${home}/run/binds/gone/0`;
    mkdirSync(place, { recursive: true });
    await engine.context.os.mounts.bind({ source, target: place });
    await engine[Symbol.asyncDispose]();
    engine = await openTestEngine(home, instanceId);
    assert.equal(places(), false);
    assert.equal(existsSync(place), false);
    assert.ok(existsSync(`${source}/here`));
  });
});
