/**
 * `tiphys engine import-docker DIR`: what a dockerd has kept becomes the engine's own. It copies, so that the daemon
 * can go back to what it had; and it can be done again, as often as wanted: what is here by its id, or by a volume's
 * name, stays as it is. Neither daemon nor engine runs meanwhile.
 *
 *   images  →  volumes  →  networks  →  containers, which need all of them
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import type { Logger } from '#observe/log.ts';
import { tryLock } from '#os/files.ts';
import { openStore } from '../open-store.ts';
import { importContainers, imageIdOf, listContainers } from './containers.ts';
import { importImages } from './images.ts';
import { importNetworks } from './networks.ts';
import { ImportReport } from './report.ts';
import { openSource } from './source.ts';
import { importVolumes } from './volumes.ts';

export interface ImportOptions {
  /** dockerd's data directory. */
  directory: string;
  /** The engine's, and the number in the names of what it puts into the kernel. */
  data: string;
  instanceId: string;
  log: Logger;
  print: (line: string) => void;
}

/** Whether all of it came; what did not has been said. */
export async function importDocker({ directory, data, instanceId, log, print }: ImportOptions): Promise<boolean> {
  const source = openSource(directory);
  await using stack = new AsyncDisposableStack();
  stack.defer(() => source.release());
  const own = join(data, 'engine');
  mkdirSync(join(own, 'containers'), { recursive: true, mode: 0o700 });
  const lock = tryLock(join(own, 'engine.lock'));
  if (lock === undefined) throw new ApiError('Conflict', `an engine works on ${data}: stop it first`);
  stack.defer(() => lock.release());
  const store = await openStore(join(data, 'content'), log, stack);
  const report = new ImportReport(print);
  const containers = listContainers(source, report);
  await importImages({ source, ...store, report }, new Set(containers.map(imageIdOf)));
  await importVolumes(source, own, report);
  importNetworks(source, { data: own, instanceId }, report);
  await importContainers({ source, ...store, data: own, report }, containers);
  return report.end();
}
