/**
 * Kills the process that holds the store, at random moments, and checks after each that nothing acknowledged is lost
 * and nothing is half there.
 * Run: node test/store/crash.ts [ROUNDS]   (200 by default; crash.test.ts runs a few).
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Random } from '#os/clock.ts';
import { SimRandom } from '#os/clock.sim.ts';
import { testSeed } from '#os/test-seed.ts';
import { checkStore, parseAcknowledged } from './check.ts';
import type { Acknowledged } from './check.ts';

/** Runs the writer for a while after its first acknowledgement, then kills it; answers its output. */
async function runAndKill(place: string, random: Random): Promise<string> {
  const runMs = random.float() * 120;
  const child = spawn(process.execPath, [join(import.meta.dirname, 'writer.ts'), place, 'FULL'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  let armed = false;
  child.stdout.setEncoding('utf8');
  child.stdout.on('data', (text: string) => {
    output += text;
    if (!armed) {
      armed = true;
      setTimeout(() => child.kill('SIGKILL'), runMs);
    }
  });
  // while it opens, too
  const early = random.float() < 0.1 ? setTimeout(() => child.kill('SIGKILL'), random.float() * 150) : undefined;
  await new Promise((resolve) => child.once('close', resolve));
  clearTimeout(early);
  return output;
}

/** Each twenty rounds have a store of their own. */
export async function runCrashesAt(
  rounds: number,
  placeOf: (round: number) => string,
  report: (line: string) => void,
): Promise<void> {
  const random = new SimRandom(testSeed());
  let place = placeOf(0);
  let acknowledged: Acknowledged | undefined;
  for (let round = 1; round <= rounds; round++) {
    acknowledged = parseAcknowledged(await runAndKill(place, random), acknowledged);
    const problems = await checkStore(place, acknowledged);
    if (problems.length > 0) throw new Error(`round ${round}: ${problems.join('; ')}`);
    if (round % 20 === 0) {
      report(`${round} kills, ${acknowledged.revision} revisions acknowledged`);
      place = placeOf(round);
      acknowledged = undefined;
    }
  }
}

export async function runCrashes(rounds: number, report: (line: string) => void): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'tiphys-crash-'));
  try {
    await runCrashesAt(rounds, (round) => join(dir, `${round}.db`), report);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

if (process.argv[1] === import.meta.filename) {
  const rounds = Number(process.argv[2] ?? 200);
  await runCrashes(rounds, (line) => process.stdout.write(`${line}\n`));
  process.stdout.write(`the process that holds the store was killed ${rounds} times: nothing acknowledged was lost\n`);
}
