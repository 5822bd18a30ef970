/**
 * The API server with many objects: how long lists of 30,000 Pods hold other requests up, and what memory 100,000
 * objects with 1,000 watchers take and leave behind. h2load makes the objects and watches; nothing runs, as no scheduler
 * looks after the Pods.
 *
 * `api-scale/lists`, `api-scale/memory` measure one alone. TIPHYS_BENCH_SETTLE gives the seconds of rest before memory
 * is measured again; history is kept for five minutes.
 */
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { join } from 'node:path';
import { command, find, median, quantile, sleep, timed, until } from './harness.ts';
import type { Bench, Goal, Result, Run, Sample } from './harness.ts';
import { KubeClient, loadToken, targetOf, type Target } from './kube-client.ts';
import { launcher, Tiphys, tiphysVersion } from './tiphys.ts';

const listedPods = 30_000;
const listRounds = 3;
const betweenMs = 2;
const storedObjects = 100_000;
const watchers = 1_000;
const smallPath = '/api/v1/namespaces/default/serviceaccounts/default';
const settleSeconds = Number(process.env['TIPHYS_BENCH_SETTLE'] ?? 420);
const restartSettleSeconds = 60;

export const apiScale: Bench = {
  name: 'api-scale',
  about: `lists of ${listedPods} Pods beside other requests; memory with ${storedObjects} objects and ${watchers} watchers`,
  run,
};

const lists: [name: string, accept: string, query: string][] = [
  ['JSON', 'application/json', ''],
  ['protobuf', 'application/vnd.kubernetes.protobuf', ''],
  ['Table', 'application/json;as=Table;g=meta.k8s.io;v=v1', ''],
  ['JSON by a label', 'application/json', '?labelSelector=app%3Dnobody'],
];

interface Asker {
  target: Target;
  token: string;
}

/** Milliseconds until the last byte of the answer to a small request. */
function ask({ target, token }: Asker, agent: Agent): Promise<number> {
  const begun = performance.now();
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${token}` };
    const out = request(`${target.server}${smallPath}`, { agent, headers }, (answer) => {
      answer.resume().on('error', reject);
      answer.on('end', () => {
        if (answer.statusCode === 200) resolve(performance.now() - begun);
        else reject(new Error(`${smallPath}: ${answer.statusCode}`));
      });
    });
    out.on('error', reject).end();
  });
}

/** One small request after the other, until told to stop: milliseconds of each. */
async function askOften(asker: Asker, isOver: () => boolean): Promise<number[]> {
  const agent = new Agent({ keepAlive: true, rejectUnauthorized: false });
  const out: number[] = [];
  await ask(asker, agent);
  do {
    out.push(await ask(asker, agent));
    await sleep(betweenMs);
  } while (!isOver());
  agent.destroy();
  return out;
}

async function make(current: Run, asker: Asker, path: string, object: object, count: number): Promise<void> {
  current.say(`making ${count} objects`);
  const body = join(current.scratch, 'made.json');
  writeFileSync(body, JSON.stringify(object));
  const { stdout } = await command(
    [
      find('h2load')!,
      ...['-n', String(count), '-c', '4', '-m', '8', '-d', body],
      ...['-H', `authorization: Bearer ${asker.token}`, '-H', 'content-type: application/json'],
      `${asker.target.server}${path}`,
    ],
    { timeoutMs: 1_800_000 },
  );
  // Of so many generated names some are given twice, and are refused.
  const made = Number(/status codes: (\d+) 2xx/.exec(stdout)?.[1] ?? 0);
  if (made < count * 0.99) throw new Error(`h2load: ${stdout.slice(-600)}`);
}

async function measureLists(current: Run, loud: Asker, quiet: Asker): Promise<[Sample[], Goal[]]> {
  const path = '/api/v1/namespaces/default/pods';
  const pod = {
    metadata: { generateName: 'listed-', labels: { app: 'listed' } },
    spec: { schedulerName: 'nobody', containers: [{ name: 'main', image: 'example/app:1' }] },
  };
  await make(current, loud, path, pod, listedPods);
  const end = performance.now() + 5_000;
  const alone = await askOften(quiet, () => performance.now() > end);
  const samples: Sample[] = [{ name: 'others alone, p99', unit: 'ms', values: [quantile(alone, 0.99)] }];
  const goals: Goal[] = [];
  for (const [name, accept, query] of lists) {
    const took: number[] = [];
    const worst: number[] = [];
    for (let round = 0; round < (current.rounds ?? listRounds); round++) {
      let isOver = false;
      const words = ['-n', '1', '-w', '24', '-W', '24', '-H', `authorization: Bearer ${loud.token}`];
      const listing = timed([
        find('h2load')!,
        ...words,
        '-H',
        `accept: ${accept}`,
        `${loud.target.server}${path}${query}`,
      ]);
      const ended = listing.finally(() => {
        isOver = true;
      });
      const [others, ms] = await Promise.all([askOften(quiet, () => isOver), ended]);
      worst.push(Math.max(...others) - median(alone));
      took.push(ms);
    }
    samples.push({ name: `list in ${name}`, unit: 'ms', values: took });
    samples.push({ name: `others beside it, longest held up`, unit: 'ms', values: worst });
    goals.push({ text: `a list in ${name} holds others up (ms)`, atMost: 20, value: median(worst) });
    current.say(
      `${name}: ${took.map(Math.round).join(', ')} ms; others held up ${worst.map(Math.round).join(', ')} ms`,
    );
  }
  return [samples, goals];
}

/** Resident memory of a process in MB: now, and at most so far. */
function memoryOf(pid: number): { now: number; peak: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const of = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0) / 1024;
  return { now: of('VmRSS'), peak: of('VmHWM') };
}

async function measureMemory(current: Run, tiphys: Tiphys, asker: Asker): Promise<[Sample[], Goal[]]> {
  const path = '/api/v1/namespaces/default/configmaps';
  const object = { metadata: { generateName: 'stored-' }, data: { text: 'x'.repeat(700) } };
  const sample = (name: string, value: number): Sample => ({ name, unit: 'MB resident', values: [value] });
  const server = (): number => tiphys.pid('server');
  const watching = spawn(
    find('h2load')!,
    [
      ...['-n', String(watchers), '-c', '100', '-m', '10'],
      ...['-H', `authorization: Bearer ${asker.token}`],
      `${asker.target.server}${path}?watch=1&resourceVersion=0&timeoutSeconds=3600`,
    ],
    { stdio: 'ignore' },
  );
  current.defer(() => watching.kill('SIGKILL'));
  await sleep(3_000);
  await make(current, asker, path, object, storedObjects);
  const { now, peak } = memoryOf(server());
  watching.kill('SIGKILL');
  current.say(`${Math.round(peak)} MB at most; resting ${settleSeconds} s`);
  await sleep(settleSeconds * 1_000);
  const rested = memoryOf(server()).now;
  await command([launcher, 'down'], { env: tiphys.env });
  await tiphys.up();
  await sleep(restartSettleSeconds * 1_000);
  const restarted = memoryOf(server()).now;
  return [
    [
      sample('most while objects were made', peak),
      sample('all made, watched', now),
      sample('rested', rested),
      sample('after a restart', restarted),
    ],
    [
      { text: 'MB at most', atMost: 2_000, value: peak },
      { text: 'rested / after a restart', atMost: 1.3, value: rested / restarted },
    ],
  ];
}

async function run(current: Run): Promise<Result> {
  if (find('h2load') === undefined) throw new Error('h2load is not installed: apt-get install nghttp2-client');
  const tiphys = new Tiphys(join(current.scratch, 'tiphys'));
  current.defer(() => tiphys.purge());
  await tiphys.up();
  const target = await targetOf('Tiphys', tiphys.kubeconfig);
  const client = new KubeClient(target);
  current.defer(() => client.close());
  const loud: Asker = { target, token: await loadToken(client) };
  const quiet: Asker = { target, token: await loadToken(client, 'bench-quiet') };
  await until('the ServiceAccount', 30_000, async () => {
    const answer = await client.ask('GET', '/api/v1/namespaces/default/serviceaccounts/default', undefined, [404]);
    return answer['kind'] === 'ServiceAccount';
  });
  const samples: Sample[] = [];
  const goals: Goal[] = [];
  const add = ([more, others]: [Sample[], Goal[]]): void => {
    samples.push(...more);
    goals.push(...others);
  };
  const wants = (part: string): boolean => current.parts === undefined || current.parts.includes(part);
  if (wants('lists')) add(await measureLists(current, loud, quiet));
  if (wants('memory')) add(await measureMemory(current, tiphys, loud));
  const versions = { Tiphys: tiphysVersion(), Node: process.version };
  return { bench: apiScale.name, about: apiScale.about, samples, skipped: [], versions, goals };
}
