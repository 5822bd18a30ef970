import type { Service, ServiceSpec } from '#api/core.v1.ts';
import type { Endpoint as SliceEndpoint, EndpointSlice } from '#api/discovery.v1.ts';
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { sampleOf } from '#base/testing.ts';
import { kinds } from '#base/kinds.ts';
import { diffRules, emptyRuleSet, planRules, servicePorts, usableEndpoints, type Endpoint } from './service-rules.ts';

const service = (spec: Partial<ServiceSpec> = {}): Service =>
  sampleOf(kinds.Service, {
    metadata: { name: 'web', namespace: 'default' },
    spec: {
      type: 'NodePort',
      clusterIP: '10.96.0.7',
      ports: [{ port: 80, nodePort: 30_080, protocol: 'TCP' }],
      ...spec,
    },
  });
const slice = (endpoints: SliceEndpoint[]): EndpointSlice =>
  sampleOf(kinds.EndpointSlice, {
    metadata: { name: 's', namespace: 'default' },
    addressType: 'IPv4',
    ports: [{ name: '', port: 8080, protocol: 'TCP' }],
    endpoints,
  });
const endpoint = (over: Partial<Endpoint>): Endpoint => ({
  ip: '10.244.0.2',
  port: 8080,
  local: true,
  ready: true,
  serving: true,
  terminating: false,
  ...over,
});
const rulesOf = (subject: Service, endpoints: SliceEndpoint[]) =>
  planRules(servicePorts(subject, [slice(endpoints)], 'node-1'), '10.244.0.0/16');

test('a Service with endpoints is translated for its address and its node port', () => {
  const rules = rulesOf(service(), [
    { addresses: ['10.244.0.2'], nodeName: 'node-1' },
    { addresses: ['10.244.0.3'], nodeName: 'node-2' },
  ]);
  assert.equal(rules.services.size, 1);
  assert.equal(rules.nodePorts.size, 1);
  const chain = rules.chains.get(rules.services.get('10.96.0.7 . tcp . 80')!.replace('goto ', ''))!;
  assert.deepEqual(chain, [
    'meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.244.0.2 . 8080, 1 : 10.244.0.3 . 8080 }',
  ]);
});

test('a Service without endpoints is rejected, a headless one has no rules', () => {
  const rules = rulesOf(service(), []);
  assert.deepEqual([...rules.rejectedServices], ['10.96.0.7 . tcp . 80']);
  assert.deepEqual([...rules.rejectedNodePorts], ['tcp . 30080']);
  assert.deepEqual(rulesOf(service({ clusterIP: 'None' }), []), emptyRuleSet());
});

test('outside traffic of a Local Service stays on this node and keeps its source', () => {
  const rules = rulesOf(service({ externalTrafficPolicy: 'Local' }), [
    { addresses: ['10.244.0.2'], nodeName: 'node-1' },
    { addresses: ['10.244.1.3'], nodeName: 'node-2' },
  ]);
  const chain = rules.chains.get(rules.nodePorts.get('tcp . 30080')!.replace('goto ', ''))!;
  assert.equal(chain.at(-1), 'meta l4proto tcp dnat ip to 10.244.0.2:8080');
  assert.ok(!chain.some((line) => line.startsWith('ip saddr !=')));
});

test('endpoints that end are used only while nothing else is left', () => {
  const ending = endpoint({ ip: '10.244.0.9', ready: false, terminating: true });
  assert.deepEqual(
    usableEndpoints([endpoint({}), ending], false).map((entry) => entry.ip),
    ['10.244.0.2'],
  );
  assert.deepEqual(
    usableEndpoints([ending], false).map((entry) => entry.ip),
    ['10.244.0.9'],
  );
});

test('a change of endpoints rewrites one chain and leaves the maps alone', () => {
  const before = rulesOf(service(), [{ addresses: ['10.244.0.2'] }]);
  const after = rulesOf(service(), [{ addresses: ['10.244.0.3'] }]);
  const commands = diffRules('t', before, after);
  assert.ok(
    commands.every((command) => /chain|rule|hairpins/.test(command)),
    commands.join('\n'),
  );
  assert.deepEqual(diffRules('t', after, after), []);
});

test('a Service that goes leaves nothing behind', () => {
  const commands = diffRules('t', rulesOf(service(), [{ addresses: ['10.244.0.2'] }]), emptyRuleSet());
  assert.equal(commands.filter((command) => command.startsWith('delete chain')).length, 2);
  assert.ok(
    commands.findIndex((command) => command.includes('delete element')) <
      commands.findIndex((command) => command.startsWith('delete chain')),
  );
});
