/** By which way Pods of other machines are reached, and what changes in the kernel for it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Node } from '#api/core.v1.ts';
import { machineAnnotations } from '#base/node-identity.ts';
import { planMachineRoutes, type MachineView } from './machine-routes.ts';
import { planChanges, type MachineLinks } from './machines.ts';

const underlay = { link: 'eth0', address: '192.0.2.1', prefix: 24, mtu: 1500 };
const view: MachineView = {
  nodeName: 'a',
  podRange: '10.244.0.0/16',
  underlay,
  machine: underlay.address,
  mode: 'auto',
};

function node(name: string, podCIDR: string | undefined, address: string | undefined, madeAt = '2026-01-01'): Node {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name,
      uid: name,
      resourceVersion: '1',
      creationTimestamp: `${madeAt}T00:00:00Z`,
      annotations: address === undefined ? {} : { [machineAnnotations.address]: address },
    },
    spec: podCIDR === undefined ? {} : { podCIDR },
  };
}

const a = node('a', '10.244.0.0/24', underlay.address);
const near = node('near', '10.244.16.0/24', '192.0.2.2');
const far = node('far', '10.244.17.0/24', '198.51.100.7');
const toNear = { podRange: '10.244.16.0/24', machine: '192.0.2.2', node: '10.244.16.1' };
const toFar = { podRange: '10.244.17.0/24', machine: '198.51.100.7', node: '10.244.17.1' };

test('machines of one link are reached by routes, others by VXLAN, as the mode says', () => {
  const nodes = [far, a, near, node('a-2', '10.244.1.0/24', underlay.address)];
  assert.deepEqual(planMachineRoutes(nodes, view).routes, [
    { ...toFar, way: 'vxlan' },
    { ...toNear, way: 'route' },
  ]);
  assert.deepEqual(planMachineRoutes(nodes, { ...view, mode: 'vxlan' }).routes, [
    { ...toFar, way: 'vxlan' },
    { ...toNear, way: 'vxlan' },
  ]);
  const routed = planMachineRoutes(nodes, { ...view, mode: 'routes' });
  assert.deepEqual(routed.routes, [{ ...toNear, way: 'route' }]);
  assert.match(routed.problems.join(), /node far \(198\.51\.100\.7\) is not on the link eth0.*--network auto/);
});

test('a node that says another range than its own takes no packets of others', () => {
  const liars = [
    node('outside', '192.0.2.0/24', '192.0.2.9'),
    node('mine', '10.244.0.128/25', '192.0.2.9'),
    node('later', '10.244.16.0/24', '192.0.2.9', '2026-02-01'),
    node('nowhere', '10.244.20.0/24', undefined),
    node('six', '10.244.21.0/24', '2001:db8::1'),
    node('fresh', undefined, '192.0.2.9'),
  ];
  const plan = planMachineRoutes([...liars, a, near], view);
  assert.deepEqual(plan.routes, [{ ...toNear, way: 'route' }]);
  assert.deepEqual(
    plan.problems.map((problem) => /node (\S+)/.exec(problem)?.[1]),
    ['mine', 'nowhere', 'outside', 'six', 'later'],
    'who was first has a range',
  );
});

const input = { instanceId: '1a2b', nodeAddress: '10.244.0.1', vxlanId: 7, underlay };
const nothing: MachineLinks = { routes: [], vxlan: undefined };

/** What the kernel has once a plan was carried out. */
function kernelOf(vxlanAlias: string): MachineLinks {
  return {
    routes: [
      { destination: toNear.podRange, via: toNear.machine, link: 'eth0' },
      { destination: toFar.podRange, via: toFar.node, link: 'tph1a2bx' },
    ],
    vxlan: { index: 9, name: 'tph1a2bx', up: true, mac: '', mtu: 1450, master: 0, kind: 'vxlan', alias: vxlanAlias },
  };
}

test('the kernel is changed where it differs, and nowhere else', () => {
  const both = planMachineRoutes([a, near, far], view);
  const steps = planChanges(both, nothing, new Map(), input);
  const vxlan = steps.find((step) => step.op === 'addVxlan');
  assert.deepEqual(
    [vxlan?.id, vxlan?.local, vxlan?.mtu, vxlan?.port],
    [7, '192.0.2.1', 1450, 4789],
    'its packets fit into those of the link',
  );
  assert.equal(steps.filter(({ op }) => op === 'addRoute').length, 2);
  const known = new Map([[toFar.node, toFar.machine]]);
  const right = kernelOf('vxlan 7 192.0.2.1 1450');
  assert.deepEqual(planChanges(both, right, known, input), []);
  assert.deepEqual(
    planChanges(both, right, new Map(), input).map(({ op }) => op),
    ['addNeighbour', 'deleteNeighbour', 'addNeighbour'],
    'a process that comes back writes down the ends, and touches no route',
  );
  const alone = planMachineRoutes([a, near], view);
  assert.deepEqual(
    planChanges(alone, right, known, input).map((step) => [step.op, 'name' in step ? step.name : '']),
    [['deleteLink', 'tph1a2bx']],
    'the last machine behind a router takes the VXLAN with it',
  );
  const none = planChanges(planMachineRoutes([a], view), right, known, input);
  assert.deepEqual(
    none.map(({ op }) => op),
    ['deleteLink', 'deleteRoute'],
  );
});

test('a VXLAN of another address or size is made anew, with all that was on it', () => {
  const plan = planMachineRoutes([a, near, far], view);
  const known = new Map([[toFar.node, toFar.machine]]);
  const steps = planChanges(plan, kernelOf('vxlan 7 192.0.2.99 1450'), known, input);
  assert.deepEqual(
    steps.map(({ op }) => op).filter((op) => op !== 'sysctl' && op !== 'setLink'),
    ['deleteLink', 'addVxlan', 'addAddress', 'addNeighbour', 'deleteNeighbour', 'addNeighbour', 'addRoute'],
  );
});
