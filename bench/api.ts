/**
 * The API server, on SQLite and on etcd, against kube-apiserver on the same etcd: create, get, list, and watch events to a hundred watchers. h2load is
 * the client, since it is never the limit; both sides check the same kind of token. The rounds of the two sides
 * alternate while both run. Beside each rate: processor seconds of the server.
 */
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { command, cpuSeconds, find, median, ratioOf, sleep } from './harness.ts';
import type { Bench, Goal, Result, Run, Sample } from './harness.ts';
import { KubeClient, loadToken, targetOf } from './kube-client.ts';
import { startControlPlane, startEtcd, type Etcd } from './kubernetes.ts';
import { startTiphys, Tiphys, tiphysVersion } from './tiphys.ts';

const defaultRounds = 3;
const listedObjects = 1_000;
const watchers = 100;
const watchedEvents = 1_000;
const watchTimeoutSeconds = 300;

interface Side {
  name: string;
  client: KubeClient;
  headers: string[];
  pids: number[];
  version: string;
}
interface Rate {
  perSecond: number;
  cpuPerThousand: number;
  /** Share of the events that reached their watchers; 1 when absent. */ delivered?: number;
}

export const api: Bench = {
  name: 'api',
  about: `create, get, list of ${listedObjects} objects in each form, watch events to ${watchers} watchers`,
  run,
};

interface Measure {
  name: string;
  unit: string;
  /** Goals: processor seconds at most, rates at least, as parts of the peer's. */
  cpu: number;
  rate?: number;
  rateOnEtcd?: number;
  measure(current: Run, side: Side, round: number): Promise<Rate>;
}

const allMeasures: Measure[] = [
  { name: 'create', unit: 'requests/s', cpu: 1 / 4, rate: 3, rateOnEtcd: 2, measure: create },
  { name: 'get', unit: 'requests/s', cpu: 1 / 5, rate: 3, rateOnEtcd: 4, measure: (_run, side) => get(side) },
  { name: 'list', unit: 'objects/s', cpu: 1 / 5, rate: 4, rateOnEtcd: 4, measure: (_run, side) => list(side) },
  { name: 'protobuf', unit: 'objects/s', cpu: 1 / 3, measure: (_run, side) => list(side, protobuf) },
  { name: 'table', unit: 'objects/s', cpu: 1 / 3, measure: (_run, side) => list(side, table) },
  { name: 'gzip', unit: 'objects/s', cpu: 1 / 3, measure: (_run, side) => list(side, gzip) },
  { name: 'watch', unit: 'events/s', cpu: 1 / 5, rate: 3, rateOnEtcd: 3, measure: watch },
];

/** A ConfigMap of about a kilobyte. */
function configMap(metadata: Record<string, string>): Record<string, unknown> {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { ...metadata, labels: { app: 'bench', tier: 'load' } },
    data: { settings: 'x'.repeat(700), mode: 'benchmark' },
  };
}

async function run(current: Run): Promise<Result> {
  if (find('h2load') === undefined) throw new Error('h2load is not installed: apt-get install nghttp2-client');
  const skipped: string[] = [];
  const { tiphys } = await startTiphys(current);
  const target = await targetOf('Tiphys', tiphys.kubeconfig);
  const sides: Side[] = [
    await sideOf(current, new KubeClient(target), 'Tiphys', [tiphys.pid('server')], tiphysVersion()),
  ];
  const etcd = startEtcd(current);
  if (typeof etcd === 'string') skipped.push(etcd);
  else sides.push(await etcdSide(current, etcd));
  const plane = await startControlPlane(current, typeof etcd === 'string' ? undefined : etcd);
  if (typeof plane === 'string') {
    skipped.push(plane);
    current.say(plane);
  } else
    sides.push(await sideOf(current, plane.client, 'Kubernetes', plane.pids, Object.values(plane.versions).join(', ')));
  const samples: Sample[] = [];
  const of = (name: string, unit: string): Sample => {
    let found = samples.find((one) => one.name === name);
    if (found === undefined) samples.push((found = { name, unit, values: [] }));
    return found;
  };
  for (const side of sides) await prepare(side);
  const measures = allMeasures.filter(({ name }) => current.parts === undefined || current.parts.includes(name));
  for (const { name, unit, measure } of measures) {
    for (let round = 0; round < (current.rounds ?? defaultRounds); round++) {
      for (const side of sides) {
        const rate = await measure(current, side, round);
        const sample = of(`${name}, ${side.name}`, unit);
        sample.values.push(rate.perSecond);
        if (rate.delivered !== undefined && rate.delivered < 1)
          sample.note = `it ended watches that fell behind; a round delivered ${Math.floor(rate.delivered * 100)} % of the events, and only those count`;
        of(`${name}, ${side.name}, CPU`, `CPU s per 1,000 ${unit.split('/')[0]}`).values.push(rate.cpuPerThousand);
      }
    }
    current.say(
      `${name}: ${sides.map((side) => `${side.name} ${Math.round(median(of(`${name}, ${side.name}`, unit).values))} ${unit}`).join(', ')}`,
    );
  }
  const values = (name: string): number[] | undefined => samples.find((one) => one.name === name)?.values;
  return {
    bench: api.name,
    about: api.about,
    samples,
    skipped,
    versions: Object.fromEntries(sides.map((side) => [side.name, side.version])),
    goals: measures.flatMap((measure) => goalsOf(measure, values)),
  };
}

function goalsOf({ name, rate, rateOnEtcd, cpu }: Measure, values: (name: string) => number[] | undefined): Goal[] {
  const ratio = (side: string, suffix = ''): number | undefined =>
    ratioOf(values(`${name}, ${side}${suffix}`) ?? [], values(`${name}, Kubernetes${suffix}`));
  return [
    { text: `${name}: processor seconds each, Tiphys / Kubernetes`, atMost: cpu, value: ratio('Tiphys', ', CPU') },
    ...(rate === undefined
      ? []
      : [{ text: `${name}: rate, Tiphys / Kubernetes`, atLeast: rate, value: ratio('Tiphys') }]),
    ...(rateOnEtcd === undefined
      ? []
      : [
          {
            text: `${name}: rate, Tiphys on etcd / Kubernetes on the same one`,
            atLeast: rateOnEtcd,
            value: ratio('Tiphys on etcd'),
          },
        ]),
  ];
}

/** A second Tiphys, whose state lies on the etcd that the peer uses too. */
async function etcdSide(current: Run, etcd: Etcd): Promise<Side> {
  const tiphys = new Tiphys(join(current.scratch, 'tiphys-etcd'), ['--etcd-endpoints', etcd.endpoint]);
  current.defer(() => tiphys.purge());
  current.say('starting Tiphys on etcd');
  await tiphys.up();
  const client = new KubeClient(await targetOf('Tiphys on etcd', tiphys.kubeconfig));
  return sideOf(current, client, 'Tiphys on etcd', [tiphys.pid('server'), etcd.pid], etcd.version);
}

async function sideOf(current: Run, client: KubeClient, name: string, pids: number[], version: string): Promise<Side> {
  current.defer(() => client.close());
  const token = await loadToken(client);
  return {
    name,
    client,
    pids,
    version,
    headers: ['-H', `authorization: Bearer ${token}`, '-H', 'user-agent: bench'],
  };
}

async function prepare(side: Side): Promise<void> {
  for (const name of ['bench-list', 'bench-create', 'bench-watch'])
    await side.client.ask('POST', '/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  const names = Array.from({ length: listedObjects }, (_unused, index) => `object-${index}`);
  while (names.length > 0)
    await Promise.all(
      names
        .splice(0, 16)
        .map((name) => side.client.ask('POST', '/api/v1/namespaces/bench-list/configmaps', configMap({ name }))),
    );
}

interface Loaded {
  seconds: number;
  done: number;
  cpu: number;
}

const json = ['-H', 'accept: application/json'];
const protobuf = ['-H', 'accept: application/vnd.kubernetes.protobuf'];
const table = ['-H', 'accept: application/json;as=Table;g=meta.k8s.io;v=v1'];
const gzip = [...json, '-H', 'accept-encoding: gzip'];

/** h2load says `finished in 1.23s`, `status codes: N 2xx`. */
async function h2load(side: Side, words: string[], path: string, form = json): Promise<Loaded> {
  const before = cpuSeconds(side.pids);
  const { stdout } = await command([
    find('h2load')!,
    ...words,
    '-w',
    '24',
    '-W',
    '24',
    ...side.headers,
    ...form,
    `${side.client.target.server}${path}`,
  ]);
  const cpu = cpuSeconds(side.pids) - before;
  const finished = /finished in ([\d.]+)(ms|us|s)/.exec(stdout);
  const done = Number(/status codes: (\d+) 2xx/.exec(stdout)?.[1] ?? 0);
  const other = /status codes: \d+ 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx/.exec(stdout);
  if (finished === null || done === 0 || (other !== null && Number(other[2]) + Number(other[3]) > 0))
    throw new Error(`${side.name}: h2load: ${stdout.slice(-900)}`);
  return { seconds: Number(finished[1]) / (finished[2] === 's' ? 1 : finished[2] === 'ms' ? 1e3 : 1e6), done, cpu };
}

function rateOf(loaded: Loaded, each = 1): Rate {
  const count = loaded.done * each;
  return { perSecond: count / loaded.seconds, cpuPerThousand: (loaded.cpu / count) * 1000 };
}

async function create(current: Run, side: Side, round: number): Promise<Rate> {
  const body = join(current.scratch, 'create.json');
  writeFileSync(body, JSON.stringify(configMap({ generateName: `made-${round}-` })));
  return rateOf(
    await h2load(
      side,
      ['-n', '4000', '-c', '8', '-m', '8', '-d', body, '-H', 'content-type: application/json'],
      '/api/v1/namespaces/bench-create/configmaps',
    ),
  );
}

async function get(side: Side): Promise<Rate> {
  return rateOf(
    await h2load(side, ['-n', '20000', '-c', '8', '-m', '8'], '/api/v1/namespaces/bench-list/configmaps/object-500'),
  );
}

/** Each list has the thousand ConfigMaps and the cluster's own `kube-root-ca.crt` where there is one. */
async function list(side: Side, form = json): Promise<Rate> {
  return rateOf(
    await h2load(side, ['-n', '200', '-c', '4', '-m', '2'], '/api/v1/namespaces/bench-list/configmaps', form),
    listedObjects,
  );
}

/**
 * A hundred connections watch while objects are made as fast as the server takes them; the time ends when the watching
 * h2load has read everything: it reads its sockets by read(2), which the kernel counts, so that neither it nor the
 * server need say when they are done.
 */
async function watch(current: Run, side: Side, round: number): Promise<Rate> {
  const namespace = `bench-watch-${round}`;
  await side.client.ask('POST', '/api/v1/namespaces', {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: namespace },
  });
  await sleep(300);
  const { metadata } = await side.client.ask('GET', `/api/v1/namespaces/${namespace}/configmaps`);
  const path = `/api/v1/namespaces/${namespace}/configmaps?watch=1&resourceVersion=${metadata.resourceVersion}&timeoutSeconds=${watchTimeoutSeconds}`;
  const watching = spawn(
    find('h2load')!,
    [
      '-n',
      String(watchers),
      '-c',
      String(watchers),
      '-m',
      '1',
      '-w',
      '24',
      '-W',
      '24',
      ...side.headers,
      ...json,
      `${side.client.target.server}${path}`,
    ],
    { stdio: 'ignore' },
  );
  // It ends by itself when the server has ended every watch.
  const ended = new Promise((resolve) => watching.once('exit', resolve));
  try {
    await sleep(2_000);
    const body = join(current.scratch, 'watch.json');
    writeFileSync(body, JSON.stringify(configMap({ generateName: 'seen-' })));
    const readBefore = readBytes(watching.pid!, 0);
    const cpu = cpuSeconds(side.pids);
    const begun = performance.now();
    const made = h2load(
      side,
      ['-n', String(watchedEvents), '-c', '4', '-m', '8', '-d', body, '-H', 'content-type: application/json'],
      `/api/v1/namespaces/${namespace}/configmaps`,
    );
    let last = readBefore;
    let lastAt = begun;
    let createdAt = Number.POSITIVE_INFINITY;
    void made.then(
      () => {
        createdAt = performance.now();
      },
      () => undefined,
    );
    while (performance.now() - Math.max(lastAt, createdAt) < 1_000 || createdAt === Number.POSITIVE_INFINITY) {
      await sleep(10);
      const now = readBytes(watching.pid!, last);
      if (now > last) {
        last = now;
        lastAt = performance.now();
      }
      if (createdAt === Number.POSITIVE_INFINITY && performance.now() - begun > 120_000)
        throw new Error(`${side.name}: creating does not end`);
    }
    await made;
    const used = cpuSeconds(side.pids) - cpu;
    // One event as this server writes it (an object of a list lacks its kind); frames and encryption make what is read
    // a little more.
    const {
      items: [one],
    } = await side.client.ask('GET', `/api/v1/namespaces/${namespace}/configmaps?limit=1`);
    const eventBytes =
      JSON.stringify({ type: 'ADDED', object: { kind: 'ConfigMap', apiVersion: 'v1', ...one } }).length + 1;
    const delivered = Math.min(1, (last - readBefore) / (watchers * watchedEvents * eventBytes));
    if (delivered < 1 && side.name !== 'Kubernetes')
      throw new Error(
        `Tiphys: watchers read ${last - readBefore} bytes, less than ${watchers} × ${watchedEvents} events of ${eventBytes} bytes`,
      );
    const count = watchers * watchedEvents * delivered;
    return { perSecond: count / ((lastAt - begun) / 1000), cpuPerThousand: (used / count) * 1000, delivered };
  } finally {
    watching.kill('SIGKILL');
    await ended;
  }
}

/** `known` once the process has ended. */
function readBytes(pid: number, known: number): number {
  try {
    return Number(/^rchar: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))?.[1] ?? known);
  } catch {
    return known;
  }
}
