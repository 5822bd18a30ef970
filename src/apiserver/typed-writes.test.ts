/** Facts of writes, found by comparing with kube-apiserver (`conformance/validation`): one test a kind of fault. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import { createTestApi, podBody, pods } from './fixture.ts';
import type { Answer, TestApi } from './fixture.ts';

const configMaps = '/api/v1/namespaces/default/configmaps';
const leases = '/apis/coordination.k8s.io/v1/namespaces/default/leases';
const applied = { headers: { 'content-type': 'application/apply-patch+yaml' } };

const causesOf = ({ body }: Answer): string[] =>
  (body.details?.causes ?? []).map((cause: TestJson) => `${cause.field} ${cause.reason}`);

/** The fields of the one manager. */
function managedBy(object: TestJson): TestJson {
  assert.equal(object.metadata.managedFields.length, 1);
  return object.metadata.managedFields[0].fieldsV1;
}

const apply = (t: TestApi, object: TestJson): Promise<Answer> =>
  t.call('PATCH', `${configMaps}/${object.metadata.name ?? 'a'}?fieldManager=m`, object, applied);

describe('a write', () => {
  it('is owned as it was sent and defaulted, and not as admission changed it', async () => {
    await using t = await createTestApi();
    const fields = managedBy(await t.make(pods, podBody('a')));
    assert.equal(fields['f:spec']['f:tolerations'], undefined);
    assert.equal(fields['f:spec']['f:priority'], undefined);
    assert.deepEqual(fields['f:spec']['f:restartPolicy'], {});
    // A list that is always there is not made by who fills it; what is in it is.
    assert.equal(fields['f:spec']['f:containers']['.'], undefined);
    assert.deepEqual(fields['f:spec']['f:containers']['k:{"name":"c"}']['.'], {});
  });

  it('says which version it changes, for kinds that more than one may write', async () => {
    await using t = await createTestApi();
    const lease = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name: 'a' }, spec: {} };
    await t.make(leases, lease);
    const blind = await t.call('PUT', `${leases}/a`, lease);
    assert.deepEqual([blind.status, ...causesOf(blind)], [422, 'metadata.resourceVersion FieldValueInvalid']);
    const { metadata } = (await t.call('GET', `${leases}/a`)).body;
    assert.equal((await t.call('PUT', `${leases}/a`, { ...lease, metadata })).status, 200);
  });

  it('makes what is not there, where an update of the kind does', async () => {
    await using t = await createTestApi();
    const role = { metadata: { name: 'r' }, rules: [] };
    const path = '/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles/r';
    assert.equal((await t.call('PUT', path, role)).status, 201);
    assert.equal((await t.call('PUT', `${configMaps}/none`, { metadata: { name: 'none' } })).status, 404);
  });

  it('is refused where it names no object, another time of deletion or owner', async () => {
    await using t = await createTestApi();
    await t.make(configMaps, { metadata: { name: 'a' } });
    const put = (metadata: TestJson): Promise<Answer> => t.call('PUT', `${configMaps}/a`, { metadata });
    assert.equal((await put({})).status, 400);
    assert.deepEqual(causesOf(await put({ name: 'a', deletionTimestamp: '2026-01-01T00:00:00Z' })), [
      'metadata.deletionTimestamp FieldValueInvalid',
    ]);
    assert.deepEqual(causesOf(await put({ name: 'a', ownerReferences: [{ apiVersion: 'a/b/c', uid: 'u' }] })), [
      'metadata.ownerReferences[0].apiVersion FieldValueInvalid',
      'metadata.ownerReferences[0].kind FieldValueRequired',
      'metadata.ownerReferences[0].name FieldValueRequired',
    ]);
  });

  it('keeps an owner once, and says so; a refusal has its warnings', async () => {
    await using t = await createTestApi();
    const owner = { apiVersion: 'v1', kind: 'Pod', name: 'p', uid: 'u' };
    const made = await t.call('POST', configMaps, { metadata: { name: 'a', ownerReferences: [owner, owner] } });
    assert.equal(made.body.metadata.ownerReferences.length, 1);
    assert.match(made.headers.warning ?? '', /duplicate UID\(s\) observed: u/);
    const refused = await t.call('POST', configMaps, { metadata: { name: 'B' }, other: 1 });
    assert.equal(refused.status, 422);
    assert.match(refused.headers.warning ?? '', /unknown field/);
  });

  it('of a status takes the metadata that goes with it, but for kinds that keep theirs', async () => {
    await using t = await createTestApi();
    await t.make(pods, podBody('a', { metadata: { labels: { a: 'b' } } }));
    const pod = (await t.call('GET', `${pods}/a`)).body;
    delete pod.metadata.labels;
    assert.equal((await t.call('PUT', `${pods}/a/status`, pod)).body.metadata.labels, undefined);
  });
});

describe('an applied configuration', () => {
  it('owns what it leaves empty or null', async () => {
    await using t = await createTestApi();
    const { body } = await apply(t, { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'a' }, data: {} });
    assert.deepEqual(managedBy(body), { 'f:data': {} });
    assert.equal(body.data, undefined);
  });

  it('is refused where items of a list cannot be told apart', async () => {
    await using t = await createTestApi();
    const metadata = { name: 'a', finalizers: ['x/y', 'x/y'] };
    const answer = await apply(t, { apiVersion: 'v1', kind: 'ConfigMap', metadata });
    assert.deepEqual([answer.status, answer.body.reason], [500, undefined]);
    assert.match(answer.body.message, /\.metadata\.finalizers: duplicate entries for key \[="x\/y"\]/);
  });
});
