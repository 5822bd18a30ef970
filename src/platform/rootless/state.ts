/**
 * Where an engine of an ordinary user keeps what it needs, and the processes that hold its namespaces. The XDG base
 * directory specification names the places, as dockerd's rootless mode has them.
 */
import { join, resolve } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { readIfExists } from '#os/files.ts';
import type { Processes } from '#os/processes.ts';
import type { PluginPlaces } from '#plugins/discovery.ts';

/** In the environment of an engine that is inside of its namespaces: the directory of its state. */
export const rootlessVariable = 'TIPHYS_ROOTLESS';

type Environment = Record<string, string | undefined>;

function isRootless(environment: Environment): boolean {
  return (environment[rootlessVariable] ?? '') !== '';
}

/** Also before the namespaces are there: whose places and whose limits hold. */
export function isOfUser(environment: Environment): boolean {
  return process.getuid?.() !== 0 || isRootless(environment);
}

/** A process that is known by more than its number, which may be another's by now. */
export interface KnownProcess {
  pid: number;
  startTime: string;
}

export interface RootlessState {
  /** Holds the user, mount and network namespaces; outlives the engine. */
  holder: KnownProcess;
  /** The host's first port that is everybody's. */
  unprivilegedFrom: number;
}

/** Of the user: `XDG_RUNTIME_DIR`, which the login makes. */
function runtimeDirectory(environment: Environment): string {
  const directory = environment['XDG_RUNTIME_DIR'] ?? '';
  if (directory === '')
    throw new ApiError(
      'ServiceUnavailable',
      'XDG_RUNTIME_DIR needs to be set: log in by systemd (machinectl shell, ssh), or set it to a directory of your own in a tmpfs, with mode 0700',
    );
  return directory;
}

interface RootlessPlaces {
  data: string;
  run: string;
  pidfile: string;
  socket: string;
  plugins: PluginPlaces;
}

/** Where things are that no option names. */
export function rootlessPlaces(environment: Environment): RootlessPlaces {
  const run = runtimeDirectory(environment);
  const data = environment['XDG_DATA_HOME'] || join(environment['HOME'] ?? '', '.local/share');
  return {
    data: join(data, 'tiphys-engine'),
    run: join(run, 'tiphys-engine'),
    pidfile: join(run, 'docker.pid'),
    socket: `unix://${join(run, 'docker.sock')}`,
    plugins: {
      sockets: join(run, 'docker/plugins'),
      specs: [
        join(configHome(environment), 'docker/plugins'),
        join(environment['HOME'] ?? '', '.local/lib/docker/plugins'),
      ],
    },
  };
}

export function rootlessConfigPath(environment: Environment): string {
  return join(configHome(environment), 'docker/daemon.json');
}

function configHome(environment: Environment): string {
  return environment['XDG_CONFIG_HOME'] || join(environment['HOME'] ?? '', '.config');
}

/** `run`: the engine's directory for what ends with it (`exec-root`): each engine of a user has its own namespaces. */
export function stateDirectory(run: string): string {
  return `${resolve(run)}-rootless`;
}

export function slirpSocket(directory: string): string {
  return join(directory, 'slirp4netns.sock');
}

export function statePath(directory: string): string {
  return join(directory, 'state.json');
}

export function readState(directory: string): RootlessState | undefined {
  const text = readIfExists(statePath(directory));
  if (text === undefined) return undefined;
  const state: RootlessState = JSON.parse(text);
  return state;
}

export function isAlive(processes: Processes, known: KnownProcess | undefined): known is KnownProcess {
  return known !== undefined && processes.startTime(known.pid) === known.startTime;
}
