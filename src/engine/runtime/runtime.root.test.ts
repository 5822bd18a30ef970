/** Each runtime that is installed here. */
import { createMounts } from '#os/mount.linux.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import type { Processes } from '#os/processes.ts';
import { runRuntimeSuite } from './runtime.suite.ts';
import { createRuntime } from './runtime.ts';

const mounts = createMounts();

for (const name of ['crun', 'runc']) {
  const processes: Processes = {
    ...linuxProcesses,
    find: (program) =>
      ['crun', 'runc'].includes(program) && program !== name ? undefined : linuxProcesses.find(program),
  };
  // A host needs one of them; which of them a host has is not a test that was left out.
  if (processes.find(name) !== undefined)
    runRuntimeSuite(name, { open: (options) => createRuntime({ ...options, mounts, processes }) });
}
