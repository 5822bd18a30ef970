/** Which members a server asks, and what is said of them. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import type { Node } from '#api/core.v1.ts';
import { controlPlaneRole, machineAnnotations } from '#base/node-identity.ts';
import { serversOf } from '../known-servers.ts';
import type { ListedMember } from './admin.ts';
import { leavingProblem } from './leave.ts';
import { problemsOf } from './report.ts';
import { orderEndpoints } from './upkeep.ts';
import { recoveryProblem } from './recover.ts';
import { serversIn } from '../keys/ask-servers.ts';

const member = (name: string, isLearner = false): ListedMember => ({
  id: `1${name}`,
  name,
  peerUrls: [`https://${name}:2380`],
  clientUrls: name === '' ? [] : [`https://${name}:2379`],
  isLearner,
});
const own = { name: 'b', address: 'b', clientPort: 2379, peerPort: 2380, binary: 'etcd' };

test('a server asks its own member first once that has a vote, and learners never', () => {
  assert.deepEqual(orderEndpoints([member('a'), member('b'), member('c')], own), [
    'https://b:2379',
    'https://a:2379',
    'https://c:2379',
  ]);
  assert.deepEqual(orderEndpoints([member('a'), member('b', true)], own), ['https://a:2379']);
});

test('two servers are said to be no gain, one and three are fine, an alarm says what to do', () => {
  assert.deepEqual(problemsOf([member('a')], [], []), []);
  assert.deepEqual(problemsOf([member('a'), member('b'), member('c')], [], []), []);
  assert.match(problemsOf([member('a'), member('b', true)], [], []).join(), /no gain yet: without a the API/);
  assert.match(problemsOf([member('a'), member('b')], [], []).join(), /both must live/);
  assert.match(problemsOf([member('a')], [], [{ member: '1a', type: 'NOSPACE' }]).join(), /on a has no space.*NOSPACE/);
});

test('a server leaves while the others are a majority, and not otherwise', () => {
  const voters = (...living: boolean[]) =>
    ['a', 'b', 'c'].slice(0, living.length).map((name, n) => ({ name, lives: living[n] === true }));
  assert.equal(leavingProblem(voters(true, true, true), 'c'), undefined);
  assert.equal(leavingProblem(voters(true, true), 'b'), undefined);
  assert.equal(leavingProblem(voters(true, true, false), 'c'), undefined, 'one that is dead');
  assert.equal(leavingProblem(voters(true), 'learner'), undefined);
  assert.match(leavingProblem(voters(true, true, false), 'b') ?? '', /no majority.*c must live.*remove c/);
  assert.match(leavingProblem(voters(true), 'a') ?? '', /only copy/);
});

test('a node asks the servers among the Nodes, by where their machines are reached', () => {
  const node = (name: string, address: string | undefined, isServer: boolean): Node => ({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      ...{ name, uid: name, resourceVersion: '1', creationTimestamp: '2026-01-01T00:00:00Z' },
      ...(isServer ? { labels: { [controlPlaneRole]: '' } } : {}),
      ...(address === undefined ? {} : { annotations: { [machineAnnotations.address]: address } }),
    },
    spec: {},
  });
  const nodes = [
    node('a', '10.0.0.1', true),
    node('b', '10.0.0.2', true),
    node('w', '10.0.0.3', false),
    node('x', undefined, true),
  ];
  assert.deepEqual(serversOf(nodes, { self: 'a', port: 6443 }), ['https://10.0.0.2:6443']);
  assert.deepEqual(serversOf(nodes, { self: 'w', port: 6443 }), ['https://10.0.0.1:6443', 'https://10.0.0.2:6443']);
});

test('a cluster goes on with one server when the others are lost and named, and not while any of them answers', () => {
  const lost = [
    { name: 'a', answers: false },
    { name: 'b', answers: false },
  ];
  const view = { own: 'c', others: lost, hasLeader: false, lost: ['b', 'a'] };
  assert.equal(recoveryProblem(view), undefined);
  assert.match(
    recoveryProblem({ ...view, lost: [] }) ?? '',
    /only a and b had acknowledged are lost.*recover --lost a,b/,
  );
  assert.match(recoveryProblem({ ...view, lost: ['a'] }) ?? '', /recover --lost a,b/);
  assert.match(recoveryProblem({ ...view, hasLeader: true }) ?? '', /a majority of the servers answers/);
  assert.match(recoveryProblem({ ...view, hasLeader: true, others: [] }) ?? '', /nothing to recover/);
  const alive = [...lost.slice(0, 1), { name: 'b', answers: true }];
  assert.match(recoveryProblem({ ...view, others: alive }) ?? '', /^b answers/);
});

test("keys are changed at this machine's server and at those of Nodes with its role, wherever they say they are", () => {
  const node = (name: string, { isServer = true, address = '' } = {}) => ({
    metadata: {
      name,
      labels: isServer ? { 'node-role.kubernetes.io/control-plane': '' } : {},
      annotations: address === '' ? {} : { [machineAnnotations.address]: address },
    },
  });
  const own = { self: 'a', port: 6443 };
  assert.deepEqual(serversIn([node('a'), node('b', { address: '10.0.0.2' }), node('w', { isServer: false })], own), [
    { name: 'a', url: 'https://127.0.0.1:6443' },
    { name: 'b', url: 'https://10.0.0.2:6443' },
  ]);
  assert.throws(() => serversIn([node('b')], own), /b has not said yet/);
});
