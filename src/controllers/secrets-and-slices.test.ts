import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Json, KubeObject } from '#base/objects.ts';
import { planMirror } from './endpoints-mirroring.ts';
import { planTokenSecret } from './token-secrets.ts';

const object = (kind: string, extra: Json = {}): KubeObject => ({
  apiVersion: 'v1',
  kind,
  ...extra,
  metadata: { name: 'x', namespace: 'n', uid: kind, ...extra.metadata },
});
const subsets = [
  {
    addresses: [{ ip: '10.0.0.1' }, { ip: 'fd00::1', hostname: 'h' }],
    notReadyAddresses: [{ ip: '10.0.0.1' }, { ip: '10.0.0.2' }],
    ports: [{ port: 80 }],
  },
];

test('Endpoints of a Service without selector become slices, one for each subset and family', () => {
  const endpoints = object('Endpoints', { subsets, metadata: { labels: { a: 'b' } } });
  const service = object('Service', { spec: {} });
  const { create } = planMirror({ endpoints, service, slices: [] });
  assert.deepEqual(
    create.map((slice) => [
      slice['addressType'],
      slice['ports'],
      slice['endpoints'].map((e: Json) => [e.addresses[0], e.conditions.ready, e.hostname]),
    ]),
    [
      [
        'IPv4',
        [{ name: '', port: 80, protocol: 'TCP' }],
        [
          ['10.0.0.1', true, undefined],
          ['10.0.0.2', false, undefined],
        ],
      ],
      ['IPv6', [{ name: '', port: 80, protocol: 'TCP' }], [['fd00::1', true, 'h']]],
    ],
  );
  assert.deepEqual(
    [create[0]!.metadata.labels, create[0]!.metadata.ownerReferences![0]!.kind],
    [
      {
        a: 'b',
        'kubernetes.io/service-name': 'x',
        'endpointslice.kubernetes.io/managed-by': 'endpointslicemirroring-controller.k8s.io',
      },
      'Endpoints',
    ],
  );
  const slices = create.map((slice, i) => ({ ...slice, metadata: { ...slice.metadata, name: `x-${i}` } }));
  assert.deepEqual(planMirror({ endpoints, service, slices }), { create: [], update: [], delete: [] });
  const fewer = planMirror({
    endpoints: object('Endpoints', {
      subsets: [{ addresses: [{ ip: '10.0.0.9' }], ports: [{ port: 80 }] }],
      metadata: { labels: { a: 'b' } },
    }),
    service,
    slices,
  });
  assert.deepEqual(
    [fewer.update.map((s) => s.metadata.name), fewer.delete.map((s) => s.metadata.name)],
    [['x-0'], ['x-1']],
  );
});

test('nothing is mirrored of what others look after, and what was goes', () => {
  const endpoints = object('Endpoints', { subsets });
  const slices = planMirror({ endpoints, service: object('Service', { spec: {} }), slices: [] }).create;
  const cases: [KubeObject | undefined, KubeObject | undefined][] = [
    [endpoints, object('Service', { spec: { selector: { a: 'b' } } })],
    [endpoints, undefined],
    [undefined, object('Service', { spec: {} })],
    [
      object('Endpoints', { subsets, metadata: { labels: { 'endpointslice.kubernetes.io/skip-mirror': 'true' } } }),
      object('Service', { spec: {} }),
    ],
    [endpoints, object('Service', { spec: { type: 'ExternalName' } })],
  ];
  for (const [e, service] of cases)
    assert.equal(planMirror({ endpoints: e, service, slices }).delete.length, slices.length);
});

test('a token Secret is filled once, and goes with its account', () => {
  const secret = (extra: Json = {}): KubeObject =>
    object('Secret', {
      type: 'kubernetes.io/service-account-token',
      ...extra,
      metadata: { annotations: { 'kubernetes.io/service-account.name': 'a', ...extra.annotations } },
    });
  const account = object('ServiceAccount', { metadata: { name: 'a', uid: 'u' } });
  const plan = planTokenSecret(secret(), account, 'CA')!;
  assert.deepEqual(
    [
      plan.remove,
      plan.needsToken,
      Buffer.from(plan.data['ca.crt']!, 'base64').toString(),
      Buffer.from(plan.data['namespace']!, 'base64').toString(),
      plan.annotations['kubernetes.io/service-account.uid'],
    ],
    [false, true, 'CA', 'n', 'u'],
  );
  const filled = secret({ data: { ...plan.data, token: 'dA==' }, annotations: plan.annotations });
  assert.equal(planTokenSecret(filled, account, 'CA'), undefined);
  assert.equal(planTokenSecret(filled, account, 'another')?.needsToken, false);
  assert.equal(planTokenSecret(filled, undefined, 'CA')?.remove, true);
  assert.equal(
    planTokenSecret(filled, object('ServiceAccount', { metadata: { name: 'a', uid: 'new' } }), 'CA')?.remove,
    true,
  );
  assert.equal(planTokenSecret(object('Secret', { type: 'Opaque' }), undefined, 'CA'), undefined);
});
