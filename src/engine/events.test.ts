import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SimClock } from '#os/clock.sim.ts';
import type { EngineEvent } from './engine.ts';
import { Events } from './events.ts';

test('no two events have the same time, so that a client can go on after the last it saw', () => {
  const clock = new SimClock(1_795_848_791_933);
  const events = new Events(clock);
  const seen: EngineEvent[] = [];
  events.listen((event) => seen.push(event));
  for (let count = 0; count < 3; count++) events.emit({ type: 'container', action: 'start', id: 'x', attributes: {} });
  assert.deepEqual(
    seen.map((event) => event.timeNs),
    [1_795_848_791_933_000_000n, 1_795_848_791_933_000_001n, 1_795_848_791_933_000_002n],
  );
  assert.deepEqual(
    events.history().filter((event) => event.timeNs > seen[1]!.timeNs),
    [seen[2]],
  );
});
