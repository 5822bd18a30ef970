/**
 * What the control plane keeps of objects that are gone: Deployments are made and deleted, then the server rests until
 * history has been forgotten, and its resident memory is compared with what it has after a restart on the same data.
 * Nothing runs: Deployments have no replicas.
 *
 * `memory/NUMBER` makes another number of Deployments than 5,000. TIPHYS_BENCH_SETTLE gives the seconds of rest;
 * history is kept for five minutes.
 */
import { readFileSync } from 'node:fs';
import { command, sleep } from './harness.ts';
import type { Bench, Result, Run, Sample } from './harness.ts';
import { KubeClient, targetOf } from './kube-client.ts';
import { Tiphys, launcher, tiphysVersion } from './tiphys.ts';
import { join } from 'node:path';

const defaultDeployments = 5_000;
const inFlight = 16;
const settleSeconds = Number(process.env['TIPHYS_BENCH_SETTLE'] ?? 420);
const restartSettleSeconds = 60;

export const memory: Bench = {
  name: 'memory',
  about: 'resident memory of the server after Deployments were made and deleted, against a restart on the same data',
  run,
};

/** Resident memory of a process, in MB. */
function residentMb(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;
}

function deployment(name: string): Record<string, unknown> {
  const labels = { app: name };
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name, labels },
    spec: {
      replicas: 0,
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          containers: [
            {
              name: 'main',
              image: 'example/app:1',
              env: Array.from({ length: 10 }, (_unused, i) => ({
                name: `SETTING_${i}`,
                value: `value ${i} of ${name}`,
              })),
            },
          ],
        },
      },
    },
  };
}

async function forAll(names: readonly string[], run: (name: string) => Promise<unknown>): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: inFlight }, async () => {
      while (next < names.length) await run(names[next++]!);
    }),
  );
}

async function run(current: Run): Promise<Result> {
  const count = Number(current.parts?.[0] ?? defaultDeployments);
  const tiphys = new Tiphys(join(current.scratch, 'tiphys'));
  current.defer(() => tiphys.purge());
  // The first start from a checkout strips types, and the stripper stays in memory: no start after it does so.
  await tiphys.up();
  await command([launcher, 'down'], { env: tiphys.env });
  await tiphys.up();
  const path = '/apis/apps/v1/namespaces/default/deployments';
  const client = new KubeClient(await targetOf('Tiphys', tiphys.kubeconfig));
  const sample = (name: string): Sample => ({ name, unit: 'MB resident', values: [residentMb(tiphys.pid('server'))] });
  const samples = [sample('fresh')];
  const names = Array.from({ length: count }, (_unused, i) => `load-${i}`);
  current.say(`making ${count} Deployments`);
  await forAll(names, (name) => client.ask('POST', path, deployment(name)));
  samples.push(sample('made'));
  current.say('deleting them');
  await forAll(names, (name) => client.ask('DELETE', `${path}/${name}`));
  for (let left = 1; left > 0;) {
    left = ((await client.ask('GET', '/apis/apps/v1/namespaces/default/replicasets?limit=1'))['items'] as unknown[])
      .length;
    await sleep(1000);
  }
  samples.push(sample('deleted'));
  current.say(`resting ${settleSeconds} s`);
  await sleep(settleSeconds * 1000);
  samples.push(sample('rested'));
  const rested = samples.at(-1)!.values[0]!;
  client.close();
  await command([launcher, 'down'], { env: tiphys.env });
  await tiphys.up();
  await sleep(restartSettleSeconds * 1000);
  samples.push(sample('after a restart'));
  const restarted = samples.at(-1)!.values[0]!;
  return {
    bench: memory.name,
    about: memory.about,
    samples,
    skipped: [],
    versions: { Tiphys: tiphysVersion(), Node: process.version },
    goals: [{ text: 'rested / after a restart', atMost: 1.3, value: rested / restarted }],
  };
}
