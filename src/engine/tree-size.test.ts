import assert from 'node:assert/strict';
import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { treeEntriesPerTurn } from './limits.ts';
import { treeBytes, treeSize } from './tree-size.ts';

async function inDirectory(run: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(`${tmpdir()}/tree-`);
  try {
    await run(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test('a file with several names is counted once', () =>
  inDirectory(async (directory) => {
    mkdirSync(`${directory}/a/b`, { recursive: true });
    writeFileSync(`${directory}/a/x`, Buffer.alloc(1000));
    linkSync(`${directory}/a/x`, `${directory}/a/b/y`);
    linkSync(`${directory}/a/x`, `${directory}/z`);
    writeFileSync(`${directory}/a/b/own`, Buffer.alloc(10));
    symlinkSync('12345', `${directory}/link`);
    assert.equal(await treeBytes(directory), 1015);
    assert.equal(await treeBytes(`${directory}/none`), 0);
  }));

test('on disk holes take nothing, and directories count', () =>
  inDirectory(async (directory) => {
    mkdirSync(`${directory}/a`);
    writeFileSync(`${directory}/a/hole`, 'x');
    truncateSync(`${directory}/a/hole`, 2 ** 30);
    const { bytes, diskBytes, inodes } = await treeSize(directory);
    assert.deepEqual([bytes, inodes], [2 ** 30, 3]);
    assert.ok(diskBytes < 2 ** 20, `${diskBytes}`);
    assert.deepEqual(await treeSize(`${directory}/none`), { bytes: 0, diskBytes: 0, inodes: 0, device: undefined });
  }));

test('other work has its turn in a large tree', () =>
  inDirectory(async (directory) => {
    for (let count = 0; count < 3 * treeEntriesPerTurn; count++) writeFileSync(`${directory}/${count}`, '');
    let turns = 0;
    let running = true;
    const turn = (): void => {
      turns++;
      if (running) setImmediate(turn);
    };
    setImmediate(turn);
    await treeBytes(directory);
    running = false;
    assert.ok(turns >= 3, `${turns}`);
  }));
