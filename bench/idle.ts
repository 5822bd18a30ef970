/**
 * What a platform with nothing deployed costs: memory and processor time of all its processes, containers' monitors and
 * HAProxy included.
 */
import { join } from 'node:path';
import { readFileSync } from 'node:fs';
import { command, cpuSeconds, Meter, proportionalMb, sleep } from './harness.ts';
import type { Bench, Result, Run, Sample } from './harness.ts';
import { launcher, Tiphys, tiphysVersion } from './tiphys.ts';

const windowSeconds = 60;
const settleSeconds = Number(process.env['TIPHYS_BENCH_SETTLE'] ?? 60);

export const idle: Bench = {
  name: 'idle',
  about: `nothing deployed, over ${windowSeconds} s after ${settleSeconds} s of rest`,
  run,
};

async function run(current: Run): Promise<Result> {
  const meter = new Meter(`tiphys-bench-idle-${process.pid}`);
  current.defer(() => meter.close());
  const tiphys = new Tiphys(join(current.scratch, 'tiphys'));
  current.defer(() => tiphys.purge());
  // On kept data, as after a restart; the first start makes keys and objects that later ones find.
  for (const words of [
    [launcher, 'up'],
    [launcher, 'down'],
  ])
    await command(words, { env: tiphys.env });
  await command(meter.wrap([launcher, 'up']), { env: tiphys.env });
  current.say(`resting ${settleSeconds} s, then measuring ${windowSeconds} s`);
  await sleep(settleSeconds * 1000);
  const pids = meter.pids();
  const before = cpuSeconds(pids);
  const total = meter.seconds();
  const memory: number[] = [];
  for (let second = 0; second < windowSeconds; second += 10) {
    memory.push(proportionalMb(meter.pids()));
    await sleep(10_000);
  }
  const percent = ((meter.seconds() - total) / windowSeconds) * 100;
  const samples: Sample[] = [
    { name: 'memory, all processes', unit: 'MB proportional', values: memory },
    { name: 'processor, all processes', unit: '% of one core', values: [percent] },
  ];
  for (const pid of pids) {
    const name = nameOf(pid);
    if (name !== undefined)
      samples.push({ name: `  ${name}`, unit: 'MB proportional', values: [proportionalMb([pid])] });
  }
  current.say(`counted by process: ${(((cpuSeconds(pids) - before) / windowSeconds) * 100).toFixed(2)} %`);
  return {
    bench: idle.name,
    about: idle.about,
    samples,
    skipped: [],
    versions: { Tiphys: tiphysVersion(), Node: process.version },
    goals: [
      { text: 'memory, MB', atMost: 350, value: memory.at(-1) },
      { text: 'processor, % of one core', atMost: 2, value: percent },
    ],
  };
}

function nameOf(pid: number): string | undefined {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      .split('\0')
      .filter((word) => word !== '');
    const at = words.findIndex((word) => word.endsWith('main.ts') || word.endsWith('main.js'));
    return words[0]?.endsWith('sh') === true
      ? undefined
      : at >= 0
        ? `node process: ${words.slice(at + 1).join(' ')}`
        : words[0]?.split('/').at(-1);
  } catch {
    return undefined;
  }
}
