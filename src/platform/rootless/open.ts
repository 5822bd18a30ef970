/**
 * The engine's side of its namespaces: what it finds there besides what root has. Names are answered by slirp4netns, by
 * a resolv.conf that only these namespaces see.
 */
import { mkdirSync, realpathSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import type { Rootless } from '#engine/create-engine.ts';
import type { Logger } from '#observe/log.ts';
import { createCgroups, unifiedGroupOf } from '#os/cgroups.linux.ts';
import { createProcessGroups } from '#os/cgroups.none.ts';
import type { Cgroups } from '#os/cgroups.ts';
import { parseMountInfo } from '#os/mount.linux.ts';
import { readIfExists, statIfExists, tryLock, writeFileAtomic } from '#os/files.ts';
import type { Processes } from '#os/processes.ts';
import { createSlirpPortHolder, slirpNameServer } from '#os/slirp.linux.ts';
import { runOrFail } from './namespaces.ts';
import { readState, rootlessVariable, slirpSocket } from './state.ts';

const unifiedMount = '/sys/fs/cgroup';

export interface OpenRootless extends Rootless {
  directory: string;
}

/** One engine has them at a time: it ends them, and the network with them. Throws Conflict where another one has. */
export function claimNamespaces(directory: string): () => void {
  const lock = tryLock(join(directory, 'engine.lock'));
  if (lock === undefined)
    throw new ApiError('Conflict', `another engine runs in the namespaces of ${directory}: name another --exec-root`);
  return () => lock.release();
}

/** Undefined for an engine of root. */
export async function openRootless(
  environment: Record<string, string | undefined>,
  processes: Processes,
  log: Logger,
): Promise<OpenRootless | undefined> {
  const directory = environment[rootlessVariable] ?? '';
  if (directory === '') return undefined;
  await coverResolvConf(directory, processes);
  await coverUnified(processes);
  const state = readState(directory);
  if (state === undefined) throw new ApiError('InternalError', `${directory} is not of an engine without root`);
  const { holder, unprivilegedFrom } = state;
  return {
    directory,
    holder: createSlirpPortHolder(slirpSocket(directory), unprivilegedFrom),
    cgroups: openCgroups(holder.pid, log),
    namespaces: `-${holder.pid}-${holder.startTime}`,
  };
}

/** The group of the holder, where it is the user's own (namespaces.ts); its processes lie in groups below it. */
function openCgroups(holder: number, log: Logger): Cgroups {
  const group = unifiedGroupOf(holder)?.replace(/\/holder$/, '');
  if (group === undefined || statIfExists(`${unifiedMount}/cgroup.controllers`) === undefined)
    return createProcessGroups();
  try {
    mkdirSync(`${unifiedMount}${group}/holder`, { recursive: true });
    writeFileSync(`${unifiedMount}${group}/holder/cgroup.procs`, String(holder));
  } catch (error) {
    log.warn('no control groups: the user may make none', { group, error });
    return createProcessGroups();
  }
  return createCgroups((message, fields) => log.warn(message, fields), group);
}

/** crun starts nothing where it sees controllers in both versions' hierarchies; here it needs neither. */
async function coverUnified(processes: Processes): Promise<void> {
  const entries = parseMountInfo(readIfExists('/proc/self/mountinfo') ?? '');
  if (!entries.some((entry) => entry.type === 'cgroup')) return;
  for (const { target, type } of entries)
    if (type === 'cgroup2' && !entries.some((entry) => entry.target === target && entry.type === 'tmpfs'))
      await runOrFail(processes, 'mount', ['-t', 'tmpfs', '-o', 'ro,size=4k', 'none', target]);
}

async function coverResolvConf(directory: string, processes: Processes): Promise<void> {
  const usual = realpathSync('/etc/resolv.conf');
  const text = readIfExists(usual) ?? '';
  if (text.includes(`nameserver ${slirpNameServer}\n`)) return;
  const kept = text.split('\n').filter((line) => /^\s*(search|domain|options)\b/.test(line));
  const own = join(directory, 'resolv.conf');
  writeFileAtomic(own, `${[...kept, `nameserver ${slirpNameServer}`].join('\n')}\n`, { mode: 0o644 });
  await runOrFail(processes, 'mount', ['--bind', own, usual]);
}
