/**
 * `npm run simulate -- [--seeds N] [--from F] [--seed S] [--minutes M] [--workers W] [--scale [NODES …]]`: runs N seeds from F on (1), or one, or grows a cluster and prints what
 * that costs. Exit status 1 when a seed fails or its second run differs.
 */
import { parseArgs } from 'node:util';
import { runScale } from './scale.ts';
import { runSeeds } from './seeds.ts';
import { describeFailure, simulate } from './simulate.ts';

export async function runSimulateCommand(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv], allowPositionals: true,
    options: { seeds: { type: 'string', default: '20' }, from: { type: 'string', default: '1' }, seed: { type: 'string' }, minutes: { type: 'string', default: '5' }, nodes: { type: 'string', default: '5' }, workers: { type: 'string', default: '2' }, scale: { type: 'boolean', default: false }, log: { type: 'string' }, twice: { type: 'boolean', default: false } },
  });
  if (values.scale) {
    for (const nodes of positionals.length > 0 ? positionals.map(Number) : [100, 300, 1000, 3000]) await runScale(nodes, 30, (line) => process.stdout.write(`${line}\n`));
    return 0;
  }
  const minutes = Number(values.minutes);
  const seeds = values.seed !== undefined ? [Number(values.seed)] : Array.from({ length: Number(values.seeds) }, (_, i) => Number(values.from) + i);
  let failed = 0;
  const options = { minutes, nodes: Number(values.nodes), ...(values.log === undefined ? {} : { log: values.log as 'info' }) };
  await runSeeds(seeds, options, Math.max(1, Number(values.workers)), async (result) => {
    const same = !values.twice || (await simulate({ ...options, seed: result.seed })).hash === result.hash;
    process.stdout.write(`seed ${result.seed}: ${result.violations.length === 0 ? 'ok' : 'FAILED'} hash ${result.hash.slice(0, 12)} ${result.transactions} transactions, ${Math.round(result.virtualMs / 1000)} s of virtual time, ${result.faults.length} faults${same ? '' : ' - a second run DIFFERS'}\n`);
    if (result.violations.length > 0) process.stderr.write(`${describeFailure(result, minutes)}\n`);
    if (result.violations.length > 0 || !same) failed++;
  });
  return failed === 0 ? 0 : 1;
}

if (import.meta.main) process.exitCode = await runSimulateCommand(process.argv.slice(2));
