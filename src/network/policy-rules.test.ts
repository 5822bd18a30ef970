import type { NetworkPolicy, NetworkPolicySpec } from '#api/networking.v1.ts';
import type { Pod } from '#api/core.v1.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sampleOf } from '#base/testing.ts';
import { kinds } from '#base/kinds.ts';
import { compilePolicy, diffPolicies, emptyPolicyRules, planPolicies, type PolicyRules } from './policy-rules.ts';
import { podFacts, PodSelections, type Selection } from './policy-selections.ts';

interface PodSample {
  namespace?: string;
  labels?: Record<string, string>;
  node?: string;
  hostNetwork?: boolean;
  phase?: string;
}

function pod(name: string, ip: string, sample: PodSample = {}): Pod {
  return sampleOf(kinds.Pod, {
    metadata: { name, namespace: sample.namespace ?? 'default', labels: sample.labels ?? {} },
    spec: {
      nodeName: sample.node ?? 'node-1',
      hostNetwork: sample.hostNetwork ?? false,
      containers: [{ name: 'c', ports: [{ name: 'web', containerPort: 8080 }] }],
    },
    status: { podIP: ip, phase: sample.phase ?? 'Running' },
  });
}

function policy(name: string, spec: NetworkPolicySpec, namespace = 'default'): NetworkPolicy {
  return sampleOf(kinds.NetworkPolicy, { metadata: { name, namespace }, spec });
}

/** A cluster as a node sees it. */
class Cluster {
  readonly selections = new PodSelections();
  readonly #policies = new Map<string, ReturnType<typeof compilePolicy>>();

  constructor(...pods: Pod[]) {
    for (const one of pods) this.set(one);
    this.selections.setNamespace('default', {});
    this.selections.setNamespace('other', { team: 'b' });
  }
  set(one: Pod): void {
    this.selections.setPod(`${one.metadata.namespace}/${one.metadata.name}`, podFacts(one, 'node-1'));
  }
  remove(key: string): void {
    this.selections.setPod(key, undefined);
  }
  apply(...policies: NetworkPolicy[]): this {
    for (const one of policies) {
      const compiled = compilePolicy(one);
      for (const selection of selectionsOf(compiled)) this.selections.hold(selection);
      this.#policies.set(`${one.metadata.namespace}/${one.metadata.name}`, compiled);
    }
    return this;
  }
  plan(): PolicyRules {
    return planPolicies(this.#policies.values(), this.selections);
  }
}

function selectionsOf({ subject, ingress, egress }: ReturnType<typeof compilePolicy>): Selection[] {
  return [subject, ...(ingress?.peers ?? []), ...(egress?.peers ?? [])];
}

const linesOf = (spec: Partial<NetworkPolicySpec>): readonly string[] =>
  compilePolicy(policy('p', { podSelector: {}, ...spec })).ingress?.lines ?? [];
const peersOf = (rules: PolicyRules): string[][] => [...rules.peers.values()].map((set) => [...set].sort());

test('a policy without rules drops what comes to the Pods that it selects on this node, and to no other', () => {
  const rules = new Cluster(
    pod('a', '10.0.0.2', { labels: { app: 'a' } }),
    pod('b', '10.0.0.3'),
    pod('far', '10.0.1.2', { labels: { app: 'a' }, node: 'node-2' }),
    pod('host', '192.0.2.1', { labels: { app: 'a' }, hostNetwork: true }),
    pod('ended', '10.0.0.9', { labels: { app: 'a' }, phase: 'Succeeded' }),
  )
    .apply(policy('deny', { podSelector: { matchLabels: { app: 'a' } } }))
    .plan();
  assert.deepEqual([...rules.arriving], [['10.0.0.2', 'drop']]);
  assert.deepEqual([...rules.leaving], []);
  assert.deepEqual([...rules.selves], ['10.0.0.2 . 10.0.0.2']);
  assert.equal(rules.chains.size, 0);
});

test('types that are not given are Ingress, and Egress where there are rules of it', () => {
  const typesOf = (spec: Partial<NetworkPolicySpec>): boolean[] => {
    const { ingress, egress } = compilePolicy(policy('p', { podSelector: {}, ...spec }));
    return [ingress !== undefined, egress !== undefined];
  };
  assert.deepEqual(typesOf({}), [true, false]);
  assert.deepEqual(typesOf({ egress: [{}] }), [true, true]);
  assert.deepEqual(typesOf({ policyTypes: ['Egress'] }), [false, true]);
  assert.deepEqual(typesOf({ policyTypes: ['Egress'], ingress: [{}] }), [false, true]);
});

test('a rule that says nothing lets everything through', () => {
  assert.deepEqual(linesOf({ ingress: [{}] }), ['accept']);
  assert.deepEqual(linesOf({ ingress: [{ from: [], ports: [] }] }), ['accept']);
  assert.deepEqual(linesOf({ ingress: [] }), []);
});

test('ports: numbers, ranges, protocols without a number, and merged where they overlap', () => {
  assert.deepEqual(
    linesOf({
      ingress: [{ ports: [{ port: 80 }, { port: 90, endPort: 95 }, { port: 93, endPort: 99 }, { port: 100 }] }],
    }),
    ['tcp dport { 80, 90-100 } accept'],
  );
  assert.deepEqual(linesOf({ ingress: [{ ports: [{ protocol: 'SCTP' }, { protocol: 'UDP', port: 53 }] }] }), [
    'meta l4proto sctp accept',
    'udp dport { 53 } accept',
  ]);
});

test('a block of addresses has its exceptions, which may overlap, and one of version 6 lets none of ours through', () => {
  const block = (cidr: string, ...except: string[]) =>
    linesOf({ ingress: [{ from: [{ ipBlock: { cidr, except } }] }] });
  assert.deepEqual(block('10.1.2.3/8', '10.1.0.0/16', '10.1.2.0/24', '10.1.0.0/16', '10.3.0.0/16'), [
    'ip saddr 10.0.0.0/8 ip saddr != { 10.1.0.0/16, 10.3.0.0/16 } accept',
  ]);
  assert.deepEqual(block('10.0.0.0/8', '0.0.0.0/0'), []);
  assert.deepEqual(block('2001:db8::/32'), []);
});

test('peers: of the own namespace, of namespaces by label, and of both', () => {
  const cluster = new Cluster(
    pod('me', '10.0.0.2', { labels: { app: 'me' } }),
    pod('here', '10.0.0.3', { labels: { role: 'x' } }),
    pod('there', '10.0.1.3', { namespace: 'other', labels: { role: 'x' }, node: 'node-2' }),
    pod('there-too', '10.0.1.4', { namespace: 'other', node: 'node-2' }),
  );
  const x = { matchLabels: { role: 'x' } };
  const b = { matchLabels: { team: 'b' } };
  const from = [{ podSelector: x }, { namespaceSelector: b }, { namespaceSelector: b, podSelector: x }];
  cluster.apply(policy('p', { podSelector: { matchLabels: { app: 'me' } }, ingress: [{ from }] }));
  assert.deepEqual(peersOf(cluster.plan()), [['10.0.0.3'], ['10.0.1.3', '10.0.1.4'], ['10.0.1.3']]);
  cluster.selections.setNamespace('other', { team: 'c' });
  assert.deepEqual(peersOf(cluster.plan()), [['10.0.0.3'], [], []]);
  cluster.selections.setNamespace('default', { team: 'b' });
  assert.deepEqual(peersOf(cluster.plan()), [['10.0.0.3'], ['10.0.0.2', '10.0.0.3'], ['10.0.0.3']]);
});

test('a named port is the number that each Pod gives to it', () => {
  const cluster = new Cluster(pod('a', '10.0.0.2'), pod('far', '10.0.1.2', { node: 'node-2' }));
  cluster.apply(policy('p', { podSelector: {}, egress: [{ ports: [{ port: 'web' }] }], policyTypes: ['Egress'] }));
  const rules = cluster.plan();
  const [[name, elements]] = [...rules.namedPorts] as [[string, ReadonlySet<string>]];
  assert.deepEqual([...elements], ['10.0.0.2 . tcp . 8080', '10.0.1.2 . tcp . 8080']);
  assert.ok(
    [...rules.chains.values()].some(
      (lines) => lines[0] === `ip daddr . meta l4proto . th dport @${name} goto arrivals`,
    ),
  );
});

test('Pods under the same policies share a chain, which drops what no policy lets through', () => {
  const cluster = new Cluster(pod('a', '10.0.0.2'), pod('b', '10.0.0.3'));
  cluster.apply(policy('one', { podSelector: {}, ingress: [{ ports: [{ port: 80 }] }] }));
  cluster.apply(policy('two', { podSelector: {}, ingress: [{ ports: [{ port: 81 }] }] }));
  const rules = cluster.plan();
  assert.equal(new Set(rules.arriving.values()).size, 1);
  const group = rules.chains.get(rules.arriving.get('10.0.0.2')!.replace('goto ', ''))!;
  assert.deepEqual(
    group.map((line) => line.split(' ')[0]),
    ['jump', 'jump', 'drop'],
  );
});

test('a Pod that comes, goes or changes is elements of sets and maps, and no rule', () => {
  const cluster = new Cluster(pod('a', '10.0.0.2'), pod('b', '10.0.0.3'));
  const x = { matchLabels: { role: 'x' } };
  cluster.apply(policy('p', { podSelector: {}, ingress: [{ from: [{ podSelector: x }] }] }));
  const before = cluster.plan();
  cluster.set(pod('b', '10.0.0.3', { labels: { role: 'x' } }));
  const labelled = cluster.plan();
  assert.equal(diffPolicies('t', before, labelled).length, 1);
  assert.match(diffPolicies('t', before, labelled)[0]!, /^add element ip t peers-\w+ \{ 10\.0\.0\.3 \}$/);
  cluster.remove('default/b');
  const gone = diffPolicies('t', labelled, cluster.plan());
  assert.ok(
    gone.every((command) => command.startsWith('delete element')),
    gone.join('\n'),
  );
  assert.deepEqual(diffPolicies('t', labelled, labelled), []);
});

test('a policy that changes is one chain, and one that goes leaves nothing', () => {
  const cluster = new Cluster(pod('a', '10.0.0.2'));
  cluster.apply(policy('p', { podSelector: {}, ingress: [{ ports: [{ port: 80 }] }] }));
  const before = cluster.plan();
  cluster.apply(policy('p', { podSelector: {}, ingress: [{ ports: [{ port: 81 }] }] }));
  assert.deepEqual(
    diffPolicies('t', before, cluster.plan()).map((command) => command.split(' ').slice(0, 2).join(' ')),
    ['flush chain', 'add rule'],
  );
  const end = diffPolicies('t', before, emptyPolicyRules());
  assert.deepEqual(
    end.map((command) => command.split(' ').slice(0, 2).join(' ')),
    ['delete element', 'delete element', 'flush chain', 'flush chain', 'delete chain', 'delete chain'],
  );
});
