/**
 * OCI runtimes by name (`--runtime`): the engine's own under docker's names for it, and those that its configuration
 * adds, each a program that is called as runc is. Shims of containerd are none: conmon holds the containers.
 */
import { ApiError } from '#base/errors.ts';
import type { Processes } from '#os/processes.ts';
import { createRuntime, type Runtime, type RuntimeOptions, type RuntimeProgram } from './runtime.ts';

export type RuntimePrograms = Readonly<Record<string, RuntimeProgram>>;

export interface Runtimes {
  /** Absent: the engine's own. An ApiError BadRequest in dockerd's words for a name that stands for none. */
  get(name: string | undefined): Runtime;
  has(name: string): boolean;
  /** Of those that were added. */
  readonly programs: RuntimePrograms;
}

/** Every name under which the engine's own runtime is asked for. */
export const ownRuntimeNames: readonly string[] = ['runc', 'crun', 'io.containerd.runc.v2'];

export function createRuntimes(own: Runtime, options: RuntimeOptions, programs: RuntimePrograms): Runtimes {
  const made = new Map<string, Runtime>();
  const has = (name: string): boolean => Object.hasOwn(programs, name) || ownRuntimeNames.includes(name);
  return {
    programs,
    has,
    get(name = '') {
      const known = made.get(name);
      if (known !== undefined) return known;
      const program = Object.hasOwn(programs, name) ? programs[name] : undefined;
      if (program === undefined) {
        if (name === '' || has(name)) return own;
        throw new ApiError('BadRequest', `unknown or invalid runtime name: ${name}`);
      }
      const runtime = createRuntime(options, { ...program, path: findProgram(options.processes, program.path) });
      made.set(name, runtime);
      return runtime;
    },
  };
}

function findProgram(processes: Processes, path: string): string {
  const found = processes.find(path);
  if (found !== undefined) return found;
  const reason = path.includes('/') ? `stat ${path}: no such file or directory` : 'executable file not found in $PATH';
  throw new ApiError(
    'InternalError',
    `error while looking up the specified runtime path: exec: ${JSON.stringify(path)}: ${reason}`,
  );
}
