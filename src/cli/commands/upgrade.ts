/** `tiphys upgrade`, and which program does what a command says. */
import { join } from 'node:path';
import { realClock } from '#os/clock.real.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { pathsOf } from '#platform/paths.ts';
import { describeProgram } from '#platform/upgrade/program.ts';
import { otherRoot } from '#platform/upgrade/record.ts';
import { finish, upgrade } from '#platform/upgrade/upgrade.ts';
import { inheritedEnvironment } from '../environment.ts';
import { print, seconds, UsageError } from '../output.ts';
import { prepareMachine, requireRoot } from './up.ts';

interface UpgradeOptions {
  back?: boolean;
  finish?: boolean;
  here?: boolean;
  data?: string;
  yes?: boolean;
}

export async function upgradeCommand(options: UpgradeOptions): Promise<void> {
  requireRoot('tiphys upgrade');
  if (options.back === true && options.finish === true)
    throw new UsageError('--back returns to what ran before, --finish ends the way back: one of them');
  const paths = pathsOf(process.env, options.data);
  // Back, and no more back, is for the program that runs.
  const code = options.back === true || options.finish === true ? await runByOther(options.data) : undefined;
  if (code !== undefined) process.exit(code);
  const begun = realClock.monotonic();
  const progress = (name: string): void => print(`  ${name} is done after ${seconds(realClock.monotonic() - begun)}`);
  if (options.finish === true) {
    const { level } = await finish(paths, progress);
    print(
      level === undefined
        ? 'What ran before is kept no longer. The formats of the data are those of before.'
        : `The data are written in format ${level} from now on; what ran before is kept no longer.`,
    );
    return;
  }
  if (!(await prepareMachine(paths, options))) return;
  const { program, previous, ranAlready, others } = await upgrade(paths, {
    isBack: options.back === true,
    isHere: options.here === true,
    progress,
  });
  const name = `Tiphys ${describeProgram(program)}`;
  const who = others.length === 0 ? 'This machine runs' : `This machine, ${others.join(', ')} run`;
  if (ranAlready && others.length === 0) print(`This machine runs ${name} already.`);
  else print(`${who} ${name} after ${seconds(realClock.monotonic() - begun)}; no container was restarted.`);
  print(
    previous === undefined
      ? '  note: what ran before is not kept: it was changed in place, or the way back has ended'
      : `  ${describeProgram(previous)} is kept: 'tiphys upgrade --back' returns to it, 'tiphys upgrade --finish' ends the way back`,
  );
}

/** Commands about an instance are for the program that runs it. Answers the exit code where that is another one. */
export async function runByOther(data: string | undefined): Promise<number | undefined> {
  const root = otherRoot(pathsOf(process.env, data));
  if (root === undefined) return undefined;
  const { NODE_COMPILE_CACHE: _cache, ...env } = inheritedEnvironment();
  const stdio = { stdin: 0, stdout: 1, stderr: 2 };
  const { exit } = linuxProcesses.spawn(join(root, 'tiphys'), process.argv.slice(2), { env, ...stdio });
  return (await exit).code;
}
