/**
 * `tiphys bench` (npm run bench): side by side with the peers that are installed. The measurements themselves are in
 * bench/.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { linuxProcesses } from '#os/processes.linux.ts';
import { inheritedEnvironment } from '../environment.ts';
import { packageRoot } from '#platform/paths.ts';
import { UsageError } from '../output.ts';
import { requireRoot } from './up.ts';

export async function bench(
  names: string[],
  options: { json?: boolean; rounds?: string; list?: boolean },
): Promise<void> {
  const script = join(packageRoot, 'bench/run.ts');
  if (!existsSync(script)) throw new UsageError('the packed program has no benchmarks; run this in a checkout');
  requireRoot('tiphys bench');
  const { code } = await linuxProcesses.spawn(
    process.execPath,
    [
      '--experimental-ffi',
      '--disable-warning=ExperimentalWarning',
      script,
      ...(options.json === true ? ['--json'] : []),
      ...(options.rounds === undefined ? [] : [`--rounds=${options.rounds}`]),
      ...(options.list === true ? ['--list'] : []),
      ...names,
    ],
    { directory: packageRoot, env: inheritedEnvironment(), stdin: 'ignore', stdout: 1, stderr: 2 },
  ).exit;
  process.exitCode = code;
}
