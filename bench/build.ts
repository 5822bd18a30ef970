/**
 * `docker build` from exec of the client to its end, with the daemon's own builder; sides take turns. With buildx where
 * the client has it, else with the classic builder, on both sides the same. What the client takes for itself, a build
 * of nothing, is shown apart and taken out of both.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startDockerd } from './dockerd.ts';
import { command, median, ratioOf, timed } from './harness.ts';
import type { Bench, Goal, Result, Run, Sample } from './harness.ts';
import { requireTools, startTiphys, tiphysVersion } from './tiphys.ts';

const defaultRounds = 5;
const largeBytes = 300_000_000;
const smallFiles = 4_000;
const warmUps = 1;

interface Case {
  name: string;
  about: string;
  words: string[];
  /** Before each build, on both sides. */
  prepare?: () => void;
  atMost?: number;
}

export const build: Bench = { name: 'build', about: 'docker build, client and all', run };

/** Twenty steps in four stages, the last of which needs the others. */
function stagesDockerfile(): string {
  const stage = (name: string): string[] => [
    `FROM busybox AS ${name}`,
    ...[1, 2, 3, 4].map((step) => `RUN echo ${name} ${step} > /${name}${step}`),
  ];
  const stages = ['a', 'b', 'c'];
  const last = [
    'FROM busybox',
    ...stages.map((name) => `COPY --from=${name} /${name}4 /`),
    'WORKDIR /work',
    'RUN ls /',
  ];
  return `${[...stages.flatMap(stage), ...last].join('\n')}\n`;
}

function makeContext(scratch: string, name: string, files: Record<string, string | Buffer>): string {
  const directory = join(scratch, name);
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(directory, path, '..'), { recursive: true });
    writeFileSync(join(directory, path), content);
  }
  return directory;
}

function casesIn(scratch: string): Case[] {
  const large = makeContext(scratch, 'large', {
    Dockerfile: 'FROM busybox\nCOPY large /\n',
    large: randomBytes(largeBytes),
  });
  const changing = makeContext(scratch, 'changing', {
    Dockerfile: 'FROM busybox\nCOPY small /\n',
    ...Object.fromEntries([1, 2, 3].map((part) => [`part${part}`, randomBytes(largeBytes / 3)])),
  });
  const small = makeContext(scratch, 'small', {
    Dockerfile: 'FROM busybox\nCOPY . /files\n',
    ...Object.fromEntries(
      Array.from({ length: smallFiles }, (_, index) => [`d${index % 40}/f${index}`, `${index}\n`.repeat(50)]),
    ),
  });
  const stages = makeContext(scratch, 'stages', { Dockerfile: stagesDockerfile() });
  const nothing = makeContext(scratch, 'nothing', { Dockerfile: 'FROM scratch\nLABEL a=b\n' });
  let count = 0;
  return [
    { name: 'client', about: 'a build of nothing', words: ['build', '-q', nothing] },
    {
      name: 'large',
      about: `COPY of ${largeBytes / 1e6} MB`,
      words: ['build', '-q', '--no-cache', large],
      atMost: 0.8,
    },
    { name: 'small', about: `COPY of ${smallFiles} files`, words: ['build', '-q', '--no-cache', small], atMost: 0.5 },
    { name: 'stages', about: '20 steps in 4 stages', words: ['build', '-q', '--no-cache', stages], atMost: 0.6 },
    { name: 'cached', about: 'the same, all cached', words: ['build', '-q', stages], atMost: 0.2 },
    {
      name: 'changed',
      about: `one small file changed beside ${largeBytes / 1e6} MB`,
      words: ['build', '-q', changing],
      prepare: () => writeFileSync(join(changing, 'small'), `${count++}\n`),
    },
  ];
}

async function run(current: Run): Promise<Result> {
  requireTools('docker');
  const { tiphys, busybox } = await startTiphys(current);
  const hasBuildx = (await command(['docker', 'buildx', 'version'], { allowFailure: true })).code === 0;
  const client = hasBuildx ? {} : { DOCKER_BUILDKIT: '0' };
  const sides = [{ name: 'Tiphys', env: { ...tiphys.env, ...client }, version: tiphysVersion() }];
  const dockerd = await startDockerd(current, busybox);
  const skipped = typeof dockerd === 'string' ? [dockerd] : [];
  if (typeof dockerd !== 'string') sides.push({ name: 'dockerd', ...dockerd, env: { ...dockerd.env, ...client } });
  const samples: Sample[] = [];
  const goals: Goal[] = [];
  const alone = new Map<string, number>();
  for (const each of casesIn(current.scratch)) {
    if (current.parts !== undefined && each.name !== 'client' && !current.parts.includes(each.name)) continue;
    const taken = await measure(current, each, sides);
    for (const { name, values } of taken)
      samples.push({ name: `${each.name}, ${name}`, unit: 'ms', values, note: each.about });
    if (each.name === 'client') for (const { name, values } of taken) alone.set(name, median(values));
    const own = (name: string): number[] | undefined =>
      taken.find((side) => side.name === name)?.values.map((ms) => Math.max(0, ms - (alone.get(name) ?? 0)));
    if (each.atMost !== undefined)
      goals.push({
        text: `${each.name}, Tiphys / dockerd`,
        atMost: each.atMost,
        value: ratioOf(own('Tiphys') ?? [], own('dockerd')),
      });
  }
  return {
    bench: build.name,
    about: `${build.about}, ${hasBuildx ? 'buildx' : 'classic builder'}`,
    samples,
    skipped,
    versions: Object.fromEntries(sides.map((side) => [side.name, side.version])),
    goals,
  };
}

async function measure(
  current: Run,
  { name, words, prepare }: Case,
  sides: readonly { name: string; env: Record<string, string> }[],
): Promise<{ name: string; values: number[] }[]> {
  const taken = sides.map((side) => ({ name: side.name, values: [] as number[] }));
  const rounds = current.rounds ?? defaultRounds;
  for (let round = -warmUps; round < rounds; round++) {
    prepare?.();
    for (const [index, side] of sides.entries()) {
      const ms = await timed(['docker', ...words], side.env);
      if (round >= 0) taken[index]?.values.push(ms);
    }
  }
  current.say(`${name}: ${taken.map((side) => `${side.name} ${median(side.values).toFixed(0)} ms`).join(', ')}`);
  return taken;
}
