/** Images that one node has and another one wants, without the platform's registry between them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HttpTransport, RemoteError, RemoteRepository } from '#content/remote.ts';
import { bytesOf, type TestScope } from '#content/testing.ts';
import type { ImagesOptions, Peer } from '#engine/images-options.ts';
import { ann, makeSite, makeStore, root, type Site, type Store } from './testing.ts';

const peerOf = (node: string, site: Site, isMade = true): Peer => ({ node, isMade, ...site.platform });

/** A node that asks these peers, and reaches nobody else. */
async function askerOf(t: TestScope, peers: Peer[], more: Partial<ImagesOptions> = {}): Promise<Store> {
  return makeStore(t, { peers: (name) => (name.startsWith('docker.io/library/app:') ? peers : []), ...more });
}

/** Names of `127.0.0.1:1` lead nowhere. */
const nowhere = { mirrors: ['http://127.0.0.1:1'] };

test('an image is found on the node where it was made', async (t) => {
  const peer = await makeSite(t, { engines: 'read' });
  const record = await peer.images.import(root('one'), { name: 'app:1' });
  const asker = await askerOf(t, [peerOf('b', peer)], nowhere);
  assert.equal((await asker.images.pull('app:1')).id, record.id);
});

test("nodes with different images of one name do not decide it; the platform's registry does", async (t) => {
  const [b, c] = [await makeSite(t, { engines: 'read' }), await makeSite(t, { engines: 'read' })];
  const record = await b.images.import(root('one'), { name: 'app:1' });
  await c.images.import(root('two'), { name: 'app:1' });
  const peers = [peerOf('b', b), peerOf('c', c)];
  const asker = await askerOf(t, peers, nowhere);
  await assert.rejects(asker.images.pull('app:1'), /different images named app:1: sha256:.* \(b\) and sha256:.* \(c\)/);
  const decided = await askerOf(t, peers, { platformRegistry: b.platform });
  assert.equal((await decided.images.pull('app:1')).id, record.id);
});

test('what came by a credential is given to nobody', async (t) => {
  const upstream = await makeSite(t);
  await upstream.images.import(root('secret'), { name: `${upstream.domain}/team/secret:1` });
  await upstream.images.push(`${upstream.domain}/team/secret:1`, {});
  const peer = await makeSite(t, { engines: 'read' });
  await peer.images.pull(`${upstream.domain}/team/secret:1`, { credential: ann });
  await peer.images.tag(`${upstream.domain}/team/secret:1`, 'app:1');
  const asker = await askerOf(t, [peerOf('b', peer)]);
  await assert.rejects(asker.images.pull('app:1'), /not found|denied|Get/i);
  await peer.images.import(root('open'), { name: 'app:2' });
  assert.ok(await asker.images.pull('app:2'), 'the way is open');
});

test('a node reads what another one has, and writes nothing there', async (t) => {
  const peer = await makeSite(t, { engines: 'read' });
  const transport = new HttpTransport({});
  t.after(() => transport.close());
  const put = (endpoint: ConstructorParameters<typeof RemoteRepository>[1]): Promise<boolean> =>
    new RemoteRepository(transport, endpoint, 'a/b', 'pull,push').putBlob(`sha256:${'0'.repeat(64)}`, 1, () =>
      bytesOf('x'),
    );
  const isRefused =
    (status: number) =>
    (error: unknown): boolean =>
      error instanceof RemoteError && error.status === status;
  await assert.rejects(put({ url: peer.platform.url, tls: () => peer.platform.tls() }), isRefused(403));
  await assert.rejects(put({ url: peer.url, credential: ann }), isRefused(401), 'it has no users');
});
