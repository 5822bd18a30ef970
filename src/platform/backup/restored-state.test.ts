/** What becomes of nodes, Pods, volumes and versions when a cluster begins anew elsewhere. */
import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { fieldOf } from '#base/unknown.ts';
import { removedNodes } from '#base/node-identity.ts';
import type { StoredValue } from '#store/store.ts';
import { restoredRevisionsPerSecond, restoredRevisionsStep } from '../limits.ts';
import { StateRestoring, type RestoredState } from './restored-state.ts';

const nowMs = Date.parse('2026-02-01T00:00:10Z');
const before = '/old/volumes';
const now = '/new/volumes';

function restore(objects: Record<string, object>, revision = 500, createdMs = nowMs - 10_000): RestoredState {
  const restoring = new StateRestoring({
    ...{ nowMs, createdMs, uid: 'made' },
    nodes: [
      { name: 'here', podRange: '10.1.0.0/24' },
      { name: 'here-2', podRange: '10.1.1.0/24' },
    ],
    volumeDirectory: { before, now },
  });
  Object.entries(objects).forEach(([key, object], index) =>
    restoring.add({
      key,
      value: Buffer.from(JSON.stringify(object)),
      createRevision: 1,
      modRevision: 400 - index,
      ...('lease' in object ? { lease: 9 } : {}),
    }),
  );
  return restoring.finish(revision);
}

const objectAt = ({ state }: RestoredState, key: string): unknown => {
  const found = state.values.find((value: StoredValue) => value.key === key);
  return found === undefined ? undefined : JSON.parse(Buffer.from(found.value).toString());
};

const pod = (node: string, more: object = {}, status: object = { phase: 'Running', podIP: '10.1.0.7' }): object => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'p', ...more },
  spec: { nodeName: node, containers: [] },
  status: { ...status, qosClass: 'Burstable' },
});

const volume = (path: string, node: string): object => ({
  metadata: { name: 'pv' },
  spec: {
    local: { path },
    nodeAffinity: {
      required: {
        nodeSelectorTerms: [{ matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [node] }] }],
      },
    },
  },
});

describe('a restored state', () => {
  it('gives every key a version above all that there can have been, in their order', () => {
    const { state } = restore({ '/registry/x/a': {}, '/registry/x/b': {}, '/registry/x/c': { lease: true } });
    const first = 500 + restoredRevisionsStep + 10 * restoredRevisionsPerSecond;
    const versions = state.values.map(({ key, modRevision }) => [key, modRevision] as const);
    const marker = `/registry/configmaps/${removedNodes.namespace}/${removedNodes.name}`;
    assert.deepEqual(versions, [
      ['/registry/x/c', first],
      ['/registry/x/b', first + 1],
      ['/registry/x/a', first + 2],
      [marker, first + 3],
    ]);
    assert.ok(state.revision > first + 3);
    assert.deepEqual([...state.leases.keys()], [9]);
    // A clock that is behind that of the backup takes nothing off.
    assert.ok(restore({ '/registry/x/a': {} }, 500, nowMs + 1e9).state.revision > 500 + restoredRevisionsStep);
    assert.throws(() => restore({ '/registry/x/a': {} }, 2 ** 45), /resource versions/);
  });

  it('has nodes of other machines out of service and not ready, and refuses certificates of all of before', () => {
    const node = (name: string): object => ({
      metadata: { name },
      spec: { podCIDR: '10.9.0.0/24', taints: [{ key: 'mine', effect: 'NoSchedule' }] },
      status: { conditions: [{ type: 'Ready', status: 'True' }] },
    });
    const restored = restore({ '/registry/nodes/gone': node('gone'), '/registry/nodes/here': node('here') });
    assert.deepEqual(restored.gone, ['gone']);
    assert.partialDeepStrictEqual(objectAt(restored, '/registry/nodes/gone'), {
      spec: { taints: [{ key: 'mine' }, { key: 'node.kubernetes.io/out-of-service', effect: 'NoExecute' }] },
      status: { conditions: [{ type: 'Ready', status: 'Unknown', reason: 'Restored' }] },
    });
    assert.partialDeepStrictEqual(objectAt(restored, '/registry/nodes/here'), {
      spec: { podCIDR: '10.1.0.0/24', podCIDRs: ['10.1.0.0/24'], taints: [{ key: 'mine' }] },
      status: { conditions: [{ type: 'Ready', status: 'True' }] },
    });
    assert.partialDeepStrictEqual(
      objectAt(restored, `/registry/configmaps/${removedNodes.namespace}/${removedNodes.name}`),
      { metadata: { uid: 'made' }, data: { gone: '2026-02-01T00:00:10Z', here: '2026-02-01T00:00:10Z' } },
    );
  });

  it("takes this machine's Pod ranges off nodes that are gone, and no others", () => {
    const node = (podCIDR: string): object => ({ metadata: {}, spec: { podCIDR, podCIDRs: [podCIDR] } });
    const restored = restore({ '/registry/nodes/a': node('10.1.0.0/24'), '/registry/nodes/b': node('10.1.16.0/24') });
    const specs = ['a', 'b'].map((name) => fieldOf(objectAt(restored, `/registry/nodes/${name}`), 'spec', 'podCIDR'));
    assert.deepEqual(specs, [undefined, '10.1.16.0/24']);
  });

  it('keeps what was known of nodes that were taken out before', () => {
    const key = `/registry/configmaps/${removedNodes.namespace}/${removedNodes.name}`;
    const restored = restore({
      [key]: { metadata: { uid: 'old' }, data: { former: 'then' } },
      '/registry/nodes/a': {},
    });
    assert.partialDeepStrictEqual(objectAt(restored, key), {
      metadata: { uid: 'old', name: removedNodes.name },
      data: { former: 'then', a: '2026-02-01T00:00:10Z' },
    });
  });

  it('schedules Pods of nodes that are gone again, but for those that belong to a node', () => {
    const restored = restore({
      '/registry/pods/d/moves': pod('gone'),
      '/registry/pods/d/here': pod('here'),
      '/registry/pods/d/done': pod('gone', {}, { phase: 'Succeeded' }),
      '/registry/pods/d/daemon': pod('gone', { ownerReferences: [{ kind: 'DaemonSet' }] }),
      '/registry/pods/d/ending': pod('gone', { deletionTimestamp: 'x' }),
      '/registry/pods/d/waiting': pod('', {}, { phase: 'Pending' }),
    });
    assert.equal(restored.podsMoved, 1);
    assert.deepEqual(objectAt(restored, '/registry/pods/d/moves'), {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'p' },
      spec: { containers: [] },
      status: { phase: 'Pending', qosClass: 'Burstable' },
    });
    assert.deepEqual(objectAt(restored, '/registry/pods/d/here'), pod('here'));
    assert.deepEqual(objectAt(restored, '/registry/pods/d/done'), pod('gone', {}, { phase: 'Succeeded' }));
    assert.deepEqual(objectAt(restored, '/registry/pods/d/waiting'), pod('', {}, { phase: 'Pending' }));
    for (const name of ['daemon', 'ending']) assert.equal(objectAt(restored, `/registry/pods/d/${name}`), undefined);
  });

  it('has local volumes on this machine, and leaves others', () => {
    const restored = restore({
      '/registry/persistentvolumes/moves': volume(`${before}/v1`, 'gone'),
      '/registry/persistentvolumes/stays': volume(`${before}/v2`, 'here-2'),
      '/registry/persistentvolumes/other': volume('/srv/x', 'gone'),
    });
    assert.deepEqual(objectAt(restored, '/registry/persistentvolumes/moves'), volume(`${now}/v1`, 'here'));
    assert.deepEqual(objectAt(restored, '/registry/persistentvolumes/stays'), volume(`${now}/v2`, 'here-2'));
    assert.deepEqual(objectAt(restored, '/registry/persistentvolumes/other'), volume('/srv/x', 'gone'));
  });

  it('lets claims that wait for a node that is gone wait for any', () => {
    const claim = (node: string, spec: object = {}): object => ({
      metadata: { annotations: { 'volume.kubernetes.io/selected-node': node, mine: 'x' } },
      spec,
    });
    const restored = restore({
      '/registry/persistentvolumeclaims/d/waits': claim('gone'),
      '/registry/persistentvolumeclaims/d/here': claim('here'),
      '/registry/persistentvolumeclaims/d/bound': claim('gone', { volumeName: 'v' }),
    });
    assert.deepEqual(objectAt(restored, '/registry/persistentvolumeclaims/d/waits'), {
      metadata: { annotations: { mine: 'x' } },
      spec: {},
    });
    assert.deepEqual(objectAt(restored, '/registry/persistentvolumeclaims/d/here'), claim('here'));
    assert.deepEqual(
      objectAt(restored, '/registry/persistentvolumeclaims/d/bound'),
      claim('gone', { volumeName: 'v' }),
    );
  });

  it("drops the leases of servers and of their leader, which are nobody's", () => {
    const leader = '/registry/coordination.k8s.io/leases/kube-system/tiphys-control-plane';
    const restored = restore({ [leader]: {}, '/registry/masterleases/1:2': {}, '/registry/x/a': {} });
    assert.equal(objectAt(restored, leader), undefined);
    assert.equal(restored.state.values.length, 2);
  });
});
