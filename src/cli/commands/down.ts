/** `tiphys down`. */
import { realClock } from '#os/clock.real.ts';
import { homedir } from 'node:os';
import { removeContexts } from '#platform/contexts.ts';
import { takeDown } from '#platform/down.ts';
import { pathsOf } from '#platform/paths.ts';
import { print, seconds } from '../output.ts';
import { requireRoot } from './up.ts';

export async function down(options: { purge?: boolean; data?: string }): Promise<void> {
  requireRoot('tiphys down');
  const paths = pathsOf(process.env, options.data);
  const begun = realClock.monotonic();
  if (options.purge === true) removeContexts(process.env['HOME'] ?? homedir(), paths);
  const { stopped } = await takeDown(paths, { purge: options.purge === true });
  if (stopped.length === 0) print('Tiphys was not up.');
  else
    print(
      `Stopped ${stopped.join(', ')} in ${seconds(realClock.monotonic() - begun)}.${options.purge === true ? ' All data is removed.' : ` Data is kept in ${paths.data}.`}`,
    );
}
