/**
 * `docker run --rm busybox true` on the default bridge with the default seccomp profile, from exec of the client to its
 * end; sides take turns.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { startDockerd } from './dockerd.ts';
import { command, find, fileSizeMb, median, ratioOf, timed } from './harness.ts';
import type { Bench, Result, Run, Sample } from './harness.ts';
import { rememberIptables } from './iptables.ts';
import { requireTools, startTiphys, tiphysVersion } from './tiphys.ts';

const defaultRounds = 20;
const warmUps = 2;

interface Side {
  name: string;
  words: string[];
  env: Record<string, string>;
  version: string;
}

export const dockerRun: Bench = {
  name: 'docker-run',
  about: 'docker run --rm busybox true, default bridge, default seccomp',
  run,
};

async function run(current: Run): Promise<Result> {
  requireTools('docker');
  const skipped: string[] = [];
  const { tiphys, busybox } = await startTiphys(current);
  const crun = (await command(['crun', '--version'])).stdout.split('\n')[0]!;
  const sides: Side[] = [
    {
      name: 'Tiphys',
      words: ['docker', 'run', '--rm', 'busybox', 'true'],
      env: tiphys.env,
      version: `${tiphysVersion()} with ${crun}`,
    },
  ];
  for (const start of [startDockerdSide, startPodman]) {
    const side = await start(current, busybox);
    if (typeof side === 'string') {
      skipped.push(side);
      current.say(side);
    } else sides.push(side);
  }
  const samples: Sample[] = sides.map((side) => ({ name: side.name, unit: 'ms', values: [] }));
  const rounds = current.rounds ?? defaultRounds;
  for (let round = -warmUps; round < rounds; round++) {
    for (const [index, side] of sides.entries()) {
      const ms = await timed(side.words, side.env);
      if (round >= 0) samples[index]!.values.push(ms);
    }
    if (round % 5 === 4)
      current.say(
        `round ${round + 1} of ${rounds}: ${samples.map((sample) => `${sample.name} ${median(sample.values).toFixed(0)} ms`).join(', ')}`,
      );
  }
  const of = (name: string): number[] | undefined => samples.find((sample) => sample.name === name)?.values;
  return {
    bench: dockerRun.name,
    about: dockerRun.about,
    samples,
    skipped,
    versions: Object.fromEntries(sides.map((side) => [side.name, side.version])),
    goals: [
      { text: 'Tiphys / dockerd', atMost: 0.35, value: ratioOf(of('Tiphys')!, of('dockerd')) },
      ...(of('podman') === undefined
        ? []
        : [{ text: 'Tiphys / podman', atMost: 1, value: ratioOf(of('Tiphys')!, of('podman')) }]),
    ],
  };
}

async function startDockerdSide(current: Run, busybox: string): Promise<Side | string> {
  const started = await startDockerd(current, busybox);
  if (typeof started === 'string') return started;
  return { name: 'dockerd', words: ['docker', 'run', '--rm', 'busybox', 'true'], ...started };
}

async function startPodman(current: Run, busybox: string): Promise<Side | string> {
  const program = find('podman');
  if (program === undefined) return 'podman is not installed: apt-get install podman';
  const root = join(current.scratch, 'podman');
  const words = [
    program,
    '--root',
    `${root}/data`,
    '--runroot',
    `${root}/run`,
    '--cgroup-manager',
    'cgroupfs',
    '--events-backend',
    'none',
    ...(find('runc') === undefined ? [] : ['--runtime', 'runc']),
  ];
  current.defer(await rememberIptables(/cni-podman0|CNI-/));
  for (const bridge of ['cni-podman0', 'podman0'])
    if (!existsSync(`/sys/class/net/${bridge}`))
      current.defer(() => command(['ip', 'link', 'delete', bridge], { allowFailure: true }));
  current.defer(() => command([...words, 'system', 'reset', '--force'], { allowFailure: true }));
  const env = {};
  // Its own defaults are above what a root without CAP_SYS_RESOURCE may set.
  const limits = ['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=1024:1024'];
  const loaded = await command([...words, 'load', '-q', '-i', busybox], { env, allowFailure: true });
  const first =
    loaded.code === 0
      ? await command([...words, 'run', '--rm', ...limits, 'docker.io/library/busybox', 'true'], {
          env,
          allowFailure: true,
        })
      : loaded;
  if (first.code !== 0) return `podman does not run here: ${first.stderr.trim().split('\n').at(-1)}`;
  const info = JSON.parse((await command([...words, 'info', '--format', 'json'], { env })).stdout) as {
    version: { Version: string };
    host: { ociRuntime: { name: string } };
  };
  return {
    name: 'podman',
    words: [...words, 'run', '--rm', ...limits, 'docker.io/library/busybox', 'true'],
    env,
    version: `${info.version.Version} (${fileSizeMb(program)}) with ${info.host.ociRuntime.name}`,
  };
}
