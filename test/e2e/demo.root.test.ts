/** The main job, as a user runs it: the demo on one node, and what is left after it. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { createMachine } from './machine.ts';

test(
  'the demo takes an application through its life, and down --purge leaves nothing',
  { timeout: 900_000 },
  async () => {
    await using machine = createMachine();
    const demo = await machine.tiphys(['demo', '--yes'], 800_000);
    assert.equal(demo.code, 0, `${demo.stdout}\n${demo.stderr}`);
    assert.match(demo.stdout, /kill -9 every process of Tiphys, start again +\S+ \S+ +ok/);

    const again = await machine.tiphys(['up']);
    assert.match(again.stdout, /already up/, 'up again is a no-op');

    const down = await machine.tiphys(['down']);
    assert.equal(down.code, 0, down.stderr);
    assert.deepEqual(machine.leftovers(), []);

    const purge = await machine.tiphys(['down', '--purge']);
    assert.equal(purge.code, 0, purge.stderr);
  },
);
