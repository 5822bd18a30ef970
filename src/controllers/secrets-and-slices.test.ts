import type { Endpoints, Secret, Service } from '#api/core.v1.ts';
import type { EndpointSlice } from '#api/discovery.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KindRef, KubeObject } from '#base/objects.ts';
import { sampleOf, type TestJson } from '#base/testing.ts';
import { kinds } from '#base/kinds.ts';
import { planMirror } from './endpoints-mirroring.ts';
import { planTokenSecret } from './token-secrets.ts';

const object = <T extends KubeObject>(kind: KindRef<T>, extra: TestJson = {}): T =>
  sampleOf<KubeObject>(kind, {
    ...extra,
    metadata: { name: 'x', namespace: 'n', uid: kind.kind, ...extra.metadata },
  }) as T;
const storedSlice = ({ metadata: { labels = {} }, ...slice }: Manifest<EndpointSlice>, name: string): EndpointSlice =>
  sampleOf(kinds.EndpointSlice, { ...slice, metadata: { labels, name } });
const subsets = [
  {
    addresses: [{ ip: '10.0.0.1' }, { ip: 'fd00::1', hostname: 'h' }],
    notReadyAddresses: [{ ip: '10.0.0.1' }, { ip: '10.0.0.2' }],
    ports: [{ port: 80 }],
  },
];

test('Endpoints of a Service without selector become slices, one for each subset and family', () => {
  const endpoints = object(kinds.Endpoints, { subsets, metadata: { labels: { a: 'b' } } });
  const service = object(kinds.Service, { spec: {} });
  const { create } = planMirror({ endpoints, service, slices: [] });
  assert.deepEqual(
    create.map((slice) => [
      slice.addressType,
      slice.ports,
      slice.endpoints?.map((e) => [e.addresses[0], e.conditions?.ready, e.hostname]),
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
  const slices = create.map((slice, i) => storedSlice(slice, `x-${i}`));
  assert.deepEqual(planMirror({ endpoints, service, slices }), { create: [], update: [], delete: [] });
  const fewer = planMirror({
    endpoints: object(kinds.Endpoints, {
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
  const endpoints = object(kinds.Endpoints, { subsets });
  const slices = planMirror({ endpoints, service: object(kinds.Service, { spec: {} }), slices: [] }).create.map(
    (slice, i) => storedSlice(slice, `x-${i}`),
  );
  const cases: [Endpoints | undefined, Service | undefined][] = [
    [endpoints, object(kinds.Service, { spec: { selector: { a: 'b' } } })],
    [endpoints, undefined],
    [undefined, object(kinds.Service, { spec: {} })],
    [
      object(kinds.Endpoints, { subsets, metadata: { labels: { 'endpointslice.kubernetes.io/skip-mirror': 'true' } } }),
      object(kinds.Service, { spec: {} }),
    ],
    [endpoints, object(kinds.Service, { spec: { type: 'ExternalName' } })],
  ];
  for (const [e, service] of cases)
    assert.equal(planMirror({ endpoints: e, service, slices }).delete.length, slices.length);
});

test('a token Secret is filled once, and goes with its account', () => {
  const secret = (extra: TestJson = {}): Secret =>
    object(kinds.Secret, {
      type: 'kubernetes.io/service-account-token',
      ...extra,
      metadata: { annotations: { 'kubernetes.io/service-account.name': 'a', ...extra.annotations } },
    });
  const account = object(kinds.ServiceAccount, { metadata: { name: 'a', uid: 'u' } });
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
    planTokenSecret(filled, object(kinds.ServiceAccount, { metadata: { name: 'a', uid: 'new' } }), 'CA')?.remove,
    true,
  );
  assert.equal(planTokenSecret(object(kinds.Secret, { type: 'Opaque' }), undefined, 'CA'), undefined);
});
