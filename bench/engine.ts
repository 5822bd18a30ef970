/**
 * What an engine takes for what people do with it, measured at its API by one small compiled client (api-client.c);
 * sides take turns. The docker CLI's own time, which is the same for all, is shown apart.
 */
import { join } from 'node:path';
import { makeBigImage, registryAddress, startRegistry } from './big-image.ts';
import {
  busyboxImage,
  makeRunDirectory,
  startDebianDockerd,
  startEngine,
  startMoby,
  startPodmanService,
} from './engine-sides.ts';
import type { Side } from './engine-sides.ts';
import { command, median, proportionalMb, ratioOf, sleep, timed, until } from './harness.ts';
import type { Bench, Goal, Result, Run, Sample } from './harness.ts';
import { requireTools } from './tiphys.ts';

const together = 50;
const existing = 1_000;
const logLines = 1_000_000;
const idleSeconds = 60;
const bigImage = `${registryAddress}/big:latest`;

export const engine: Bench = { name: 'engine', about: 'the engine alone, at its API', run };

interface Step {
  ms: number;
  bytes: number;
  id: string;
}

/** What is measured of a side once a round. */
interface Figure {
  name: string;
  about: string;
  unit?: string;
  rounds: number;
  warmUps?: number;
  /** Of dockerd's. */
  atMost?: number;
  /** Only dockerd is a measure. */
  isOfDockerd?: boolean;
  /** Of Tiphys itself, in its unit. */
  mostOwn?: number;
  /** Once for each side, before the rounds; what comes back is handed to each of them, and to `clear`. */
  prepare?(side: Side): Promise<string>;
  measure(side: Side, prepared: string): Promise<number>;
  clear?(side: Side, prepared: string): Promise<unknown>;
}

/** Requests by the compiled client; the last line it prints is the time from the first to the last byte of all. */
class Client {
  readonly #program: string;

  constructor(program: string) {
    this.#program = program;
  }

  async send(side: Side, requests: string[], atOnce = false): Promise<{ total: number; steps: Step[] }> {
    const words = [this.#program, ...(atOnce ? ['--together'] : []), side.socket, ...requests];
    const lines = (await command(words)).stdout.trimEnd().split('\n');
    const total = Number(lines.pop()!.split(' ')[1]);
    return {
      total,
      steps: lines.map((line) => {
        const [, ms, bytes, id] = line.split(' ');
        return { ms: Number(ms), bytes: Number(bytes), id: id ?? '' };
      }),
    };
  }

  async create(side: Side, words: string[], count = 1): Promise<string[]> {
    const { steps } = await this.send(side, Array<string>(count).fill(createRequest(words)));
    return steps.map(({ id }) => id);
  }

  async runUntilSays(side: Side, words: string[]): Promise<string> {
    const [id] = await this.create(side, words);
    await this.send(side, [`POST /containers/${id}/start`]);
    await until('a container', 120_000, async () => {
      const { steps } = await this.send(side, [`GET /containers/${id}/logs?stdout=1&tail=1`]);
      return steps[0]!.bytes > 0;
    });
    return id!;
  }

  async removeAll(side: Side, ids: string[]): Promise<void> {
    const size = together;
    for (let at = 0; at < ids.length; at += size)
      await this.send(
        side,
        ids.slice(at, at + size).map((id) => `DELETE /containers/${id}?force=1`),
        true,
      );
  }
}

function createRequest(words: string[]): string {
  return `POST /containers/create ${JSON.stringify({ Image: busyboxImage, Cmd: words })}`;
}

const waitsForEnd = ['sh', '-c', "trap 'exit 0' TERM; echo ready; while :; do sleep 1 & wait; done"];

function lifeFigures(client: Client): Figure[] {
  return [
    {
      name: 'run',
      about: 'create, start, wait, remove of `true`',
      rounds: 15,
      atMost: 0.15,
      measure: async (side) =>
        (
          await client.send(side, [
            createRequest(['true']),
            'POST /containers/@/start',
            'POST /containers/@/wait',
            'DELETE /containers/@?force=1',
          ])
        ).total,
    },
    {
      name: 'starts',
      about: `${together} starts at once, to the last answer`,
      rounds: 4,
      atMost: 0.25,
      async measure(side) {
        const ids = await client.create(side, ['sleep', '1000'], together);
        const starts = ids.map((id) => `POST /containers/${id}/start`);
        const { total } = await client.send(side, starts, true);
        await client.removeAll(side, ids);
        return total;
      },
    },
    {
      name: 'exec',
      about: 'exec of `echo` to its end and its exit code',
      rounds: 15,
      atMost: 0.25,
      prepare: (side) => client.runUntilSays(side, waitsForEnd),
      async measure(side, id) {
        const body = JSON.stringify({ AttachStdout: true, AttachStderr: true, Cmd: ['echo', 'said'] });
        const { total, steps } = await client.send(side, [
          `POST /containers/${id}/exec ${body}`,
          'POST /exec/@/start {"Detach":false,"Tty":false}',
          'GET /exec/@/json',
        ]);
        if (steps[1]!.bytes === 0) throw new Error(`${side.name}: exec said nothing`);
        return total;
      },
      clear: (side, id) => client.removeAll(side, [id]),
    },
    {
      name: 'stop and rm',
      about: 'of a container that heeds SIGTERM',
      rounds: 8,
      atMost: 0.3,
      async measure(side) {
        const id = await client.runUntilSays(side, waitsForEnd);
        return (await client.send(side, [`POST /containers/${id}/stop`, `DELETE /containers/${id}`])).total;
      },
    },
    {
      name: 'logs',
      about: `of ${logLines} lines, the last three`,
      rounds: 8,
      atMost: 1,
      async prepare(side) {
        const [id] = await client.create(side, ['seq', String(logLines)]);
        await client.send(side, [`POST /containers/${id}/start`, `POST /containers/${id}/wait`]);
        return id!;
      },
      async measure(side, id) {
        const { total, steps } = await client.send(side, [`GET /containers/${id}/logs?stdout=1&tail=3`]);
        if (steps[0]!.bytes === 0) throw new Error(`${side.name}: logs said nothing`);
        return total;
      },
      clear: (side, id) => client.removeAll(side, [id]),
    },
    {
      name: 'ps',
      about: `all of ${existing} containers`,
      rounds: 8,
      mostOwn: 100,
      prepare: async (side) => (await client.create(side, ['true'], existing)).join(' '),
      measure: async (side) => (await client.send(side, ['GET /containers/json?all=1'])).total,
      clear: (side, ids) => client.removeAll(side, ids.split(' ')),
    },
  ];
}

function imageFigures(client: Client, archive: string, hasRegistry: boolean): Figure[] {
  const remove = (side: Side): Promise<unknown> =>
    command(['docker', 'rmi', '-f', bigImage], { env: side.env, allowFailure: true });
  const present = async (side: Side): Promise<string> => {
    await client.send(side, [`POST /images/load <${archive}`]);
    return '';
  };
  const pull: Figure = {
    name: 'pull',
    about: 'and unpack 500 MB from a registry on loopback',
    rounds: 3,
    atMost: 0.6,
    async measure(side) {
      await remove(side);
      const from = encodeURIComponent(bigImage.replace(/:latest$/, ''));
      return (await client.send(side, [`POST /images/create?fromImage=${from}&tag=latest`])).total;
    },
    clear: remove,
  };
  return [
    ...(hasRegistry ? [pull] : []),
    {
      name: 'load',
      about: 'an archive of 500 MB',
      rounds: 3,
      atMost: 0.7,
      async measure(side) {
        await remove(side);
        return (await client.send(side, [`POST /images/load <${archive}`])).total;
      },
      clear: remove,
    },
    {
      name: 'save',
      about: 'an image of 500 MB',
      rounds: 3,
      atMost: 0.7,
      prepare: present,
      measure: async (side) => (await client.send(side, [`GET /images/${bigImage}/get`])).total,
      clear: remove,
    },
  ];
}

/** Needs the engines as they have just started: nothing has run. */
const idleFigure: Figure = {
  name: 'idle memory',
  about: `of the engine's processes, after ${idleSeconds} s`,
  unit: 'MB proportional',
  rounds: 1,
  warmUps: 0,
  atMost: 1,
  isOfDockerd: true,
  measure: async (side) => proportionalMb(side.pids()),
};

const cliFigure: Figure = {
  name: 'docker CLI',
  about: '`docker run --rm` by the CLI, its own time and all',
  rounds: 10,
  measure: (side) => timed(['docker', 'run', '--rm', busyboxImage, 'true'], side.env),
};

async function run(current: Run): Promise<Result> {
  requireTools('docker', 'cc', 'tar');
  const program = join(current.scratch, 'api-client');
  await command(['cc', '-O2', '-pthread', '-o', program, join(import.meta.dirname, 'api-client.c')]);
  const client = new Client(program);
  const { sides, skipped } = await startSides(current);
  const isAsked = (name: string): boolean => current.parts === undefined || current.parts.includes(name);
  const samples: Sample[] = [];
  const goals: Goal[] = [];
  const take = async (figure: Figure): Promise<void> => {
    if (!isAsked(figure.name)) return;
    const taken = await measureFigure(current, figure, sides);
    for (const { name, values } of taken)
      samples.push({ name: `${figure.name}, ${name}`, unit: figure.unit ?? 'ms', values, note: figure.about });
    goals.push(...goalsOf(figure, taken));
  };
  if (isAsked(idleFigure.name)) {
    current.say(`resting ${idleSeconds} s`);
    await sleep(idleSeconds * 1000);
    await take(idleFigure);
  }
  for (const figure of lifeFigures(client)) await take(figure);
  await take(cliFigure);
  if (['pull', 'load', 'save'].some(isAsked)) {
    const archive = await makeBigImage(current, bigImage);
    const missing = await startRegistry(current);
    if (missing === undefined) await pushBig(sides[0]!, archive);
    else skipped.push(missing);
    for (const figure of imageFigures(client, archive, missing === undefined)) await take(figure);
  }
  return {
    bench: engine.name,
    about: engine.about,
    samples,
    skipped,
    versions: Object.fromEntries(sides.map((side) => [side.name, side.version])),
    goals,
  };
}

async function startSides(current: Run): Promise<{ sides: Side[]; skipped: string[] }> {
  const runDirectory = await makeRunDirectory(current);
  const { side, busybox } = await startEngine(current, runDirectory);
  const sides = [side];
  const skipped: string[] = [];
  for (const start of [startDebianDockerd, startPodmanService, startMoby]) {
    const peer = await start(current, busybox, runDirectory, registryAddress);
    if (typeof peer !== 'string') sides.push(peer);
    else {
      skipped.push(peer);
      current.say(peer);
    }
  }
  return { sides, skipped };
}

async function pushBig({ env }: Side, archive: string): Promise<void> {
  await command(['docker', 'load', '-q', '-i', archive], { env });
  await command(['docker', 'push', '-q', bigImage], { env });
}

async function measureFigure(
  current: Run,
  figure: Figure,
  sides: readonly Side[],
): Promise<{ name: string; values: number[] }[]> {
  const taken = sides.map((side) => ({ side, name: side.name, values: [] as number[], prepared: '' }));
  for (const each of taken) each.prepared = (await figure.prepare?.(each.side)) ?? '';
  const rounds = figure.rounds === 1 ? 1 : (current.rounds ?? figure.rounds);
  for (let round = -(figure.warmUps ?? 1); round < rounds; round++)
    for (const each of taken) {
      const value = await figure.measure(each.side, each.prepared);
      if (round >= 0) each.values.push(value);
    }
  for (const each of taken) await figure.clear?.(each.side, each.prepared);
  current.say(`${figure.name}: ${taken.map(({ name, values }) => `${name} ${median(values).toFixed(1)}`).join(', ')}`);
  return taken;
}

function goalsOf(figure: Figure, taken: readonly { name: string; values: number[] }[]): Goal[] {
  const own = taken[0]!.values;
  const goals: Goal[] = [];
  if (figure.mostOwn !== undefined)
    goals.push({ text: `${figure.name}, ${figure.unit ?? 'ms'}`, atMost: figure.mostOwn, value: median(own) });
  for (const { name, values } of taken.slice(1)) {
    if (figure.isOfDockerd === true && name !== 'dockerd') continue;
    const atMost = name === 'dockerd' ? (figure.atMost ?? 1) : 1;
    goals.push({ text: `${figure.name}, Tiphys / ${name}`, atMost, value: ratioOf(own, values) });
  }
  return goals;
}
