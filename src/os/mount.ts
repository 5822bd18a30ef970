/**
 * Mounts. What may wait for a disk (unmounting writes back) runs in a worker, never on the caller's thread.
 *
 * `unmount` of what is not mounted is a no-op: undo code runs it blindly. Nothing here knows whose mount it is.
 * mount(2), umount2(2), and Documentation/filesystems/overlayfs.rst of the kernel.
 */
export interface OverlayMount {
  /**
   * The worker's own working directory during the call: `lowers`, `upper` and `work` may be given relative to it, which
   * keeps 500 of them under a page.
   */
  directory: string;
  /** Topmost first, at most 500. */
  lowers: string[];
  /** Absent: a read-only view. */
  upper?: string;
  work?: string;
  /** Absolute. */
  target: string;
  /** Whose the mount is: what overlayfs makes for itself belongs to it. Absent: root's. */
  owner?: { uid: number; gid: number };
  /** Skips every sync of the upper layer; its content is worthless after a power loss. */
  volatile?: boolean;
}

export interface BindMount {
  source: string;
  target: string;
  readOnly?: boolean;
  recursive?: boolean;
  propagation?: 'private' | 'slave' | 'shared';
}

/** A view of a directory, and of nothing that is mounted below it, with other owners (mount_setattr(2)). */
export interface MappedMount {
  source: string;
  target: string;
  /** Path of a user namespace: an owner N on disk is shown as who is N in it. */
  userNamespace: string;
}

/** A copy of this mount namespace. */
export interface MountNamespace {
  /** For nsenter(1), until it is closed. */
  path: string;
  close(): void;
}

export interface MountEntry {
  target: string;
  type: string;
  source: string;
  options: string;
}

export interface Mounts {
  mountOverlay(mount: OverlayMount): Promise<void>;
  bind(mount: BindMount): Promise<void>;
  /** Throws EINVAL where kernel or file system cannot (5.12, for overlayfs on it 5.19). */
  bindMapped(mount: MappedMount): Promise<void>;
  mountTmpfs(target: string, options: { sizeBytes?: number; mode?: number }): Promise<void>;
  /** Takes away every mount on exactly this path; detaches lazily when it is busy. No-op when nothing is mounted. */
  unmount(target: string): Promise<void>;
  /**
   * A copy of this mount namespace that lacks what is mounted at `target` on `parent`. What else is mounted later on
   * the host reaches it, and the other way round, as from here. Undefined where the process has another root than its
   * namespace (chroot): who enters a namespace gets the namespace's.
   */
  copyWithout(mount: { target: string; parent: string }): Promise<MountNamespace | undefined>;
  /**
   * Deletes files and directories with all below them, in this order, off the caller's thread. What is mounted there
   * must be unmounted before.
   */
  removeTrees(paths: string[]): Promise<void>;
  /** Everything mounted at or below a path, deepest first. */
  listBelow(path: string): Promise<MountEntry[]>;
  /** Unmounts everything at or below a path, deepest first. */
  unmountBelow(path: string): Promise<void>;
}
