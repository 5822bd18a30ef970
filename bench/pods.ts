/**
 * Pod created → Running as a watcher of the API sees it: one at a time, and fifty at once. The sides take turns; the
 * image is there already on both. From before the POST to the event that says Running.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { command, median, quantile, ratioOf, sleep } from './harness.ts';
import type { Bench, Result, Run, Sample } from './harness.ts';
import { KubeClient, targetOf } from './kube-client.ts';
import { startControlPlane, startNode } from './kubernetes.ts';
import { requireTools, startTiphys, tiphysVersion } from './tiphys.ts';
import type { Tiphys } from './tiphys.ts';

const defaultRounds = 10;
const atOnce = 50;
const burstRounds = 3;
const settleMs = 5_000;
const image = 'docker.io/library/busybox:latest';
const pauseImage = 'docker.io/library/bench-pause:1';
const namespace = 'default';
const runningTimeoutMs = 120_000;

interface Side {
  name: string;
  client: KubeClient;
}

export const pods: Bench = { name: 'pods', about: `Pod created → Running, alone and ${atOnce} at once`, run };

function podOf(name: string): unknown {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels: { app: 'bench' } },
    spec: {
      terminationGracePeriodSeconds: 0,
      containers: [{ name: 'main', image, imagePullPolicy: 'IfNotPresent', command: ['sleep', '100000'] }],
    },
  };
}

async function run(current: Run): Promise<Result> {
  requireTools('kubectl', 'docker');
  const { tiphys, busybox } = await startTiphys(current);
  const sides: Side[] = [{ name: 'Tiphys', client: new KubeClient(await targetOf('Tiphys', tiphys.kubeconfig)) }];
  current.defer(() => sides[0]!.client.close());
  const versions: Record<string, string> = { Tiphys: tiphysVersion() };
  const skipped: string[] = [];
  const peer = await startPeer(current, tiphys, busybox, versions);
  if (typeof peer === 'string') {
    skipped.push(peer);
    current.say(peer);
  } else sides.push(peer);
  const alone = sides.map((side): Sample => ({ name: `alone, ${side.name}`, unit: 'ms', values: [] }));
  const burst = sides.map((side): Sample => ({
    name: `${atOnce} at once, last, ${side.name}`,
    unit: 'ms',
    values: [],
  }));
  const middle = sides.map((side): Sample => ({
    name: `${atOnce} at once, p50, ${side.name}`,
    unit: 'ms',
    values: [],
  }));
  const rounds = current.rounds ?? defaultRounds;
  for (let round = -1; round < rounds; round++) {
    for (const [index, side] of sides.entries()) {
      const [ms] = await measure(side, [`alone-${round + 1}`]);
      if (round >= 0) alone[index]!.values.push(ms!);
    }
  }
  current.say(`alone: ${alone.map((sample) => `${sample.name} ${median(sample.values).toFixed(0)} ms`).join(', ')}`);
  for (let round = 0; round < Math.min(burstRounds, rounds); round++) {
    for (const [index, side] of sides.entries()) {
      const times = await measure(
        side,
        Array.from({ length: atOnce }, (_unused, number) => `burst-${round}-${number}`),
      );
      burst[index]!.values.push(Math.max(...times));
      middle[index]!.values.push(quantile(times, 0.5));
      current.say(
        `${atOnce} at once, ${side.name}: p50 ${quantile(times, 0.5).toFixed(0)} ms, last ${Math.max(...times).toFixed(0)} ms`,
      );
      // What one side takes apart behind its answer must not fall on the other.
      await sleep(settleMs);
    }
  }
  return {
    bench: pods.name,
    about: pods.about,
    samples: [...alone, ...middle, ...burst],
    skipped,
    versions,
    goals: [
      { text: 'alone, p50: Tiphys / Kubernetes', atMost: 0.35, value: ratioOf(alone[0]!.values, alone[1]?.values) },
      {
        text: `${atOnce} at once, last: Tiphys / Kubernetes`,
        atMost: 0.4,
        value: ratioOf(burst[0]!.values, burst[1]?.values),
      },
    ],
  };
}

async function startPeer(
  current: Run,
  tiphys: Tiphys,
  busybox: string,
  versions: Record<string, string>,
): Promise<Side | string> {
  const plane = await startControlPlane(current);
  if (typeof plane === 'string') return plane;
  const node = await startNode(current, plane, [busybox, await pauseArchive(current, tiphys)], pauseImage);
  Object.assign(versions, plane.versions, typeof node === 'string' ? {} : node.versions);
  return typeof node === 'string' ? node : { name: 'Kubernetes', client: plane.client };
}

/** The image of containerd's sandboxes: busybox that sleeps. */
async function pauseArchive(current: Run, tiphys: Tiphys): Promise<string> {
  const archive = join(current.scratch, 'pause.tar');
  if (existsSync(archive)) return archive;
  const context = join(current.scratch, 'pause-Dockerfile');
  writeFileSync(context, 'FROM busybox\nENTRYPOINT ["sleep", "1000000000"]\n');
  await command(['sh', '-c', `docker build -q -t bench-pause:1 - < ${context}`], {
    env: { ...tiphys.env, DOCKER_BUILDKIT: '0' },
  });
  await command(['docker', 'save', '-o', archive, 'bench-pause:1'], { env: tiphys.env });
  return archive;
}

/**
 * Makes the Pods at once and resolves with the milliseconds that each took to run; deletes them and waits until the
 * node has confirmed that they ended.
 */
async function measure(side: Side, names: string[]): Promise<number[]> {
  const path = `/api/v1/namespaces/${namespace}/pods`;
  const { metadata } = await side.client.ask('GET', `${path}?limit=1`);
  const running = new Map<string, number>();
  const gone = new Set<string>();
  let notify = (): void => undefined;
  const close = await side.client.watch(`${path}?watch=1&resourceVersion=${metadata.resourceVersion}`, (event) => {
    const name = event.object['metadata']?.name as string;
    if (event.object['status']?.phase === 'Running' && !running.has(name)) running.set(name, performance.now());
    if (event.type === 'DELETED') gone.add(name);
    notify();
  });
  const reached = (count: () => number, what: string): Promise<void> =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(
        () =>
          reject(
            new Error(`${side.name}: ${count()} of ${names.length} Pods ${what} after ${runningTimeoutMs / 1000} s`),
          ),
        runningTimeoutMs,
      );
      notify = () => {
        if (count() >= names.length) {
          clearTimeout(timer);
          resolve();
        }
      };
      notify();
    });
  try {
    const begun = performance.now();
    await Promise.all(names.map((name) => side.client.ask('POST', path, podOf(name))));
    await reached(() => running.size, 'run');
    await Promise.all(names.map((name) => side.client.ask('DELETE', `${path}/${name}?gracePeriodSeconds=1`)));
    await reached(() => gone.size, 'are gone');
    return names.map((name) => running.get(name)! - begun);
  } finally {
    close();
  }
}
