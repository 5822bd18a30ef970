/** `tiphys down`. */
import { realClock } from '#os/clock.real.ts';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { removeContexts } from '#platform/contexts.ts';
import { describeState } from '#platform/cluster-store.ts';
import { takeDown } from '#platform/down.ts';
import { loadInstance } from '#platform/instance.ts';
import { files, pathsOf } from '#platform/paths.ts';
import { defaultEtcdPrefix } from '#store/etcd/requests.ts';
import { print, seconds } from '../output.ts';
import { requireRoot } from './up.ts';

export async function down(options: { purge?: boolean; data?: string }): Promise<void> {
  requireRoot('tiphys down');
  const paths = pathsOf(process.env, options.data);
  const begun = realClock.monotonic();
  // Of a cluster that this machine has been part of.
  const instance = loadInstance(paths);
  const isUsers = existsSync(files.etcdEpoch(paths)) && instance?.member === undefined;
  const etcd = isUsers ? instance?.etcd : undefined;
  const isMember = options.purge === true && instance?.member !== undefined;
  if (options.purge === true) removeContexts(process.env['HOME'] ?? homedir(), paths);
  const { stopped } = await takeDown(paths, { purge: options.purge === true });
  if (options.purge === true && etcd !== undefined)
    print(
      `The state of the cluster stays in ${describeState(paths, etcd)}; etcdctl del --prefix ${etcd.prefix ?? defaultEtcdPrefix}/ removes its keys, and del ${etcd.prefix ?? defaultEtcdPrefix}.meta its record.`,
    );
  if (isMember)
    print(
      `note: where other servers go on, 'tiphys remove ${instance?.member?.name}' on one of them takes this one out of the cluster.`,
    );
  if (stopped.length === 0) print('Tiphys was not up.');
  else
    print(
      `Stopped ${stopped.join(', ')} in ${seconds(realClock.monotonic() - begun)}.${options.purge === true ? ' All data is removed.' : ` Data is kept in ${paths.data}.`}`,
    );
}
