/**
 * `tiphys engine` of an ordinary user: namespaces are made in which he is root (namespaces.ts), and this process
 * becomes the engine inside of them. Containers go on, with their network, when that is killed; the next one enters the
 * same namespaces.
 */
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { userInfo } from 'node:os';
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { tryLock } from '#os/files.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import type { IdMaps, IdRange } from '#os/user-namespaces.linux.ts';
import type { DaemonConfig } from '../daemon/config.ts';
import { placesOf } from '../daemon/places.ts';
import { findAccount, rangesOf, readAccountFiles, type AccountFiles } from '../daemon/userns-remap.ts';
import { missingTools, type Tool } from '../packages.ts';
import { ensureNamespaces } from './namespaces.ts';
import { ownScope } from './scope.ts';
import { rootlessVariable, slirpSocket, stateDirectory } from './state.ts';

const tools: readonly Tool[] = [
  { program: 'newuidmap', package: 'uidmap', why: 'gives an ordinary user the numbers that /etc/subuid has for him' },
  { program: 'slirp4netns', package: 'slirp4netns', why: 'the way of his containers to the network' },
];

/** Does not return: the process is the engine's from here on. `words` are those of `tiphys engine`. */
export async function enterRootless(words: readonly string[], config: DaemonConfig): Promise<never> {
  checkReachable(config);
  const missing = missingTools(linuxProcesses, tools);
  if (missing.length > 0)
    throw new ApiError(
      'ServiceUnavailable',
      `${missing.map((tool) => `${tool.program} (${tool.why})`).join(', ')} is not installed: sudo apt-get install ${missing.map((tool) => tool.package).join(' ')}`,
    );
  checkTunnels();
  const maps = planMaps(readAccountFiles(), userInfo());
  const { run } = placesOf(config, process.env);
  const directory = stateDirectory(run);
  checkLength(slirpSocket(directory));
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const lock = tryLock(`${directory}/lock`);
  if (lock === undefined) throw new ApiError('Conflict', `another engine is being started in ${directory}`);
  const { holder } = await ensureNamespaces({ directory, run, maps }, linuxProcesses);
  const [program = '', ...into] = [
    ...ownScope(linuxProcesses),
    ...['nsenter', `--target=${holder.pid}`, '--user', '--mount', '--net', `--wd=${process.cwd()}`, '--'],
    ...[process.execPath, ...process.execArgv, ...process.argv.slice(1, 2), 'engine', ...words],
  ];
  const environment = { ...process.env, [rootlessVariable]: directory };
  process.execve?.(linuxProcesses.find(program) ?? program, [program, ...into], environment);
  throw new Error('this process became no other one');
}

/** It listens in a network namespace of its own, which nobody outside reaches. Throws as other options are refused. */
export function checkReachable(config: DaemonConfig): void {
  const inside = [
    ...(config.list('hosts').every((host) => host.startsWith('unix://')) ? [] : ['hosts (--host)']),
    ...(config.text('metrics-addr') === '' ? [] : ['metrics-addr']),
  ];
  if (inside.length > 0)
    throw new ApiError(
      'BadRequest',
      `${inside.join(', ')} is not supported: without root nobody outside reaches where the engine listens: use unix://`,
    );
}

/** Of a socket's path, with the byte that ends it: unix(7). */
const socketPathBytesMax = 108;

function checkLength(socket: string): void {
  const length = Buffer.byteLength(socket);
  if (length >= socketPathBytesMax)
    throw new ApiError(
      'BadRequest',
      `${socket} has ${length} bytes, and the path of a socket fewer than ${socketPathBytesMax}: name a shorter --exec-root, or a shorter XDG_RUNTIME_DIR`,
    );
}

const tunnelDevice = '/dev/net/tun';

function checkTunnels(): void {
  try {
    closeSync(openSync(tunnelDevice, 'r+'));
  } catch (error) {
    throw new ApiError(
      'ServiceUnavailable',
      `slirp4netns needs ${tunnelDevice} (${messageOf(error)}): sudo modprobe tun; sudo chmod 666 ${tunnelDevice}`,
    );
  }
}

/** He himself is root inside; the numbers of his ranges follow. Throws an ApiError that says what to type. */
export function planMaps(
  files: AccountFiles,
  { uid, gid, username }: { uid: number; gid: number; username: string },
): IdMaps {
  const account = findAccount(files.passwd, String(uid)) ?? { name: username, id: String(uid) };
  const rangesIn = (name: 'subuid' | 'subgid'): IdRange[] => {
    const ranges = rangesOf(files[name], account);
    if (ranges !== undefined) return ranges.map((range) => ({ ...range, inside: range.inside + 1 }));
    throw new ApiError(
      'ServiceUnavailable',
      `/etc/${name} has no numbers for ${account.name}: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ${account.name}`,
    );
  };
  return {
    uids: [{ inside: 0, outside: uid, size: 1 }, ...rangesIn('subuid')],
    gids: [{ inside: 0, outside: gid, size: 1 }, ...rangesIn('subgid')],
  };
}
