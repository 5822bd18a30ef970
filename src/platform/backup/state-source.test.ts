/** The state that is read is one revision, whatever is written meanwhile and whatever history is forgotten. */
import { it } from 'node:test';
import assert from 'node:assert/strict';
import { realClock } from '#os/clock.real.ts';
import { MemoryStore } from '#store/memory.ts';
import type { ListOptions, ListResult } from '#store/store.ts';
import { stateKeysPerTurn } from '../limits.ts';
import { readFrames } from './frames.ts';
import { stateFrames } from './state-source.ts';

const pairs = stateKeysPerTurn;

async function put(store: MemoryStore, key: string, text: string): Promise<void> {
  await store.txn([], [{ type: 'put', key, value: Buffer.from(text) }]);
}

/** First all of /a/, then all of /b/: at one revision no /b/ is ahead of its /a/, and none more than one behind. */
async function writeRound(store: MemoryStore, round: number): Promise<void> {
  for (let n = 0; n < pairs; n++) {
    await put(store, `/a/${n}`, String(round));
    await put(store, `/b/${n}`, String(round));
  }
}

/** Writes between two pages, as others do; and forgets what was before, so often. */
class BusyStore extends MemoryStore {
  round = 1;
  compactions = 0;

  override async list(prefix: string, options?: ListOptions): Promise<ListResult> {
    const page = await super.list(prefix, options);
    await writeRound(this, ++this.round);
    if (this.compactions-- > 0) await this.compact(this.currentRevision());
    return page;
  }
}

async function read(store: MemoryStore): Promise<{ values: Map<string, string>; revision: unknown; keys: unknown }> {
  const values = new Map<string, string>();
  let first: { [field: string]: unknown } = {};
  for await (const { head, read } of readFrames(stateFrames(store))) {
    if (typeof head['key'] === 'string') values.set(head['key'], (await read()).toString());
    else first = head;
  }
  return { values, revision: first['revision'], keys: first['keys'] };
}

it('a state of many pages is one revision, while others write', async () => {
  const store = new BusyStore(realClock);
  await writeRound(store, 1);
  store.compactions = 2;
  const { values, revision, keys } = await read(store);
  assert.equal(values.size, 2 * pairs);
  assert.equal(keys, 2 * pairs);
  assert.equal(new Set(values.values()).size, 1, 'nothing of a later round');
  assert.equal(revision, Number(values.get('/a/0')) * 2 * pairs);
});

it('a state whose history is forgotten again and again is refused, and not mixed', async () => {
  const store = new BusyStore(realClock);
  await writeRound(store, 1);
  store.compactions = Infinity;
  await assert.rejects(read(store), /compacted/);
});
