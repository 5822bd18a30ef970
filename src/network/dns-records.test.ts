import type { Service } from '#api/core.v1.ts';
import type { EndpointSlice } from '#api/discovery.v1.ts';
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { sampleOf } from '#base/testing.ts';
import { kinds } from '#base/kinds.ts';
import { answerClusterName, type ClusterObjects } from './dns-records.ts';

const services: Record<string, Service> = {
  'default/web': sampleOf(kinds.Service, {
    metadata: { name: 'web', namespace: 'default' },
    spec: { clusterIP: '10.96.0.7', ports: [{ name: 'http', port: 80, protocol: 'TCP' }] },
  }),
  'default/db': sampleOf(kinds.Service, {
    metadata: { name: 'db', namespace: 'default' },
    spec: { clusterIP: 'None', ports: [{ name: 'sql', port: 5432 }] },
  }),
  'default/away': sampleOf(kinds.Service, {
    metadata: { name: 'away', namespace: 'default' },
    spec: { type: 'ExternalName', externalName: 'example.org' },
  }),
};
const slices: EndpointSlice[] = [
  sampleOf(kinds.EndpointSlice, {
    metadata: { name: 'db-1', namespace: 'default' },
    addressType: 'IPv4',
    ports: [{ name: 'sql', port: 5432, protocol: 'TCP' }],
    endpoints: [
      { addresses: ['10.244.0.5'], hostname: 'db-0' },
      { addresses: ['10.244.0.6'], conditions: { ready: false } },
    ],
  }),
];
const objects: ClusterObjects = {
  service: (namespace, name) => services[`${namespace}/${name}`],
  slices: (_namespace, name) => (name === 'db' ? slices : []),
  namespaceExists: (name) => name === 'default',
  nameOfAddress: (ip) => (ip === '10.96.0.7' ? 'web.default.svc.cluster.local' : undefined),
};
const ask = (name: string, type = 'A') => answerClusterName(name, type, 'cluster.local', objects);
const data = (name: string, type = 'A'): unknown[] => ask(name, type)!.answers.map((record) => record.data);

test('a Service answers with its address, whatever the case of the name', () => {
  assert.deepEqual(data('WEB.default.svc.cluster.local'), ['10.96.0.7']);
  assert.deepEqual(data('web.default.svc.cluster.local', 'AAAA'), []);
  assert.equal(ask('web.default.svc.cluster.local', 'AAAA')!.code, 'NOERROR');
});

test('a headless Service answers with its ready endpoints, and each by its hostname', () => {
  assert.deepEqual(data('db.default.svc.cluster.local'), ['10.244.0.5']);
  assert.deepEqual(data('db-0.db.default.svc.cluster.local'), ['10.244.0.5']);
});

test('SRV names ports and targets, with their addresses beside', () => {
  const answer = ask('_sql._tcp.db.default.svc.cluster.local', 'SRV')!;
  assert.deepEqual(answer.answers[0]!.data, {
    target: 'db-0.db.default.svc.cluster.local',
    port: 5432,
    priority: 0,
    weight: 100,
  });
  assert.equal(answer.additionals[0]!.data, '10.244.0.5');
});

test('unknown names below the cluster domain do not exist; others are not ours', () => {
  assert.equal(ask('nobody.default.svc.cluster.local')!.code, 'NXDOMAIN');
  assert.equal(ask('web.other.svc.cluster.local')!.code, 'NXDOMAIN');
  assert.equal(ask('example.org'), undefined);
  assert.equal(ask('4.3.2.1.in-addr.arpa', 'PTR'), undefined);
});

test('Pods, reverse names and external names', () => {
  assert.deepEqual(data('10-244-0-9.default.pod.cluster.local'), ['10.244.0.9']);
  assert.deepEqual(data('7.0.96.10.in-addr.arpa', 'PTR'), ['web.default.svc.cluster.local']);
  assert.equal(ask('away.default.svc.cluster.local')!.follow, 'example.org');
});
