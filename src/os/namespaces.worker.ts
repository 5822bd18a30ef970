/** Makes and pins namespaces inside the worker's thread, and returns to the thread's own. Contract: namespaces.ts. */
import { closeSync, mkdirSync, openSync, unlinkSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { sysctlNamespace, sysctlPath } from '#base/sysctls.ts';
import { SystemError, call, cloneFlag, errno, mountFlag, tryCall } from './libc.linux.ts';
import { runNetlink } from './netlink.worker.ts';
import type { NamespaceRequest } from './namespaces.ts';

const kinds = [
  { key: 'network', file: 'net', flag: cloneFlag.newNet },
  { key: 'ipc', file: 'ipc', flag: cloneFlag.newIpc },
  { key: 'uts', file: 'uts', flag: cloneFlag.newUts },
] as const;

export function createNamespaces(request: NamespaceRequest): void {
  const wanted = kinds.filter((kind) => request.pins[kind.key] !== undefined);
  const homes = wanted.map((kind) => ({ ...kind, fd: openSync(`/proc/thread-self/ns/${kind.file}`, 'r') }));
  const pinned: string[] = [];
  try {
    call(
      'unshare',
      'namespaces',
      wanted.reduce((flags, kind) => flags | kind.flag, 0),
    );
    if (request.hostname !== undefined && request.pins.uts !== undefined)
      call('sethostname', request.hostname, request.hostname, Buffer.byteLength(request.hostname));
    writeSysctls(request);
    if (request.pins.network !== undefined)
      runNetlink({ programs: [{ steps: [{ op: 'setLink', name: 'lo', up: true }] }] });
    for (const kind of wanted) {
      const path = request.pins[kind.key]!;
      mkdirSync(dirname(path), { recursive: true });
      closeSync(openSync(path, 'w'));
      pinned.push(path);
      call('mount', path, `/proc/thread-self/ns/${kind.file}`, path, null, mountFlag.bind, null);
    }
  } catch (error) {
    for (const path of pinned) removeNamespace({ path });
    throw error;
  } finally {
    for (const home of homes) {
      call('setns', 'home', home.fd, home.flag);
      closeSync(home.fd);
    }
  }
}

/**
 * Whatever callers have checked: a parameter is written only where one of the new namespaces holds it, never on the
 * host.
 */
function writeSysctls(request: NamespaceRequest): void {
  for (const [name, value] of Object.entries(request.sysctls ?? {})) {
    const namespace = sysctlNamespace(name);
    if (namespace === undefined || request.pins[namespace] === undefined)
      throw new Error(`sysctl "${name}" is not in a separate kernel namespace`);
    writeFileSync(`/proc/sys/${sysctlPath(name)}`, value);
  }
}

export function removeNamespace(argument: { path: string }): void {
  for (let i = 0; i < 16; i++) {
    const result = tryCall('umount2', argument.path, 2 | 8);
    if (result === -errno.EINVAL || result === -errno.ENOENT) break;
    if (result < 0) throw new SystemError('umount2', -result, argument.path);
  }
  try {
    unlinkSync(argument.path);
  } catch (error) {
    if ((error as { code?: string }).code !== 'ENOENT') throw error;
  }
}
