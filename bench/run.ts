/**
 * `npm run bench [-- NAME[/PART]…] [--json] [--rounds=N] [--list] [--help]`: ratios against peers measured in the same run, with
 * the raw figures. README.md says what each means. Results go to standard output, progress to standard error. Exits
 * with 1 when a goal that could be measured is missed, 2 when a benchmark failed.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, release, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { messageOf } from '#base/thrown.ts';
import { api } from './api.ts';
import { apiScale } from './api-scale.ts';
import { build } from './build.ts';
import { dockerRun } from './docker-run.ts';
import { engine } from './engine.ts';
import { median } from './harness.ts';
import type { Bench, Goal, Result, Run } from './harness.ts';
import { flood } from './flood.ts';
import { hostile } from './hostile.ts';
import { idle } from './idle.ts';
import { memory } from './memory.ts';
import { pods } from './pods.ts';
import { up } from './up.ts';

const benches: Bench[] = [dockerRun, engine, build, up, api, apiScale, pods, idle, memory, hostile, flood];

function met(goal: Goal): boolean | undefined {
  if (goal.value === undefined || Number.isNaN(goal.value)) return undefined;
  return (
    (goal.atMost === undefined || goal.value <= goal.atMost) &&
    (goal.atLeast === undefined || goal.value >= goal.atLeast)
  );
}

const digits = (value: number): string =>
  value >= 1000 ? Math.round(value).toLocaleString('en') : value >= 10 ? value.toFixed(1) : value.toFixed(3);

function print(result: Result): void {
  const lines = [`\n## ${result.bench}: ${result.about}`];
  for (const [name, version] of Object.entries(result.versions)) lines.push(`   ${name}: ${version}`);
  const width = Math.max(20, ...result.samples.map((sample) => sample.name.length));
  if (result.samples.length > 0)
    lines.push(`   ${''.padEnd(width)} ${['min', 'median', 'max', 'n'].map((word) => word.padStart(10)).join('')}`);
  for (const { name, unit, values, note } of result.samples) {
    const cells = [Math.min(...values), median(values), Math.max(...values)]
      .map((value) => digits(value).padStart(10))
      .join('');
    lines.push(
      `   ${name.padEnd(width)} ${cells}${String(values.length).padStart(10)}  ${unit}${note === undefined ? '' : `  (${note})`}`,
    );
  }
  for (const goal of result.goals) {
    const ok = met(goal);
    const bound = goal.atMost !== undefined ? `≤ ${goal.atMost}` : `≥ ${goal.atLeast}`;
    lines.push(
      `   ${ok === undefined ? 'not measured' : ok ? 'met   ' : 'MISSED'}  ${goal.text}: ${goal.value === undefined ? '-' : digits(goal.value)} (goal ${bound})`,
    );
  }
  for (const line of result.skipped) lines.push(`   skipped  ${line}`);
  process.stdout.write(`${lines.join('\n')}\n`);
}

async function runOne(bench: Bench, rounds: number | undefined, parts: string[]): Promise<Result> {
  const scratch = mkdtempSync(join(tmpdir(), 'tiphys-bench-'));
  const undo: (() => unknown)[] = [];
  const run: Run = {
    scratch,
    rounds,
    parts: parts.length === 0 ? undefined : parts,
    defer: (action) => {
      undo.push(action);
    },
    say: (text) => process.stderr.write(`[${bench.name}] ${text}\n`),
    peersDirectory: process.env['TIPHYS_BENCH_PEERS'] ?? '/var/cache/tiphys-bench',
  };
  const interrupted = (): void => {
    void undoAll(undo, run).finally(() => process.exit(130));
  };
  process.once('SIGINT', interrupted).once('SIGTERM', interrupted);
  try {
    return await bench.run(run);
  } finally {
    process.off('SIGINT', interrupted).off('SIGTERM', interrupted);
    await undoAll(undo, run);
    if (process.env['TIPHYS_BENCH_KEEP'] === undefined) rmSync(scratch, { recursive: true, force: true });
  }
}

async function undoAll(undo: (() => unknown)[], run: Run): Promise<void> {
  for (let action = undo.pop(); action !== undefined; action = undo.pop())
    try {
      await action();
    } catch (error) {
      run.say(`cleaning up: ${messageOf(error)}`);
    }
}

interface Wanted {
  /** Of those, or of all; `NAME/PART` for a part of one. */
  names: string[];
  rounds: number | undefined;
  json: boolean;
}

const usage = `Usage: npm run bench [-- NAME[/PART]…] [--json] [--rounds=N] [--list]

${benches.map(({ name, about }) => `  ${name.padEnd(12)}${about}`).join('\n')}

  --json      results for a script
  --rounds=N  fewer or more rounds than each benchmark has by itself
  --list      names and purposes, separated by tabs
`;

class UsageError extends Error {}

/** Undefined where the answer is words alone, which are printed. */
function readWords(words: string[]): Wanted | undefined {
  const { values, positionals } = parse(words);
  const { help, list, json, rounds } = values;
  if (help) process.stdout.write(usage);
  else if (list) for (const { name, about } of benches) process.stdout.write(`${name}\t${about}\n`);
  if (help || list) return undefined;
  const known = benches.map((bench) => bench.name);
  const unknown = positionals.filter((name) => !known.includes(name.split('/')[0] ?? ''));
  if (unknown.length > 0)
    throw new UsageError(`no such benchmark: ${unknown.join(', ')}; there are ${known.join(', ')}`);
  if (rounds !== undefined && !/^[1-9]\d*$/.test(rounds)) throw new UsageError(`no number of rounds: ${rounds}`);
  return { names: positionals, rounds: rounds === undefined ? undefined : Number(rounds), json };
}

function parse(words: string[]) {
  try {
    return parseArgs({
      args: words,
      allowPositionals: true,
      options: {
        help: { type: 'boolean', short: 'h', default: false },
        list: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        rounds: { type: 'string' },
      },
    });
  } catch (error) {
    throw new UsageError(messageOf(error), { cause: error });
  }
}

async function main(): Promise<void> {
  let wanted: Wanted | undefined;
  try {
    wanted = readWords(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(`${error.message}\n${usage}`);
    process.exitCode = 64;
    return;
  }
  if (wanted !== undefined) await runAll(wanted);
}

async function runAll({ names, rounds, json }: Wanted): Promise<void> {
  const machine = `${cpus().length} × ${cpus()[0]?.model ?? 'processor'}, ${(totalmem() / 2 ** 30).toFixed(0)} GiB, Linux ${release()}, Node ${process.version}`;
  if (!json) process.stdout.write(`${machine}\n`);
  const results: Result[] = [];
  for (const bench of benches.filter(
    (one) => names.length === 0 || names.some((name) => name.split('/')[0] === one.name),
  )) {
    try {
      const result = await runOne(
        bench,
        rounds,
        names.flatMap((name) => (name.startsWith(`${bench.name}/`) ? [name.slice(bench.name.length + 1)] : [])),
      );
      results.push(result);
      if (!json) print(result);
      if (result.goals.some((goal) => met(goal) === false)) process.exitCode ??= 1;
    } catch (error) {
      process.stderr.write(`[${bench.name}] failed: ${(error as Error).stack ?? String(error)}\n`);
      process.exitCode = 2;
    }
  }
  if (json)
    process.stdout.write(
      `${JSON.stringify({ machine, results: results.map((result) => ({ ...result, goals: result.goals.map((goal) => ({ ...goal, met: met(goal) ?? null })) })) }, undefined, 2)}\n`,
    );
}

await main();
