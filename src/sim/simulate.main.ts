/**
 * `npm run simulate -- [--seeds N] [--from F] [--seed S [--from-event R [--forks K]]] [--minutes M] [--workers W]
 * [--scale [NODES …]]`: runs N seeds from F on (1), or one, or a seed until revision R and then K forks of the cluster
 * as it is there; or grows a cluster and prints what that costs. Exit status 1 when a seed fails or its second run
 * differs, 2 when the words are wrong.
 */
import { parseArgs } from 'node:util';
import { codeOf, messageOf } from '#base/thrown.ts';
import type { LogLevel } from '#observe/log.ts';
import { runScale } from './scale.ts';
import { commitOf } from './commit.ts';
import { runSeeds } from './seeds.ts';
import { describeFailure, resumeNear, type SimulationResult, simulate } from './simulate.ts';

const logLevels: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];

/** What was asked for is not understood. */
class UsageError extends Error {}

function numberOf(text: string, what: string): number {
  if (!/^\d+(\.\d+)?$/.test(text)) throw new UsageError(`${what} must be a number, not ${JSON.stringify(text)}`);
  return Number(text);
}

function levelOf(text: string): LogLevel {
  const level = logLevels.find((known) => known === text);
  if (level === undefined) throw new UsageError(`--log must be one of ${logLevels.join(', ')}, not ${text}`);
  return level;
}

/** Exit status 2 when the words are wrong. */
export async function runSimulateCommand(argv: readonly string[]): Promise<number> {
  try {
    return await run(argv);
  } catch (error) {
    const isUsage = error instanceof UsageError || codeOf(error)?.startsWith('ERR_PARSE_ARGS') === true;
    if (!isUsage) throw error;
    process.stderr.write(`simulate: ${messageOf(error)}\n`);
    return 2;
  }
}

async function run(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      seeds: { type: 'string', default: '20' },
      from: { type: 'string', default: '1' },
      seed: { type: 'string' },
      'from-event': { type: 'string' },
      forks: { type: 'string', default: '10' },
      minutes: { type: 'string', default: '5' },
      nodes: { type: 'string', default: '5' },
      workers: { type: 'string', default: '2' },
      scale: { type: 'boolean', default: false },
      log: { type: 'string' },
      twice: { type: 'boolean', default: false },
    },
  });
  if (values.scale) {
    for (const nodes of positionals.length > 0
      ? positionals.map((text) => numberOf(text, '--scale'))
      : [100, 300, 1000, 3000])
      await runScale({ nodes, podsPerNode: 30 }, (line) => process.stdout.write(`${line}\n`));
    return 0;
  }
  if (positionals.length > 0) throw new UsageError(`${JSON.stringify(positionals[0])} is not expected here`);
  const [minutes, from] = [numberOf(values.minutes, '--minutes'), numberOf(values.from, '--from')];
  const seed = values.seed === undefined ? undefined : numberOf(values.seed, '--seed');
  const seeds =
    seed === undefined ? Array.from({ length: numberOf(values.seeds, '--seeds') }, (_, i) => from + i) : [seed];
  let failed = 0;
  const options = {
    minutes,
    nodes: numberOf(values.nodes, '--nodes'),
    ...(values.log === undefined ? {} : { log: levelOf(values.log) }),
  };
  if (values['from-event'] !== undefined) {
    if (seed === undefined) throw new UsageError('--from-event needs --seed: the run that it is an event of');
    await resumeNear(
      { ...options, seed },
      numberOf(values['from-event'], '--from-event'),
      numberOf(values.forks, '--forks'),
      (result) => {
        print(`fork ${result.seed}`, result, '');
        for (const { checker, message, revision } of result.violations)
          process.stderr.write(`  ${checker}: ${message} (revision ${revision})\n`);
        for (const fault of result.faults) process.stdout.write(`  ${fault}\n`);
        if (result.violations.length > 0) failed++;
      },
    );
    return failed === 0 ? 0 : 1;
  }
  await runSeeds(seeds, options, Math.max(1, numberOf(values.workers, '--workers')), async (result) => {
    const same = !values.twice || (await simulate({ ...options, seed: result.seed })).hash === result.hash;
    print(`seed ${result.seed}`, result, same ? '' : ' - a second run DIFFERS');
    if (result.violations.length > 0) process.stderr.write(`${describeFailure(result, minutes, commitOf())}\n`);
    if (result.violations.length > 0 || !same) failed++;
  });
  return failed === 0 ? 0 : 1;
}

function print(what: string, result: SimulationResult, note: string): void {
  process.stdout.write(
    `${what}: ${result.violations.length === 0 ? 'ok' : 'FAILED'} hash ${result.hash.slice(0, 12)} ${result.transactions} transactions, ${Math.round(result.virtualMs / 1000)} s of virtual time, ${result.faults.length} faults${note}\n`,
  );
}

if (import.meta.main) process.exitCode = await runSimulateCommand(process.argv.slice(2));
