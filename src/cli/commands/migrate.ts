/** `tiphys migrate`. */
import { pathsOf } from '#platform/paths.ts';
import { migrate } from '#platform/migrate.ts';
import { print, seconds, UsageError } from '../output.ts';
import { choicesOf, requireRoot, type PlatformOptions } from './up.ts';

export async function migrateState(options: PlatformOptions & { toSqlite?: boolean }): Promise<void> {
  requireRoot('tiphys migrate');
  const { etcd } = choicesOf(options);
  if ((etcd === undefined) === (options.toSqlite !== true))
    throw new UsageError('say where the state goes: --etcd-endpoints URLS, or --to-sqlite');
  const paths = pathsOf(process.env, options.data);
  const { keys, revision, interruptedMs } = await migrate(paths, etcd);
  const where = etcd === undefined ? 'SQLite in the data directory' : `etcd ${etcd.endpoints.join(', ')}`;
  print(`The state of revision ${revision} (${keys} keys) lies in ${where}.`);
  if (interruptedMs !== undefined) print(`  The API did not answer for ${seconds(interruptedMs)}.`);
}
