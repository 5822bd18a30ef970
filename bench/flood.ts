/**
 * Whether a client that floods the API server slows another one: one user asks for an object every few milliseconds,
 * first alone and then while another floods from a cgroup of its own, which has half a processor. What floods asks
 * again at once when it is refused, by h2load: with few streams, with so many that its queues are full, and for lists.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { connect, type IncomingHttpHeaders, type IncomingHttpStatusHeader } from 'node:http2';
import { Agent, request } from 'node:https';
import { join } from 'node:path';
import { find, quantile, sleep, until } from './harness.ts';
import type { Bench, Result, Run, Sample } from './harness.ts';
import { KubeClient, targetOf } from './kube-client.ts';
import { Tiphys, tiphysVersion } from './tiphys.ts';

const defaultRounds = 3;
const secondsEach = 5;
const betweenMs = 4;
const warmUpMs = 1_000;
/** As one user, beside the flood of his and all at once, to see what he is told: connections, and requests of each. */
const floodersSessions = 16;
const floodersStreams = 120;
const listedObjects = 1_000;
const quotaUs = 50_000;
const periodUs = 100_000;

const floods: [name: string, words: string[], path: string][] = [
  ['64 gets at a time', ['-c', '8', '-m', '8'], '/api/v1/namespaces/default/configmaps/asked'],
  ['4,000 gets at a time', ['-c', '8', '-m', '500'], '/api/v1/namespaces/default/configmaps/asked'],
  [`16 lists of ${listedObjects} at a time`, ['-c', '4', '-m', '4'], '/api/v1/namespaces/default/secrets'],
];

export const flood: Bench = {
  name: 'flood',
  about: "how much slower one user's requests are while another floods from a cgroup with half a processor",
  run,
};

/** A cgroup that has so much of a processor, in either version. */
class Limited {
  readonly #path: string;

  constructor(name: string) {
    const isV1 = existsSync('/sys/fs/cgroup/cpu/cpu.cfs_quota_us');
    this.#path = join(isV1 ? '/sys/fs/cgroup/cpu' : '/sys/fs/cgroup', name);
    mkdirSync(this.#path, { recursive: true });
    if (isV1) {
      writeFileSync(join(this.#path, 'cpu.cfs_period_us'), String(periodUs));
      writeFileSync(join(this.#path, 'cpu.cfs_quota_us'), String(quotaUs));
    } else writeFileSync(join(this.#path, 'cpu.max'), `${quotaUs} ${periodUs}`);
  }

  spawn(words: string[]): ChildProcess {
    const script = `echo $$ > ${this.#path}/cgroup.procs && exec "$@"`;
    return spawn('sh', ['-c', script, 'sh', ...words], { stdio: 'ignore' });
  }

  /** Does the work while the command runs, and ends that. */
  async beside(words: string[], work: () => Promise<void>): Promise<void> {
    const running = this.spawn(words);
    const ended = new Promise((resolve) => running.once('exit', resolve));
    try {
      await sleep(warmUpMs);
      await work();
    } finally {
      running.kill('SIGKILL');
      await ended;
    }
  }

  close(): void {
    rmdirSync(this.#path);
  }
}

async function tokenOf(client: KubeClient, name: string): Promise<string> {
  const accounts = '/api/v1/namespaces/default/serviceaccounts';
  await client.ask('POST', accounts, { metadata: { name } });
  await client.ask('POST', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
    metadata: { name },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
    subjects: [{ kind: 'ServiceAccount', name, namespace: 'default' }],
  });
  const answer = await client.ask('POST', `${accounts}/${name}/token`, { spec: { expirationSeconds: 7200 } });
  return answer['status'].token as string;
}

interface Asker {
  agent: Agent;
  url: string;
  headers: Record<string, string>;
}

function ask({ agent, url, headers }: Asker): Promise<number> {
  const begun = performance.now();
  return new Promise((resolve, reject) => {
    const out = request(url, { agent, headers }, (answer) => {
      answer.resume();
      answer.on('error', reject).on('end', () => {
        if (answer.statusCode === 200) resolve(performance.now() - begun);
        else reject(new Error(`the one who does not flood was told ${answer.statusCode}`));
      });
    });
    out.on('error', reject).end();
  });
}

/**
 * What the one who floods is told: of so many requests of his that come at once, how many are refused (429), and how
 * many of those refusals say when to come again (Retry-After).
 */
async function askRefusals({ url, headers }: Asker): Promise<{ refused: number; told: number }> {
  const { origin, pathname } = new URL(url);
  const sessions = Array.from({ length: floodersSessions }, () => connect(origin, { rejectUnauthorized: false }));
  try {
    await Promise.all(sessions.map((session) => once(session, 'remoteSettings')));
    const answers = await Promise.all(
      sessions.flatMap((session) =>
        Array.from({ length: floodersStreams }, async () => {
          const stream = session.request({ ':path': pathname, ...headers }).resume();
          const [{ ':status': status, 'retry-after': retryAfter }] = (await once(stream, 'response')) as [
            IncomingHttpHeaders & IncomingHttpStatusHeader,
          ];
          return { isRefused: status === 429, isTold: Number(retryAfter) >= 1 };
        }),
      ),
    );
    const refused = answers.filter(({ isRefused }) => isRefused);
    return { refused: refused.length, told: refused.filter(({ isTold }) => isTold).length };
  } finally {
    for (const session of sessions) session.destroy();
  }
}

/** Milliseconds of each request. */
async function askOften(asker: Asker): Promise<number[]> {
  const out: number[] = [];
  const end = performance.now() + secondsEach * 1000;
  while (performance.now() < end) {
    out.push(await ask(asker));
    await sleep(betweenMs);
  }
  return out;
}

async function run(current: Run): Promise<Result> {
  const h2load = find('h2load');
  if (h2load === undefined) throw new Error('h2load is not installed: apt-get install nghttp2-client');
  const tiphys = new Tiphys(join(current.scratch, 'tiphys'));
  current.defer(() => tiphys.purge());
  await tiphys.up();
  const target = await targetOf('Tiphys', tiphys.kubeconfig);
  const client = new KubeClient(target);
  current.defer(() => client.close());
  await prepare(client);
  const agent = new Agent({ keepAlive: true, rejectUnauthorized: false });
  current.defer(() => agent.destroy());
  const asker: Asker = {
    agent,
    url: `${target.server}/api/v1/namespaces/default/configmaps/asked`,
    headers: { authorization: `Bearer ${await tokenOf(client, 'asks')}`, accept: 'application/json' },
  };
  const limited = new Limited(`tiphys-bench-flood-${process.pid}`);
  current.defer(() => limited.close());
  const authorization = `Bearer ${await tokenOf(client, 'floods')}`;
  const header = `authorization: ${authorization}`;
  const flooder: Asker = { ...asker, headers: { ...asker.headers, authorization } };
  const told = { refused: 0, told: 0 };
  const samples: Sample[] = [];
  const ratios = new Map<string, number[]>();
  await askOften(asker);
  for (let round = 0; round < (current.rounds ?? defaultRounds); round++)
    for (const [name, words, path] of floods) {
      const alone = await askOften(asker);
      await limited.beside([h2load, '-D', '60', ...words, '-H', header, `${target.server}${path}`], async () => {
        const beside = await askOften(asker);
        const [quiet, flooded] = [quantile(alone, 0.99), quantile(beside, 0.99)];
        note(samples, `p99 alone (${name})`, quiet);
        note(samples, `p99 beside ${name}`, flooded);
        note(samples, `median beside ${name}`, quantile(beside, 0.5));
        ratios.set(name, [...(ratios.get(name) ?? []), flooded / quiet]);
        const answers = await askRefusals(flooder);
        note(
          samples,
          `refused of ${floodersSessions * floodersStreams} more of his (${name})`,
          answers.refused,
          'requests',
        );
        told.refused += answers.refused;
        told.told += answers.told;
        current.say(`${name}: p99 ${quiet.toFixed(2)} → ${flooded.toFixed(2)} ms`);
      });
      await until('the flood has drained', 30_000, async () => (await ask(asker)) < 20);
    }
  return {
    bench: flood.name,
    about: flood.about,
    samples,
    skipped: [],
    versions: { Tiphys: tiphysVersion() },
    goals: [
      ...floods.map(([name]) => ({
        text: `p99 beside ${name} / alone`,
        atMost: 2,
        value: quantile(ratios.get(name) ?? [], 0.5),
      })),
      { text: 'refusals (429) that say when to come again', atLeast: 1, value: told.told / told.refused },
    ],
  };
}

function note(samples: Sample[], name: string, value: number, unit = 'ms'): void {
  const found = samples.find((one) => one.name === name);
  if (found === undefined) samples.push({ name, unit, values: [value] });
  else found.values.push(value);
}

async function prepare(client: KubeClient): Promise<void> {
  const base = '/api/v1/namespaces/default';
  await client.ask('POST', `${base}/configmaps`, { metadata: { name: 'asked' }, data: { a: 'x'.repeat(700) } });
  const names = Array.from({ length: listedObjects }, (_unused, i) => `listed-${i}`);
  while (names.length > 0)
    await Promise.all(
      names
        .splice(0, 16)
        .map((name) =>
          client.ask('POST', `${base}/secrets`, { metadata: { name }, stringData: { a: 'x'.repeat(700) } }),
        ),
    );
}
