/** Where a Pod can go with its claims, and what is to be written for them once it goes there. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PersistentVolume, PersistentVolumeClaim } from '#api/core.v1.ts';
import type { StorageClass } from '#api/storage.v1.ts';
import { sampleOf } from '#base/testing.ts';
import { kinds } from '#base/kinds.ts';
import { SimRandom } from '#os/clock.sim.ts';
import type { SchedulerCache } from './cache.ts';
import { chooseNode } from './choose-node.ts';
import { podInfoOf } from './pod-info.ts';
import { cacheOf, makeNode, makePod, type Beside } from './testing.ts';

const nodes = [makeNode('a', { labels: { zone: '1' } }), makeNode('b', { labels: { zone: '2' } })];
const storageClass = (more: object = {}): StorageClass =>
  sampleOf(kinds.StorageClass, {
    metadata: { name: 'local' },
    provisioner: 'kubernetes.io/no-provisioner',
    volumeBindingMode: 'WaitForFirstConsumer',
    ...more,
  });
const claim = (name: string, spec: object = {}, more: object = {}): PersistentVolumeClaim =>
  sampleOf(kinds.PersistentVolumeClaim, {
    metadata: { name, namespace: 'default', uid: name, ...more },
    spec: {
      storageClassName: 'local',
      accessModes: ['ReadWriteOnce'],
      resources: { requests: { storage: '1Gi' } },
      ...spec,
    },
    status: {},
  });
const volume = (name: string, spec: object = {}, more: object = {}): PersistentVolume =>
  sampleOf(kinds.PersistentVolume, {
    metadata: { name, ...more },
    spec: { storageClassName: 'local', accessModes: ['ReadWriteOnce'], capacity: { storage: '1Gi' }, ...spec },
    status: { phase: 'Available' },
  });
const onNode = (node: string): object => ({
  nodeAffinity: {
    required: {
      nodeSelectorTerms: [{ matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [node] }] }],
    },
  },
});
const podOf = (...claims: string[]) =>
  makePod('p', { volumes: claims.map((claimName) => ({ name: claimName, persistentVolumeClaim: { claimName } })) });

/** `NODE: claim=volume claim=new`, or why it can go nowhere. */
function choiceOf(beside: Beside, claims: string[], assume?: (cache: SchedulerCache) => void): string {
  const cache = cacheOf(nodes, [], { classes: [storageClass()], ...beside });
  assume?.(cache);
  const decision = chooseNode(podInfoOf(podOf(...claims)), cache, 0, new SimRandom(3));
  if (decision.type !== 'placed') return decision.message.replace(/^0\/2 nodes are available: /, '');
  const { bind, provision } = decision.volumes ?? { bind: [], provision: [] };
  const parts = [
    ...bind.map((each) => `${each.claim.metadata.name}=${each.volume.metadata.name}`),
    ...provision.map(({ metadata }) => `${metadata.name}=new`),
  ];
  return `${decision.node.name}:${parts.map((part) => ` ${part}`).join('')}`;
}

const none = "2 node(s) didn't find available persistent volumes to bind.";

test('a volume fits by class, modes, size, selector and state', () => {
  const fits: [string, object, object][] = [
    ['another class', { storageClassName: 'other' }, {}],
    ['other modes', { accessModes: ['ReadOnlyMany'] }, {}],
    ['a block device', { volumeMode: 'Block' }, {}],
    ['too small', { capacity: { storage: '1023Mi' } }, {}],
    ['of another claim', { claimRef: { namespace: 'default', name: 'other' } }, {}],
    ['of an earlier claim of that name', { claimRef: { namespace: 'default', name: 'c', uid: 'before' } }, {}],
    ['about to go', {}, { deletionTimestamp: '2026-01-01T00:00:00Z' }],
  ];
  for (const [name, spec, metadata] of fits)
    assert.equal(
      choiceOf({ claims: [claim('c')], volumes: [volume('v', { ...onNode('b'), ...spec }, metadata)] }, ['c']),
      none,
      name,
    );
  const released = { ...volume('v', onNode('b')), status: { phase: 'Released' as const } };
  assert.equal(choiceOf({ claims: [claim('c')], volumes: [released] }, ['c']), none);
  assert.equal(choiceOf({ claims: [claim('c')], volumes: [volume('v', onNode('b'))] }, ['c']), 'b: c=v');
  const wanted = claim('c', { selector: { matchLabels: { disk: 'ssd' } } });
  assert.equal(choiceOf({ claims: [wanted], volumes: [volume('v', onNode('b'))] }, ['c']), none);
  assert.equal(
    choiceOf({ claims: [wanted], volumes: [volume('v', onNode('b'), { labels: { disk: 'ssd' } })] }, ['c']),
    'b: c=v',
  );
});

test('the smallest that is large enough is taken, unless one is meant for the claim', () => {
  const sized = (name: string, storage: string, more: object = {}): PersistentVolume =>
    volume(name, { capacity: { storage }, ...onNode('a'), ...more });
  const volumes = [sized('large', '10Gi'), sized('small', '500Mi'), sized('right', '2Gi'), sized('alike', '2Gi')];
  assert.equal(choiceOf({ claims: [claim('c')], volumes }, ['c']), 'a: c=alike');
  const meant = sized('meant', '50Gi', { claimRef: { namespace: 'default', name: 'c' } });
  assert.equal(choiceOf({ claims: [claim('c')], volumes: [...volumes, meant] }, ['c']), 'a: c=meant');
});

test('all claims of a Pod are served on one node, each by a volume of its own', () => {
  const claims = [claim('c'), claim('d')];
  const apart = [volume('v', onNode('a')), volume('w', onNode('b'))];
  assert.equal(choiceOf({ claims, volumes: apart }, ['c', 'd']), none);
  assert.equal(choiceOf({ claims, volumes: [...apart, volume('x', onNode('b'))] }, ['c', 'd']), 'b: c=w d=x');
});

test('a volume that another decision has promised is not free', () => {
  const beside = { claims: [claim('c')], volumes: [volume('v', onNode('a')), volume('w', onNode('b'))] };
  assert.equal(
    choiceOf(beside, ['c'], (cache) => cache.assumedVolumes.add('v')),
    'b: c=w',
  );
  assert.equal(
    choiceOf(beside, ['c'], (cache) => {
      for (const name of ['v', 'w']) cache.assumedVolumes.add(name);
    }),
    none,
  );
});

test('a bound volume holds its Pod to where it is reached, by affinity and by zone', () => {
  const bound = claim('c', { volumeName: 'v' }, { annotations: { 'pv.kubernetes.io/bind-completed': 'yes' } });
  assert.equal(choiceOf({ claims: [bound], volumes: [volume('v', onNode('b'))] }, ['c']), 'b:');
  const zone = (value: string): PersistentVolume =>
    volume('v', {}, { labels: { 'topology.kubernetes.io/zone': value } });
  const inZones = (value: string): string => {
    const labelled = ['1', '2'].map((each) =>
      makeNode(`n${each}`, { labels: { 'topology.kubernetes.io/zone': each } }),
    );
    const cache = cacheOf(labelled, [], { claims: [bound], volumes: [zone(value)] });
    const decision = chooseNode(podInfoOf(podOf('c')), cache, 0, new SimRandom(3));
    return decision.type === 'placed' ? decision.node.name : decision.message;
  };
  assert.equal(inZones('2'), 'n2');
  assert.equal(inZones('0__2'), 'n2', 'of several zones any will do');
  assert.equal(inZones('3'), '0/2 nodes are available: 2 node(s) had no available volume zone.');
});

test('what is not there yet can be made where the class allows it, and stays where that has begun', () => {
  const made = storageClass({ provisioner: 'x' });
  const beside = (more: object = {}, annotations: object = {}): Beside => ({
    claims: [claim('c', {}, { annotations })],
    classes: [{ ...made, ...more }],
  });
  assert.match(choiceOf(beside(), ['c']), /^[ab]: c=new$/);
  const inZone = { allowedTopologies: [{ matchLabelExpressions: [{ key: 'zone', values: ['2'] }] }] };
  assert.equal(choiceOf(beside(inZone), ['c']), 'b: c=new');
  assert.equal(choiceOf(beside({}, { 'volume.kubernetes.io/selected-node': 'b' }), ['c']), 'b: c=new');
  assert.match(
    choiceOf(beside({}, { 'volume.kubernetes.io/selected-node': 'gone' }), ['c']),
    /^[ab]: c=new$/,
    'the node that was chosen is not there any more',
  );
  assert.match(
    choiceOf({ ...beside(), volumes: [volume('v', onNode('a')), volume('w', onNode('b'))] }, ['c']),
    /^(?:a: c=v|b: c=w)$/,
    'where one is free it is taken',
  );
});

test('a claim that cannot be served anywhere says why', () => {
  const cases: [Beside, string][] = [
    [{}, 'persistentvolumeclaim "c" not found.'],
    [
      { claims: [claim('c', {}, { deletionTimestamp: '2026-01-01T00:00:00Z' })] },
      'persistentvolumeclaim "c" is being deleted.',
    ],
    [
      { claims: [{ ...claim('c', { volumeName: 'v' }), status: { phase: 'Lost' } }] },
      'persistentvolumeclaim "c" bound to non-existent persistentvolume "v".',
    ],
    [{ claims: [claim('c', { volumeName: 'v' })] }, 'persistentvolume "v" not found.'],
    [
      { claims: [claim('c', { volumeName: 'v' })], volumes: [volume('v')] },
      'pod has unbound immediate PersistentVolumeClaims.',
    ],
    [{ claims: [claim('c', { storageClassName: '' })] }, 'pod has unbound immediate PersistentVolumeClaims.'],
    [
      { claims: [claim('c')], classes: [storageClass({ volumeBindingMode: 'Immediate' })] },
      'pod has unbound immediate PersistentVolumeClaims.',
    ],
  ];
  for (const [beside, message] of cases) assert.equal(choiceOf(beside, ['c']), message);
});

test('an ephemeral volume is served by the claim that is named after it', () => {
  const pod = makePod('p', { volumes: [{ name: 'scratch', ephemeral: { volumeClaimTemplate: { spec: {} } } }] });
  assert.deepEqual(podInfoOf(pod).claims, ['p-scratch']);
});
