/**
 * `tiphys doctor`: what this machine has and lacks, and how to mend each. Exit code 2 when something needed is missing.
 */
import { checkMachine } from '#platform/doctor.ts';
import { pathsOf } from '#platform/paths.ts';
import { print, table } from '../output.ts';

export async function doctor(options: { json?: boolean }): Promise<void> {
  const checks = await checkMachine(pathsOf(process.env));
  if (options.json === true) print(JSON.stringify(checks));
  else {
    print(
      table(
        checks.map((check) => [
          check.state === 'ok' ? 'ok' : check.state === 'warning' ? 'warn' : 'MISSING',
          check.name,
          check.detail,
        ]),
      ),
    );
    const mends = checks.filter((check) => check.mend !== undefined && check.state !== 'ok');
    if (mends.length > 0) print(`\nTo mend:\n${mends.map((check) => `  ${check.name}: ${check.mend}`).join('\n')}`);
  }
  if (checks.some((check) => check.state === 'missing')) process.exitCode = 2;
}
