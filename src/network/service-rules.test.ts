import type { Service, ServiceSpec } from '#api/core.v1.ts';
import type { Endpoint as SliceEndpoint, EndpointSlice } from '#api/discovery.v1.ts';
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { sampleOf } from '#base/testing.ts';
import { kinds } from '#base/kinds.ts';
import { udpChanges } from './services.ts';
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
  forNode: undefined,
  forZone: undefined,
  ...over,
});
const here = { nodeName: 'node-1', zone: 'a' };
const rulesOf = (subject: Service, endpoints: SliceEndpoint[]) =>
  planRules(servicePorts(subject, [slice(endpoints)], here), { cluster: '10.244.0.0/16', node: '10.244.0.0/24' });

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

const chainOf = (rules: ReturnType<typeof rulesOf>, verdict: string | undefined): string[] =>
  rules.chains.get(verdict!.replace('goto ', ''))!;
const far = { addresses: ['10.244.1.3'], nodeName: 'node-2' };

test('a node port masquerades whoever asks: the endpoint may be on another node', () => {
  const rules = rulesOf(service(), [{ addresses: ['10.244.0.2'], nodeName: 'node-1' }, far]);
  const chain = chainOf(rules, rules.nodePorts.get('tcp . 30080'));
  assert.equal(chain[0], 'meta mark set meta mark | 0x4000');
  assert.match(chain[1]!, /10\.244\.0\.2 .*10\.244\.1\.3/);
});

test('outside traffic of a Local Service stays on this node and keeps its source', () => {
  const rules = rulesOf(service({ externalTrafficPolicy: 'Local' }), [
    { addresses: ['10.244.0.2'], nodeName: 'node-1' },
    far,
  ]);
  const chain = chainOf(rules, rules.nodePorts.get('tcp . 30080'));
  assert.equal(chain.at(-1), 'meta l4proto tcp dnat ip to 10.244.0.2:8080');
  assert.ok(!chain.at(-1)!.includes('mark'));
});

test('traffic from inside the cluster to a Local Service goes to any node', () => {
  const rules = rulesOf(service({ externalTrafficPolicy: 'Local', internalTrafficPolicy: 'Local' }), [far]);
  const chain = chainOf(rules, rules.nodePorts.get('tcp . 30080'));
  const any = /goto (\S+)$/.exec(chain[0]!)![1]!;
  assert.deepEqual(chain, [
    `ip saddr 10.244.0.0/24 goto ${any}`,
    `ip saddr 10.244.0.0/16 meta mark set meta mark | 0x4000 goto ${any}`,
    `fib saddr type local meta mark set meta mark | 0x4000 goto ${any}`,
    'drop',
  ]);
  assert.deepEqual(rules.chains.get(any), ['meta l4proto tcp dnat ip to 10.244.1.3:8080']);
  assert.equal(rules.rejectedNodePorts.size, 0);
});

test('UDP flows are forgotten by address and by node port, also when only a chain behind another changed', () => {
  const subject = service({ externalTrafficPolicy: 'Local', ports: [{ port: 53, nodePort: 30_053, protocol: 'UDP' }] });
  const planned = (ip: string) => {
    const found = { ...slice([{ addresses: [ip], nodeName: 'node-2' }]) };
    found.ports = [{ name: '', port: 53, protocol: 'UDP' }];
    return planRules(servicePorts(subject, [found], here), { cluster: '10.244.0.0/16', node: '10.244.0.0/24' });
  };
  assert.deepEqual(udpChanges(planned('10.244.1.3'), planned('10.244.1.3')), []);
  assert.deepEqual(udpChanges(planned('10.244.1.3'), planned('10.244.1.4')), [
    { ip: '10.96.0.7', port: 53 },
    { port: 30_053 },
  ]);
});

test('endpoints that end are used only while nothing else is left', () => {
  const ending = endpoint({ ip: '10.244.0.9', ready: false, terminating: true });
  assert.deepEqual(
    usableEndpoints([endpoint({}), ending], 'all').map((entry) => entry.ip),
    ['10.244.0.2'],
  );
  assert.deepEqual(
    usableEndpoints([ending], 'all').map((entry) => entry.ip),
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

test('clients that are to stay are looked for in the sets of the endpoints first, and noted in that of their own', () => {
  const sticky = service({ sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } } });
  const before = rulesOf(sticky, [{ addresses: ['10.244.0.2'] }, { addresses: ['10.244.0.3'] }]);
  const [first = '', second = ''] = before.sets.keys();
  assert.deepEqual(
    [...new Set(before.sets.values())],
    ['type ipv4_addr; flags dynamic,timeout; timeout 60s; size 65536;'],
  );
  const [to = '', other = ''] = [first, second].map((set) => set.replace('clients', 'to'));
  assert.deepEqual(chainOf(before, before.services.get('10.96.0.7 . tcp . 80')), [
    `ip saddr @${first} goto ${to}`,
    `ip saddr @${second} goto ${other}`,
    `jhash ip saddr mod 2 vmap { 0 : goto ${to}, 1 : goto ${other} }`,
  ]);
  assert.deepEqual(before.chains.get(to), [
    `update @${first} { ip saddr }`,
    'meta l4proto tcp dnat ip to 10.244.0.2:8080',
  ]);
  const after = rulesOf(sticky, [{ addresses: ['10.244.0.3'] }]);
  const commands = diffRules('t', before, after);
  assert.ok(commands.indexOf(`delete set ip t ${first}`) > commands.indexOf(`delete chain ip t ${to}`));
  assert.ok(
    !commands.some((command) => command.includes(`set ip t ${second}`)),
    'who came to the other one stays known',
  );
  const longer = service({ sessionAffinity: 'ClientIP' });
  assert.match([...rulesOf(longer, [{ addresses: ['10.244.0.3'] }]).sets.values()].join(), /timeout 10800s/);
});

test('endpoints that are meant for this node go first, then those for its zone; where that is not said of each, all do', () => {
  const of = (ip: string, hints: SliceEndpoint['hints']): SliceEndpoint => ({
    addresses: [ip],
    ...(hints === undefined ? {} : { hints }),
  });
  const far = { forZones: [{ name: 'b' }], forNodes: [{ name: 'node-9' }] };
  const chosen = (endpoints: SliceEndpoint[]): string =>
    servicePorts(service(), [slice(endpoints)], here)
      .flatMap((port) => usableEndpoints(port.endpoints, 'near'))
      .map(({ ip }) => ip)
      .join(' ');
  const zone = { forZones: [{ name: 'a' }] };
  const node = { ...zone, forNodes: [{ name: 'node-1' }] };
  assert.equal(chosen([of('10.0.0.1', node), of('10.0.0.2', { ...far, ...zone }), of('10.0.0.3', far)]), '10.0.0.1');
  assert.equal(chosen([of('10.0.0.1', zone), of('10.0.0.2', zone), of('10.0.0.3', far)]), '10.0.0.1 10.0.0.2');
  assert.equal(
    chosen([of('10.0.0.1', node), of('10.0.0.2', zone), of('10.0.0.3', undefined)]),
    '10.0.0.1 10.0.0.2 10.0.0.3',
  );
  assert.equal(chosen([of('10.0.0.1', far), of('10.0.0.2', far)]), '10.0.0.1 10.0.0.2');
});
