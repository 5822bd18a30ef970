/**
 * Namespaces pinned by bind mounts, so that they live without a process (namespaces(7), mount(2)).
 * A pinned network namespace comes with its loopback up.
 */
export interface PinnedNamespaces {
  network?: string;
  ipc?: string;
  uts?: string;
}

export interface NamespaceRequest {
  /** Where each new namespace is pinned; parents are made. */
  pins: PinnedNamespaces;
  /** For a new UTS namespace. */
  hostname?: string;
  /** Kernel parameters by name, written inside the new namespaces. One that none of them holds is refused. */
  sysctls?: Record<string, string>;
}

export interface Namespaces {
  create(request: NamespaceRequest): Promise<void>;
  /** Unpins; the namespace goes when nothing uses it. No-op when it is gone. */
  remove(path: string): Promise<void>;
}
