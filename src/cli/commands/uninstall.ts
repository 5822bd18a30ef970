/**
 * `tiphys uninstall`: down --purge, then contexts, packages that Tiphys installed, and the launcher's own node_modules.
 */
import { homedir } from 'node:os';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { readIfExists } from '#os/files.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { removeContexts } from '#platform/contexts.ts';
import { takeDown } from '#platform/down.ts';
import { installedPackages } from '#platform/packages.ts';
import { packageRoot, pathsOf } from '#platform/paths.ts';
import { removeUnit, unitOf } from '#platform/systemd.ts';
import { inheritedEnvironment } from '../environment.ts';
import { confirm, print } from '../output.ts';
import { requireRoot } from './up.ts';

export async function uninstall(options: { yes?: boolean }): Promise<void> {
  requireRoot('tiphys uninstall');
  const paths = pathsOf(process.env);
  const bootstrap = (readIfExists(join(packageRoot, 'node_modules/.tiphys-packages')) ?? '')
    .split(/\s+/)
    .filter((name) => name !== '');
  const packages = [...installedPackages(paths), ...bootstrap];
  print('This removes:');
  print(`  everything that runs, and all data in ${paths.data}`);
  print('  the contexts named tiphys in ~/.docker and ~/.kube/config');
  if (packages.length > 0) print(`  packages that were installed for Tiphys: ${packages.join(', ')}`);
  print(`  ${join(packageRoot, 'node_modules')}`);
  if (options.yes !== true && !(await confirm('Go ahead?'))) return;
  removeContexts(process.env['HOME'] ?? homedir(), paths);
  await takeDown(paths, { purge: true });
  await removeUnit(unitOf(paths, ''), linuxProcesses);
  if (packages.length > 0) {
    const removed = await linuxProcesses.run('apt-get', ['purge', '-y', '-q', '--auto-remove', ...packages], {
      env: { ...inheritedEnvironment(), DEBIAN_FRONTEND: 'noninteractive' },
    });
    if (removed.code !== 0) print(`  apt-get could not remove them: ${removed.stderr.trim().split('\n').at(-1)}`);
  }
  rmSync(join(packageRoot, 'node_modules'), { recursive: true, force: true });
  print('Done. The checkout itself is yours to delete.');
}
