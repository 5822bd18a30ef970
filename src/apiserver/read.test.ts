import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import { fieldOf, itemsOf } from '#base/unknown.ts';
import { parseYaml } from '#base/yaml.ts';
import { decodeMessage, unwrapMessage } from '#schema/protobuf-decode.ts';
import { typeOf } from '#schema/types.ts';
import type { TestApi } from './fixture.ts';
import { createTestApi, podBody, pods } from './fixture.ts';

const withApi = (run: (t: TestApi) => Promise<void>) => async (): Promise<void> => {
  await using t = await createTestApi();
  await run(t);
};

describe('list', () => {
  it(
    'pages over one consistent state',
    withApi(async (t) => {
      for (const name of ['a', 'b', 'c', 'd', 'e']) await t.make(pods, podBody(name));
      const first = await t.call('GET', `${pods}?limit=2`);
      assert.deepEqual([first.body.items.length, first.body.metadata.remainingItemCount], [2, 3]);
      await t.call('DELETE', `${pods}/c`);
      await t.make(pods, podBody('f'));
      const rest = await t.call('GET', `${pods}?limit=10&continue=${first.body.metadata.continue}`);
      assert.deepEqual(
        rest.body.items.map((p: { metadata: { name: string } }) => p.metadata.name),
        ['c', 'd', 'e'],
      );
      assert.equal(rest.body.metadata.resourceVersion, first.body.metadata.resourceVersion);
    }),
  );

  it(
    'tells that a continue token is too old, and gives one that goes on from there in what is now',
    withApi(async (t) => {
      for (const name of ['a', 'b', 'c']) await t.make(pods, podBody(name));
      const first = await t.call('GET', `${pods}?limit=1`);
      await t.make(pods, podBody('d'));
      await t.api.server.store.compact(t.api.server.store.currentRevision());
      const rest = await t.call('GET', `${pods}?limit=1&continue=${first.body.metadata.continue}`);
      assert.deepEqual([rest.status, rest.body.reason, rest.body.details], [410, 'Expired', undefined]);
      const next = await t.call('GET', `${pods}?limit=2&continue=${rest.body.metadata.continue}`);
      const names = (list: TestJson): string[] => list.items.map((pod: TestJson) => pod.metadata.name);
      assert.deepEqual([next.status, names(next.body), next.body.metadata.remainingItemCount], [200, ['b', 'c'], 1]);
      assert.ok(Number(next.body.metadata.resourceVersion) > Number(first.body.metadata.resourceVersion));
      const last = await t.call('GET', `${pods}?limit=2&continue=${next.body.metadata.continue}`);
      assert.deepEqual([names(last.body), last.body.metadata.continue], [['d'], undefined]);
    }),
  );

  it(
    'goes out in pieces when it is large, in every form',
    withApi(async (t) => {
      const path = '/api/v1/namespaces/default/configmaps';
      const tableType = 'application/json;as=Table;v=v1;g=meta.k8s.io';
      for (let i = 0; i < 12; i++)
        await t.make(path, { metadata: { name: `c${i}` }, data: { text: String(i % 10).repeat(500_000) } });
      const read = async (accept: string, query = ''): Promise<Buffer> => {
        const answer = await t.raw('GET', `${path}${query}`, { headers: { accept } });
        assert.ok(!(answer.body instanceof Uint8Array), accept);
        const pieces: Uint8Array[] = [];
        for await (const piece of answer.body!) pieces.push(piece);
        assert.ok(pieces.length > 5 && pieces.every((piece) => piece.length < 1_100_000), accept);
        return Buffer.concat(pieces);
      };
      const items = JSON.parse((await read('application/json')).toString()).items as TestJson[];
      assert.equal(items.length, 12);
      for (const item of items) assert.deepEqual(item, (await t.call('GET', `${path}/${item.metadata.name}`)).body);
      const yaml = parseYaml((await read('application/yaml')).toString()) as TestJson;
      assert.deepEqual([yaml.kind, yaml.items], ['ConfigMapList', items]);
      const table = JSON.parse((await read(tableType, '?includeObject=Object')).toString());
      assert.deepEqual(
        [table.kind, table.columnDefinitions.length, table.rows.map((row: TestJson) => row.object)],
        ['Table', 3, items],
      );
      assert.ok(
        (await t.raw('GET', path, { headers: { accept: tableType } })).body instanceof Uint8Array,
        'a table of names is small',
      );
      const { kind, message } = unwrapMessage(await read('application/vnd.kubernetes.protobuf'));
      const decoded = decodeMessage(typeOf('core.v1/ConfigMapList'), message);
      assert.deepEqual(
        [kind, itemsOf(decoded.items).map((i) => fieldOf(i, 'data'))],
        ['ConfigMapList', items.map((i) => i.data)],
      );
    }),
  );

  it('is the same, byte for byte, where it goes out in turns because others wait', async () => {
    const thread = { afterTurn: (run: () => void): void => void setImmediate(run), busyMs: () => 0 };
    await using t = await createTestApi({ thread });
    for (let i = 0; i < 200; i++) await t.make(pods, podBody(`p${i}`));
    const read = async (path: string, accept: string): Promise<{ bytes: Buffer; isWhole: boolean }> => {
      const { body } = await t.raw('GET', path, { headers: { accept } });
      if (body === undefined || body instanceof Uint8Array) return { bytes: Buffer.from(body ?? ''), isWhole: true };
      const pieces: Uint8Array[] = [];
      for await (const piece of body) pieces.push(piece);
      return { bytes: Buffer.concat(pieces), isWhole: false };
    };
    const asked = [
      [pods, 'application/json'],
      [pods, 'application/yaml'],
      [pods, 'application/vnd.kubernetes.protobuf'],
      [pods, 'application/json;as=Table;v=v1;g=meta.k8s.io'],
      [`${pods}?labelSelector=app!%3Dp7`, 'application/json'],
    ] as const;
    const alone: Buffer[] = [];
    for (const [path, accept] of asked) {
      const { bytes, isWhole } = await read(path, accept);
      assert.ok(isWhole, accept);
      alone.push(bytes);
    }
    await t.call('GET', pods, undefined, { user: { name: 'somebody', groups: ['system:authenticated'] } });
    assert.ok(t.api.server.flowControl.isShared);
    for (const [i, [path, accept]] of asked.entries()) {
      const { bytes, isWhole } = await read(path, accept);
      assert.ok(!isWhole, accept);
      assert.ok(bytes.equals(alone[i]!), accept);
    }
    // What is kept of these is of no use to a list of what has changed, nor of what has gone.
    await t.call('PUT', `${pods}/p9`, podBody('p9', { metadata: { labels: { changed: 'yes' } } }));
    await t.call('DELETE', `${pods}/p8?gracePeriodSeconds=0`);
    for (let round = 0; round < 2; round++) {
      const { items } = JSON.parse((await read(pods, 'application/json')).bytes.toString()) as { items: TestJson[] };
      assert.equal(items.length, 199);
      for (const item of items) assert.deepEqual(item, (await t.call('GET', `${pods}/${item.metadata.name}`)).body);
      const { message } = unwrapMessage((await read(pods, 'application/vnd.kubernetes.protobuf')).bytes);
      const decoded = itemsOf(decodeMessage(typeOf('core.v1/PodList'), message).items);
      assert.deepEqual(
        decoded.map((each) => fieldOf(each, 'metadata')),
        items.map(({ metadata }) => metadata),
      );
    }
  });

  it(
    'selects by labels and fields',
    withApi(async (t) => {
      await t.make(pods, podBody('a', { metadata: { labels: { app: 'x', tier: 'web' } } }));
      await t.make(pods, podBody('b', { spec: { nodeName: 'n1' } }));
      const names = async (query: string): Promise<string[]> =>
        (await t.call('GET', `${pods}?${query}`)).body.items.map(
          (p: { metadata: { name: string } }) => p.metadata.name,
        );
      assert.deepEqual(await names('labelSelector=app%3Dx'), ['a']);
      assert.deepEqual(await names('labelSelector=tier+notin+(web)'), ['b']);
      assert.deepEqual(await names('fieldSelector=spec.nodeName%3Dn1'), ['b']);
      assert.deepEqual(await names('fieldSelector=spec.nodeName%3D'), ['a']);
      assert.deepEqual(await names('fieldSelector=metadata.name%3Da,metadata.namespace%3Ddefault'), ['a']);
      const bad = await t.call('GET', `${pods}?fieldSelector=spec.color%3Dred`);
      assert.deepEqual([bad.status, /field label not supported: spec.color/.test(bad.body.message)], [400, true]);
    }),
  );

  it(
    'answers tables and partial metadata',
    withApi(async (t) => {
      await t.make(pods, podBody('a'));
      t.clock.advance(61_000);
      const table = (
        await t.call('GET', pods, undefined, {
          headers: { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json' },
        })
      ).body;
      assert.deepEqual(
        [table.kind, table.columnDefinitions[0].name, table.rows[0].cells.slice(0, 5)],
        ['Table', 'Name', ['a', '0/1', 'Pending', '0', '61s']],
      );
      assert.equal(table.rows[0].object.kind, 'PartialObjectMetadata');
      const partial = (
        await t.call('GET', pods, undefined, {
          headers: { accept: 'application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io' },
        })
      ).body;
      assert.deepEqual([partial.kind, partial.items[0].spec], ['PartialObjectMetadataList', undefined]);
    }),
  );

  it(
    'answers no table of what is not stored, but what else is asked for',
    withApi(async (t) => {
      const path = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews';
      const review = { spec: { nonResourceAttributes: { path: '/', verb: 'get' } } };
      const table = 'application/json;as=Table;v=v1;g=meta.k8s.io';
      const refused = await t.call('POST', path, review, { headers: { accept: table } });
      assert.deepEqual([refused.status, refused.body.reason], [406, 'NotAcceptable']);
      const answered = await t.call('POST', path, review, { headers: { accept: `${table},application/json` } });
      assert.deepEqual([answered.status, answered.body.kind], [201, 'SelfSubjectAccessReview']);
    }),
  );
});
