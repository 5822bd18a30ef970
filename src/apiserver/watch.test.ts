import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { WatchEvent } from '#base/objects.ts';
import type { TestJson } from '#base/testing.ts';
import { createTestApi, podBody, pods } from './fixture.ts';
import type { TestApi } from './fixture.ts';

interface Seen {
  type: string;
  name: string | undefined;
  revision: number;
}

/** Reads events of a watch until `count` have come. */
async function watch(
  t: TestApi,
  query: string,
  count: number,
  act: () => Promise<void> = async () => undefined,
): Promise<{ seen: Seen[]; events: WatchEvent[] }> {
  const abort = new AbortController();
  const answer = await t.raw('GET', `${pods}?watch=1&${query}`, { wantsObject: true, signal: abort.signal });
  const events: WatchEvent[] = [];
  const reading = (async () => {
    for await (const batch of answer.events!) {
      events.push(...batch);
      if (events.length >= count) break;
    }
  })();
  await act();
  await reading;
  abort.abort();
  return {
    events,
    seen: events.map((e) => ({
      type: e.type,
      name: e.object.metadata?.name,
      revision: Number(e.object.metadata?.resourceVersion),
    })),
  };
}

const label = (t: TestApi, name: string, labels: unknown) =>
  t.call(
    'PATCH',
    `${pods}/${name}`,
    { metadata: { labels } },
    { headers: { 'content-type': 'application/merge-patch+json' } },
  );

describe('watch', () => {
  it('resumes after a resourceVersion with each change once', async () => {
    await using t = await createTestApi();
    const start = await t.make(pods, podBody('a'));
    const { seen } = await watch(t, `resourceVersion=${start.metadata.resourceVersion}`, 3, async () => {
      await label(t, 'a', { x: '1' });
      await t.make(pods, podBody('b'));
      await t.call('DELETE', `${pods}/a`);
    });
    assert.deepEqual(
      seen.map((s) => [s.type, s.name]),
      [
        ['MODIFIED', 'a'],
        ['ADDED', 'b'],
        ['DELETED', 'a'],
      ],
    );
    assert.ok(seen[0]!.revision < seen[1]!.revision && seen[1]!.revision < seen[2]!.revision);
  });

  it('streams a list and closes it with a bookmark that informers wait for', async () => {
    await using t = await createTestApi();
    for (const name of ['a', 'b']) await t.make(pods, podBody(name));
    const { events, seen } = await watch(
      t,
      'sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true',
      4,
      async () => {
        await t.make(pods, podBody('c'));
      },
    );
    assert.deepEqual(
      seen.map((s) => [s.type, s.name]),
      [
        ['ADDED', 'a'],
        ['ADDED', 'b'],
        ['BOOKMARK', undefined],
        ['ADDED', 'c'],
      ],
    );
    assert.deepEqual(events[2]!.object.metadata.annotations, { 'k8s.io/initial-events-end': 'true' });
  });

  it('starts with what is there when no version is named', async () => {
    await using t = await createTestApi();
    await t.make(pods, podBody('a'));
    assert.deepEqual(
      (await watch(t, '', 1)).seen.map((s) => [s.type, s.name]),
      [['ADDED', 'a']],
    );
  });

  it('shows objects that begin and cease to match a selector as added and deleted', async () => {
    await using t = await createTestApi();
    const start = await t.make(pods, podBody('a'));
    const { seen } = await watch(
      t,
      `resourceVersion=${start.metadata.resourceVersion}&labelSelector=on%3Dyes`,
      3,
      async () => {
        await t.make(pods, podBody('other'));
        await label(t, 'a', { on: 'yes' });
        await label(t, 'a', { more: 'x' });
        await label(t, 'a', { on: 'no' });
      },
    );
    assert.deepEqual(
      seen.map((s) => s.type),
      ['ADDED', 'MODIFIED', 'DELETED'],
    );
    // What ceases to match is shown as it last matched, with the version that ended it.
    const answer = await t.raw(
      'GET',
      `${pods}?watch=1&timeoutSeconds=1&resourceVersion=${start.metadata.resourceVersion}&labelSelector=on%3Dyes`,
    );
    const lines: TestJson[] = [];
    const reading = (async () => {
      for await (const chunk of answer.body as AsyncIterable<Uint8Array>)
        lines.push(
          ...Buffer.from(chunk)
            .toString()
            .trim()
            .split('\n')
            .map((line) => JSON.parse(line)),
        );
    })();
    await new Promise((resolve) => setImmediate(resolve));
    t.clock.advance(2_000);
    await reading;
    const now = (await t.call('GET', `${pods}/a`)).body;
    assert.deepEqual(
      [lines.at(-1)!.type, lines.at(-1)!.object.metadata.labels, lines.at(-1)!.object.metadata.resourceVersion],
      ['DELETED', { app: 'a', on: 'yes', more: 'x' }, now.metadata.resourceVersion],
    );
  });

  it('says Expired in the stream for a version that is compacted', async () => {
    await using t = await createTestApi();
    const start = await t.make(pods, podBody('a'));
    await t.make(pods, podBody('b'));
    await t.api.server.store.compact(t.api.server.store.currentRevision());
    const { events } = await watch(t, `resourceVersion=${start.metadata.resourceVersion}`, 1);
    assert.deepEqual(
      [
        events[0]!.type,
        (events[0]!.object as never as { code: number; reason: string }).code,
        (events[0]!.object as never as { reason: string }).reason,
      ],
      ['ERROR', 410, 'Expired'],
    );
  });

  it('sends bookmarks that overtake no event, and ends in time', async () => {
    await using t = await createTestApi();
    const from = t.api.server.store.currentRevision();
    const answer = await t.raw(
      'GET',
      `${pods}?watch=1&allowWatchBookmarks=true&timeoutSeconds=100&resourceVersion=${from}`,
      { wantsObject: true },
    );
    const events: WatchEvent[] = [];
    const reading = (async () => {
      for await (const batch of answer.events!) events.push(...batch);
    })();
    await t.make(pods, podBody('a'));
    t.clock.advance(60_010);
    await new Promise((resolve) => setImmediate(resolve));
    t.clock.advance(60_000);
    await reading;
    assert.deepEqual(
      events.map((e) => e.type),
      ['ADDED', 'BOOKMARK'],
    );
  });

  it('never sends a bookmark that is older than an event before it', async () => {
    await using t = await createTestApi();
    const from = t.api.server.store.currentRevision();
    const answer = await t.raw(
      'GET',
      `${pods}?watch=1&allowWatchBookmarks=true&timeoutSeconds=100&resourceVersion=${from}`,
      { wantsObject: true },
    );
    const events: WatchEvent[] = [];
    const reading = (async () => {
      for await (const batch of answer.events!) events.push(...batch);
    })();
    t.clock.advance(60_000);
    // The bookmark is due, and not sent yet.
    await t.make(pods, podBody('a'));
    await new Promise((resolve) => setImmediate(resolve));
    t.clock.advance(10);
    await new Promise((resolve) => setImmediate(resolve));
    t.clock.advance(60_000);
    await reading;
    assert.deepEqual(
      events.map(({ type }) => type),
      ['ADDED', 'BOOKMARK'],
    );
    assert.ok(Number(events[1]!.object.metadata.resourceVersion) >= Number(events[0]!.object.metadata.resourceVersion));
  });

  it('gives all watchers the same bytes', async () => {
    await using t = await createTestApi();
    const from = t.api.server.store.currentRevision();
    const open = async () =>
      (await t.raw('GET', `${pods}?watch=1&resourceVersion=${from}`)).body as AsyncIterable<Uint8Array>;
    const [one, two] = [await open(), await open()];
    const first = async (body: AsyncIterable<Uint8Array>) => {
      for await (const chunk of body) return chunk;
      return undefined;
    };
    const both = Promise.all([first(one), first(two)]);
    await t.make(pods, podBody('a'));
    const [a, b] = await both;
    assert.equal(a, b);
    assert.equal(JSON.parse(Buffer.from(a!).toString()).object.metadata.name, 'a');
  });
});
