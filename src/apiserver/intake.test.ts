import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Intake } from './intake.ts';
import { intakePerTurn, intakeWaitingMax } from './limits.ts';

class Rig {
  readonly turns: (() => void)[] = [];
  readonly begun: string[] = [];
  readonly intake = new Intake({ afterTurn: (run) => void this.turns.push(run), busyMs: () => 0 });

  take(connection: object, name: string, count = 1): void {
    for (let i = 0; i < count; i++) this.intake.take(connection, () => void this.begun.push(name));
  }

  endTurn(): void {
    for (const run of this.turns.splice(0)) run();
  }
}

it('a connection that brings hundreds in one turn does not keep those of others waiting', () => {
  const rig = new Rig();
  const [loud, alsoLoud, quiet] = [{}, {}, {}];
  rig.take(loud, 'loud', 300);
  rig.take(alsoLoud, 'loud', 300);
  rig.take(quiet, 'quiet');
  assert.equal(rig.begun.length, intakePerTurn);
  rig.endTurn();
  assert.ok(rig.begun.includes('quiet'));
  assert.equal(rig.begun.length, 2 * intakePerTurn);
  while (rig.turns.length > 0) rig.endTurn();
  assert.equal(rig.begun.length, 601);
});

it('requests of one connection begin in the order in which they came', () => {
  const rig = new Rig();
  const connection = {};
  const names = Array.from({ length: 50 }, (_unused, i) => String(i));
  for (const name of names) rig.take(connection, name);
  while (rig.turns.length > 0) rig.endTurn();
  assert.deepEqual(rig.begun, names);
});

it('no more wait than are allowed to: what comes beyond goes on to be refused', () => {
  const rig = new Rig();
  rig.take({}, 'many', intakePerTurn + intakeWaitingMax);
  assert.equal(rig.begun.length, intakePerTurn);
  rig.take({}, 'beyond');
  assert.equal(rig.begun.at(-1), 'beyond');
});
