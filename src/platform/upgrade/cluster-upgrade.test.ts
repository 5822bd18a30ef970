/** Which machines are upgraded, in which order, and what stands in the way. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { controlPlaneRole, machineAnnotations } from '#base/node-identity.ts';
import { otherMachines, upgradeProblem, type Machine } from './cluster-upgrade.ts';
import { failureOf, isDone, isOpen, readOrder, readState, type ProgramState } from './orders.ts';

const state: ProgramState = { id: '', version: '1', kubernetesVersion: 'v1.37.2', level: 0 };
const node = (name: string, of: { address: string; isServer?: boolean; state?: ProgramState; ready?: string }) => ({
  metadata: {
    name,
    labels: of.isServer === true ? { [controlPlaneRole]: '' } : {},
    annotations: {
      [machineAnnotations.address]: of.address,
      ...(of.state === undefined ? {} : { [machineAnnotations.programState]: JSON.stringify(of.state) }),
    },
  },
  status: { conditions: [{ type: 'Ready', status: of.ready ?? 'True' }] },
});

test('servers come before workers, and one node speaks for a machine of several', () => {
  const found = otherMachines(
    [
      node('w', { address: '4', state }),
      node('first-2', { address: '1' }),
      node('first', { address: '1', isServer: true, state }),
      node('first-3', { address: '1' }),
      node('own', { address: '2', isServer: true, state }),
      node('c', { address: '3', isServer: true, state, ready: 'Unknown' }),
    ],
    ['own'],
  );
  assert.deepEqual(
    found.map(({ name, isServer, isReady }) => [name, isServer, isReady]),
    [
      ['c', true, false],
      ['first', true, true],
      ['w', false, true],
    ],
  );
});

test('nothing is begun while a machine is away, cannot be told, or is too far apart', () => {
  const machine = (name: string, more: Partial<Machine> = {}): Machine => ({
    ...{ name, isServer: true, isReady: true, state },
    ...more,
  });
  const problem = (machines: Machine[], version = 'v1.37.2') =>
    upgradeProblem(machines, { version, runs: 'v1.37.2' }) ?? '';
  assert.equal(problem([machine('a'), machine('b', { isServer: false })]), '');
  assert.match(problem([machine('a'), machine('b', { isReady: false })]), /^b is away: .*'tiphys remove b'/);
  assert.match(problem([machine('a', { state: undefined })]), /^a cannot be told: .*'tiphys upgrade --here'/);
  assert.equal(problem([machine('a')], 'v1.38.0'), '');
  assert.equal(problem([machine('a')], 'v1.36.0'), '');
  const far = { state: { ...state, kubernetesVersion: 'v1.35.0' } };
  assert.match(problem([machine('a', far)]), /^a runs Kubernetes v1.35.0, and this program is v1.37.2: go by/);
  assert.match(problem([], 'v1.39.0'), /^this machine runs Kubernetes v1.37.2, and this program is v1.39.0: go by/);
  const worker = { isServer: false };
  assert.equal(problem([machine('w', { ...worker, ...far })]), '');
  const farther = { state: { ...state, kubernetesVersion: 'v1.33.0' } };
  assert.match(problem([machine('w', { ...worker, ...farther })]), /^w runs Kubernetes v1.33.0/);
});

test('a machine is done when it runs the program, and has ended the way back where that was said', () => {
  const id = '0123456789abcdef';
  const order = readOrder(JSON.stringify({ id, attempt: 'x', isFinal: false }));
  assert.ok(order !== undefined);
  const final = { ...order, isFinal: true };
  assert.equal(isDone(order, state, 5), false);
  assert.equal(isDone(order, { ...state, id }, 5), true);
  assert.equal(isDone(final, { ...state, id, level: 4 }, 5), false);
  assert.equal(isDone(final, { ...state, id, level: 5, previous: 'y' }, 5), false);
  assert.equal(isDone(final, { ...state, id, level: 5 }, 5), true);
  const failed = { ...state, failed: { id, reason: 'no room', attempt: 'x' } };
  assert.equal(failureOf(order, failed), 'no room');
  assert.equal(failureOf({ ...order, attempt: 'y' }, failed), undefined, 'another run tries it again');
  assert.equal(isOpen(order, state), true);
  const followed = { ...failed, attempt: 'x' };
  assert.equal(isOpen(order, followed), false, 'also where it runs something else by now');
  assert.deepEqual(readState(JSON.stringify(followed)), followed);
  for (const wrong of [undefined, '', '{', '[]', '7', '{"id":"../../x"}', '{"id":7}'])
    assert.equal(readOrder(wrong), undefined);
  for (const wrong of [undefined, '', '{', '[]', '7']) assert.equal(readState(wrong), undefined);
});
