/**
 * `npm run simulate -- [--seeds N] [--from F] [--seed S [--from-event R [--forks K]]] [--minutes M] [--workers W] [--scale [NODES …]]`: runs N seeds from F on (1), or one, or a seed until revision R
 * and then K forks of the cluster as it is there; or grows a cluster and prints what that costs. Exit status 1 when a seed fails or its second run differs.
 */
import { parseArgs } from 'node:util';
import { runScale } from './scale.ts';
import { commitOf } from './commit.ts';
import { runSeeds } from './seeds.ts';
import { describeFailure, resumeNear, type SimulationResult, simulate } from './simulate.ts';

export async function runSimulateCommand(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv], allowPositionals: true,
    options: { seeds: { type: 'string', default: '20' }, from: { type: 'string', default: '1' }, seed: { type: 'string' }, 'from-event': { type: 'string' }, forks: { type: 'string', default: '10' }, minutes: { type: 'string', default: '5' }, nodes: { type: 'string', default: '5' }, workers: { type: 'string', default: '2' }, scale: { type: 'boolean', default: false }, log: { type: 'string' }, twice: { type: 'boolean', default: false } },
  });
  if (values.scale) {
    for (const nodes of positionals.length > 0 ? positionals.map(Number) : [100, 300, 1000, 3000]) await runScale(nodes, 30, (line) => process.stdout.write(`${line}\n`));
    return 0;
  }
  const minutes = Number(values.minutes);
  const seeds = values.seed !== undefined ? [Number(values.seed)] : Array.from({ length: Number(values.seeds) }, (_, i) => Number(values.from) + i);
  let failed = 0;
  const options = { minutes, nodes: Number(values.nodes), ...(values.log === undefined ? {} : { log: values.log as 'info' }) };
  if (values['from-event'] !== undefined) {
    if (values.seed === undefined) throw new Error('--from-event needs --seed: the run that it is an event of');
    await resumeNear({ ...options, seed: seeds[0]! }, Number(values['from-event']), Number(values.forks), (result) => {
      print(`fork ${result.seed}`, result, '');
      for (const { checker, message, revision } of result.violations) process.stderr.write(`  ${checker}: ${message} (revision ${revision})\n`);
      for (const fault of result.faults) process.stdout.write(`  ${fault}\n`);
      if (result.violations.length > 0) failed++;
    });
    return failed === 0 ? 0 : 1;
  }
  await runSeeds(seeds, options, Math.max(1, Number(values.workers)), async (result) => {
    const same = !values.twice || (await simulate({ ...options, seed: result.seed })).hash === result.hash;
    print(`seed ${result.seed}`, result, same ? '' : ' - a second run DIFFERS');
    if (result.violations.length > 0) process.stderr.write(`${describeFailure(result, minutes, commitOf())}\n`);
    if (result.violations.length > 0 || !same) failed++;
  });
  return failed === 0 ? 0 : 1;
}

function print(what: string, result: SimulationResult, note: string): void {
  process.stdout.write(`${what}: ${result.violations.length === 0 ? 'ok' : 'FAILED'} hash ${result.hash.slice(0, 12)} ${result.transactions} transactions, ${Math.round(result.virtualMs / 1000)} s of virtual time, ${result.faults.length} faults${note}\n`);
}

if (import.meta.main) process.exitCode = await runSimulateCommand(process.argv.slice(2));
