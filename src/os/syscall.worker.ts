/**
 * The worker behind worker-call.linux.ts: one table of synchronous operations. The thread has a working directory of
 * its own (unshare(CLONE_FS)) and comes back to its first network namespace after every operation.
 */
import { closeSync, existsSync, lstatSync, mkdirSync, openSync, opendirSync, rmSync, statSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { SystemError, call, cloneFlag, mountFlag, tryCall, errno } from './libc.linux.ts';
import { createNamespaces, removeNamespace } from './namespaces.worker.ts';
import { runNetlink } from './netlink.worker.ts';
import { runNft } from './nft.worker.ts';
import type { BindMount, MappedMount, OverlayMount } from './mount.ts';
import { asFileOwner } from './file-owner.linux.ts';
import { addressOf } from './ffi.linux.ts';

let ownDirectory = false;

function mountOverlay(mount: OverlayMount): void {
  if (!ownDirectory) {
    call('unshare', 'CLONE_FS', cloneFlag.fs);
    ownDirectory = true;
  }
  const options = [`lowerdir=${mount.lowers.map(escapeOption).join(':')}`];
  if (mount.upper !== undefined)
    options.push(`upperdir=${escapeOption(mount.upper)}`, `workdir=${escapeOption(mount.work ?? '')}`);
  if (mount.volatile === true) options.push('volatile');
  // Its maker may be gone, with the directory above: nothing is made for it again.
  if (!existsSync(mount.target)) mkdirSync(mount.target);
  const text = options.join(',');
  if (text.length > 4095) throw new SystemError('mount', 36, `overlay with ${mount.lowers.length} layers`);
  const make = (): void => {
    call('chdir', mount.directory, mount.directory);
    call('mount', `overlay on ${mount.target}`, 'overlay', mount.target, 'overlay', 0n, text);
  };
  if (mount.owner === undefined) make();
  else asFileOwner(mount.owner, make);
}

// System calls 428 and above have one number on every architecture.
const cString = (text: string): Buffer => Buffer.from(`${text}\0`);
const openTree = { number: 428, clone: 1, closeOnExec: 0o2000000 };
const moveMount = { number: 429, fromEmptyPath: 4 };
const mountSetAttr = { number: 442, emptyPath: 0x1000, idMap: 0x100000n };
const here = -100;

function bindMapped({ source, target, userNamespace }: MappedMount): void {
  // They stay reachable while their addresses are used.
  const paths = { from: cString(source), empty: cString(''), to: cString(target) };
  const empty = addressOf(paths.empty);
  const flags = openTree.clone | openTree.closeOnExec;
  const tree = call('syscall', `open_tree ${source}`, openTree.number, here, addressOf(paths.from), flags, 0, 0);
  const namespace = openSync(userNamespace, 'r');
  try {
    // struct mount_attr: attr_set, attr_clr, propagation, userns_fd.
    const attributes = Buffer.alloc(32);
    attributes.writeBigUInt64LE(mountSetAttr.idMap, 0);
    attributes.writeBigUInt64LE(BigInt(namespace), 24);
    const { number, emptyPath } = mountSetAttr;
    call('syscall', `mount_setattr ${source}`, number, tree, empty, emptyPath, addressOf(attributes), 32);
    mkdirSync(target, { recursive: true });
    call(
      'syscall',
      `move_mount ${target}`,
      moveMount.number,
      tree,
      empty,
      here,
      addressOf(paths.to),
      moveMount.fromEmptyPath,
    );
  } finally {
    closeSync(namespace);
    call('close', 'tree', tree);
  }
}

function escapeOption(path: string): string {
  return path.replace(/[\\:,]/g, (char) => `\\${char}`);
}

const propagationFlag = { private: mountFlag.private, slave: mountFlag.slave, shared: mountFlag.shared };

function bind(mount: BindMount): void {
  const deep = mount.recursive === true ? mountFlag.recursive : 0n;
  call(
    'mount',
    `bind ${mount.source} on ${mount.target}`,
    mount.source,
    mount.target,
    null,
    mountFlag.bind | deep,
    null,
  );
  if (mount.readOnly === true)
    call(
      'mount',
      `read-only ${mount.target}`,
      null,
      mount.target,
      null,
      mountFlag.bind | mountFlag.remount | mountFlag.readOnly,
      null,
    );
  if (mount.propagation !== undefined)
    call(
      'mount',
      `propagation of ${mount.target}`,
      null,
      mount.target,
      null,
      propagationFlag[mount.propagation] | deep,
      null,
    );
}

function mountTmpfs(argument: { target: string; sizeBytes?: number; mode?: number }): void {
  const options = [`mode=${(argument.mode ?? 0o1777).toString(8)}`];
  if (argument.sizeBytes !== undefined) options.push(`size=${argument.sizeBytes}`);
  mkdirSync(argument.target, { recursive: true });
  call('mount', `tmpfs on ${argument.target}`, 'tmpfs', argument.target, 'tmpfs', 0n, options.join(','));
}

const detach = 2;
const noFollow = 8;

function unmount(argument: { target: string }): void {
  for (let i = 0; i < 64; i++) {
    let result = tryCall('umount2', argument.target, noFollow);
    if (result === -errno.EBUSY) result = tryCall('umount2', argument.target, detach | noFollow);
    if (result === -errno.EINVAL || result === -errno.ENOENT || result === -20) return;
    if (result < 0) throw new SystemError('umount2', -result, argument.target);
  }
}

/**
 * The descriptor of a copied mount namespace; the thread comes home. The target's mounts are made private first, so
 * that taking it away stays there; all others remain in the host's peer groups.
 */
function copyMountsWithout({ target, parent }: { target: string; parent: string }): number | undefined {
  const home = openSync('/proc/thread-self/ns/mnt', 'r');
  const root = openSync('/', 'r');
  const before = statSync('/');
  let isCopied = false;
  try {
    call('unshare', 'CLONE_NEWNS', cloneFlag.newNs);
    isCopied = ownDirectory = true;
    for (const path of [parent, target]) call('mount', path, null, path, null, mountFlag.private, null);
    call('umount2', target, target, detach);
    // Not by Node, which would close it with the thread.
    const copy = call('open', 'mount namespace', '/proc/thread-self/ns/mnt', openTree.closeOnExec, 0);
    call('setns', 'home', home, cloneFlag.newNs);
    isCopied = false;
    const after = statSync('/');
    if (after.dev === before.dev && after.ino === before.ino) return copy;
    call('close', '', copy);
    return undefined;
  } finally {
    // A thread that cannot come home is of no use: the next call gets another one.
    if (isCopied && tryCall('setns', home, cloneFlag.newNs) < 0) process.exit(1);
    call('fchdir', 'root', root);
    call('chroot', 'root', '.');
    closeSync(root);
    closeSync(home);
  }
}

/** A tree of more entries would hold up others' mounts. */
const smallTreeEntries = 200;

/** From the first that is not small on they are left to the caller, which gets them back. */
function removeSmallTrees({ paths }: { paths: string[] }): string[] {
  const big = paths.findIndex((path) => {
    const isBig = countBelow(path, smallTreeEntries) >= smallTreeEntries;
    if (!isBig) rmSync(path, { recursive: true, force: true });
    return isBig;
  });
  return big < 0 ? [] : paths.slice(big);
}

/** How many entries are in a directory and below, up to `most`; none of what is no directory. */
function countBelow(path: string, most: number): number {
  let count = 0;
  const directories = lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true ? [path] : [];
  for (let at = directories.pop(); at !== undefined && count < most; at = directories.pop()) {
    using entries = opendirSync(at);
    for (let entry = entries.readSync(); entry !== null && count < most; entry = entries.readSync()) {
      count++;
      if (entry.isDirectory()) directories.push(`${at}/${entry.name}`);
    }
  }
  return count;
}

const operations = {
  mountOverlay,
  bind,
  bindMapped,
  mountTmpfs,
  unmount,
  copyMountsWithout,
  removeSmallTrees,
  createNamespaces,
  removeNamespace,
  runNetlink,
  runNft,
};
export type SyscallOperations = typeof operations;

parentPort?.on('message', (message: { id: number; operation: keyof SyscallOperations; argument: never }) => {
  try {
    parentPort!.postMessage({ id: message.id, result: operations[message.operation](message.argument) });
  } catch (error) {
    const plain = error as Error & { code?: string; errno?: number; syscall?: string };
    const detail =
      plain instanceof SystemError
        ? plain.message.slice(plain.syscall.length, plain.message.lastIndexOf(':')).trim()
        : undefined;
    parentPort!.postMessage({
      id: message.id,
      error: {
        message: plain.message,
        code: plain.code,
        errno: plain instanceof SystemError ? plain.errno : undefined,
        syscall: plain.syscall,
        detail,
      },
    });
  }
});
