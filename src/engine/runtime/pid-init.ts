/**
 * The one process that a Pod with a shared PID namespace needs: a minimal init (catatonit) as number 1, which the Pod's
 * containers join and which reaps what they orphan. It has a root of its own with nothing but the program in it, and no
 * monitor: it says nothing and never ends by itself.
 */
import { copyFileSync, chmodSync, mkdirSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import type { Processes } from '#os/processes.ts';
import type { Runtime } from './runtime.ts';

export interface PidInitOptions {
  id: string;
  directory: string;
  cgroup: string;
  namespaces: { network?: string; ipc?: string; uts?: string };
}

export async function startPidInit(runtime: Runtime, processes: Processes, options: PidInitOptions): Promise<number> {
  const program = processes.find('catatonit');
  if (program === undefined)
    throw new ApiError('InternalError', 'a shared process namespace needs catatonit, which is not installed');
  const root = `${options.directory}/root`;
  for (const name of ['proc', 'dev']) mkdirSync(`${root}/${name}`, { recursive: true });
  copyFileSync(program, `${root}/init`);
  chmodSync(`${root}/init`, 0o755);
  const joined = Object.entries(options.namespaces).map(([type, path]) => ({ type, path }));
  writeFileAtomic(
    `${options.directory}/config.json`,
    JSON.stringify({
      ociVersion: '1.0.2',
      process: {
        terminal: false,
        user: { uid: 65_535, gid: 65_535 },
        args: ['/init', '-P'],
        env: [],
        cwd: '/',
        capabilities: {},
        noNewPrivileges: true,
      },
      root: { path: root, readonly: true },
      mounts: [{ destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] }],
      linux: {
        cgroupsPath: options.cgroup,
        namespaces: [{ type: 'pid' }, { type: 'mount' }, ...joined],
        resources: { devices: [{ allow: false, access: 'rwm' }] },
      },
    }),
  );
  await runtime.runDetached(options.id, options.directory, `${options.directory}/pid`);
  return Number(readIfExists(`${options.directory}/pid`));
}
