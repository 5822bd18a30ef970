/** Nodes that the user takes away: their Pods move, nothing of them stays, and they may come back. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { createMachine } from './machine.ts';

const manifests = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 6
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: web}}}
      containers: [{name: c, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "100000"]}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 4, selector: {matchLabels: {app: web}}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: log}
spec:
  selector: {matchLabels: {app: log}}
  template:
    metadata: {labels: {app: log}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: c, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "100000"]}]
`;

test('up with fewer nodes drains those that leave, and removes them', { timeout: 300_000 }, async () => {
  await using machine = createMachine();
  const up = async (...args: string[]): Promise<string> => {
    const output = await machine.tiphys(['up', ...args], 240_000);
    assert.equal(output.code, 0, output.stderr);
    return output.stdout;
  };
  const nodes = async (): Promise<number> =>
    (await machine.kube('get', 'nodes', '-o', 'name')).trim().split('\n').length;
  /** The nodes of the Pods that run, each once for each of them. */
  const places = async (app: string): Promise<string[]> =>
    (
      await machine.kube(
        'get',
        'pods',
        '-l',
        `app=${app}`,
        '--field-selector=status.phase=Running',
        '-o',
        'jsonpath={range .items[*]}{.spec.nodeName}{"\\n"}{end}',
      )
    )
      .trim()
      .split('\n');
  await up('--nodes', '3');
  await machine.apply(manifests);
  await machine.kube('rollout', 'status', 'deployment/web', 'daemonset/log', '--timeout=120s');
  assert.deepEqual([await nodes(), new Set(await places('web')).size, (await places('log')).length], [3, 3, 3]);
  const third = machine.pid('node-3');

  assert.doesNotMatch(await up('--nodes', '2'), /could not be evicted/);
  assert.equal(await nodes(), 2);
  await machine.kube('rollout', 'status', 'deployment/web', '--timeout=60s');
  assert.deepEqual([(await places('web')).length, new Set(await places('web')).size], [6, 2]);
  assert.equal((await places('log')).length, 2);
  assert.equal(existsSync(`/proc/${third}`), false);
  const inKernel = (number: number): string[] =>
    machine.leftovers().filter((each) => each.includes(`/node-${number}/`));
  assert.deepEqual(inKernel(3), []);
  assert.notDeepEqual(inKernel(2), [], 'what is looked for is found');

  await up('--nodes', '3');
  await machine.until('the third node', async () => String((await places('log')).length), /^3$/, 60_000);
  assert.doesNotMatch(await machine.kube('get', 'nodes'), /SchedulingDisabled/);

  // Taken away while nothing runs: they are gone once the platform is back.
  assert.equal((await machine.tiphys(['down'])).code, 0);
  await up('--nodes', '1');
  assert.equal(await nodes(), 1);
  await machine.until('all Pods', async () => String((await places('web')).length), /^6$/, 90_000);
  assert.deepEqual([new Set(await places('web')).size, (await places('log')).length], [1, 1]);
  assert.match(await up(), /already up/);
  assert.equal((await machine.tiphys(['down'])).code, 0);
  assert.deepEqual(machine.leftovers(), []);
});
