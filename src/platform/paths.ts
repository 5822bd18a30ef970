/**
 * Where everything of an instance lies. `TIPHYS_HOME=DIR` puts data in `DIR/data` and sockets, kubeconfig, pids and
 * logs in `DIR/run`; without it they are `/var/lib/tiphys` and `/run/tiphys`. A reboot may take the run directory away;
 * `up` makes it
 * again.
 */
import { chmodSync, mkdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Paths {
  home: string | undefined;
  data: string;
  run: string;
}

export function pathsOf(environment: Record<string, string | undefined>, dataOption?: string): Paths {
  const home = environment['TIPHYS_HOME'];
  if (home !== undefined && home !== '') {
    const at = resolve(home);
    return { home: at, data: dataOption === undefined ? join(at, 'data') : resolve(dataOption), run: join(at, 'run') };
  }
  return {
    home: undefined,
    data: dataOption === undefined ? '/var/lib/tiphys' : resolve(dataOption),
    run: '/run/tiphys',
  };
}

/** The package's own top directory: where `src` or `dist` is. */
export const packageRoot: string = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

export const files = {
  instance: (paths: Paths) => join(paths.data, 'instance.json'),
  keys: (paths: Paths) => join(paths.data, 'keys.json'),
  /** Which state this machine's servers have found in etcd. */
  etcdEpoch: (paths: Paths) => join(paths.data, 'etcd-epoch'),
  /** Of the member of the cluster's own etcd: its configuration, certificates and data. */
  etcd: (paths: Paths) => join(paths.data, 'etcd'),
  etcdConfig: (paths: Paths) => join(paths.data, 'etcd', 'etcd.json'),
  /** Where all members are reached, as this machine's server last knew. */
  etcdEndpoints: (paths: Paths) => join(paths.data, 'etcd', 'endpoints.json'),
  /** Who moves the state now; a server that starts waits for its end. */
  moving: (paths: Paths) => join(paths.run, 'moving.json'),
  database: (paths: Paths) => join(paths.data, 'cluster.db'),
  /** Where the API servers were, as this machine's first node last knew. */
  servers: (paths: Paths) => join(paths.data, 'servers.json'),
  /** By what nodes of this machine ask for their first certificate. */
  bootstrapConfig: (paths: Paths) => join(paths.run, 'bootstrap-kubelet.conf'),
  adminConfig: (paths: Paths) => join(paths.run, 'admin.conf'),
  dockerSocket: (paths: Paths) => join(paths.run, 'docker.sock'),
  lock: (paths: Paths) => join(paths.run, 'up.lock'),
  processes: (paths: Paths) => join(paths.run, 'processes'),
  /** Supervisors of processes that are to take the place of one that still runs. */
  heirs: (paths: Paths) => join(paths.run, 'heirs'),
  heir: (paths: Paths, part: string) => join(paths.run, 'heirs', part),
  logs: (paths: Paths) => join(paths.run, 'logs'),
  volumes: (paths: Paths) => join(paths.data, 'volumes'),
  nodeData: (paths: Paths, node: number) => join(paths.data, 'nodes', String(node)),
  nodeRun: (paths: Paths, node: number) => join(paths.run, `node-${node}`),
  /** Tiphys' own programs, and which of them this machine runs. */
  programs: (paths: Paths) => join(paths.data, 'programs'),
  programRecord: (paths: Paths) => join(paths.data, 'program.json'),
  upgradeLock: (paths: Paths) => join(paths.data, 'upgrade.lock'),
  nodePki: (paths: Paths, node: number) => join(paths.data, 'nodes', String(node), 'pki'),
  /** Where a running server gives its state away, to root. */
  stateSocket: (paths: Paths) => join(paths.run, 'state.sock'),
  /** There while a restore is not whole. */
  restoring: (paths: Paths) => join(paths.data, 'restoring'),
  backupLock: (paths: Paths) => join(paths.run, 'backup.lock'),
  /** Which backups the server makes by itself, and how that went. */
  backupSchedule: (paths: Paths) => join(paths.data, 'backup-schedule.json'),
  backupResult: (paths: Paths) => join(paths.data, 'backup-result.json'),
  /** Addresses of Services that this machine announces, or did. */
  announced: (paths: Paths) => join(paths.run, 'announced.json'),
  /** The link to other machines, as the host's network namespace has it. */
  underlay: (paths: Paths) => join(paths.run, 'underlay.json'),
  ready: (paths: Paths, part: string) => join(paths.run, 'ready', part),
};

/** Where users of a registry that runs alone in this data directory are made. */
export function registrySocket(data: string): string {
  return join(data, 'registry.sock');
}

/**
 * Who enters what. Containers write below the data directory and below a node's run directory (volumes, layers,
 * /dev/shm), setuid files too: nobody but root may come near them by their path on the host. The run directory is
 * passed through, by name alone, to the socket of the Docker API.
 */
export const privateMode = 0o700;
export const passageMode = 0o711;

/** Made, and of this mode also where an earlier version or another umask made it. */
export function makeDirectory(path: string, mode: number): void {
  mkdirSync(path, { recursive: true, mode });
  chmodSync(path, mode);
}
