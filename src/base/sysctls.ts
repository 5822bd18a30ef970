/**
 * Which kernel parameters belong to a namespace. Whoever writes one for a container asks here first: a parameter that
 * has no namespace of its own is the host's, and writing it as root is as good as being root on the host
 * (`kernel.core_pattern` names a program).
 * Rules: sysctl(8) for the two ways to write a name; namespaces(7), ipc_namespaces(7), network_namespaces(7) for what
 * is whose; Kubernetes documentation, "Using sysctls in a Kubernetes Cluster", for the safe ones.
 */

export type SysctlNamespace = 'network' | 'ipc' | 'uts';

const segment = '[a-z0-9]([-_a-z0-9]*[a-z0-9])?';

/** As the API server checks a Pod's names; its text is part of the message. */
export const sysctlNameForm = `^(${segment}[\\./])*${segment}$`;
export const sysctlNameLengthMax = 253;

const podName = new RegExp(sysctlNameForm);
/** Docker's names may also have capitals (a link's name). A dot alone, or two, is no part of one. */
const anyName = /^[A-Za-z0-9_-][A-Za-z0-9_@:.-]*(\/[A-Za-z0-9_-][A-Za-z0-9_@:.-]*)*$/;

export function isPodSysctlName(name: string): boolean {
  return name.length <= sysctlNameLengthMax && podName.test(name);
}

/**
 * The path below `/proc/sys`. Whichever of `.` and `/` comes first separates; the other one stands for it inside a
 * part. Undefined where it is no name.
 */
export function sysctlPath(name: string): string | undefined {
  const first = /[./]/.exec(name)?.[0];
  const path = first === '.' ? name.replace(/[./]/g, (mark) => (mark === '.' ? '/' : '.')) : name;
  return name.length <= sysctlNameLengthMax && anyName.test(path) ? path : undefined;
}

const ipcNames = new Set([
  'kernel/msgmax',
  'kernel/msgmnb',
  'kernel/msgmni',
  'kernel/sem',
  'kernel/shmall',
  'kernel/shmmax',
  'kernel/shmmni',
  'kernel/shm_rmid_forced',
]);
const utsNames = new Set(['kernel/domainname', 'kernel/hostname']);

/** The namespace that a parameter belongs to; undefined where it is the whole machine's, or no parameter. */
export function sysctlNamespace(name: string): SysctlNamespace | undefined {
  const path = sysctlPath(name);
  if (path === undefined) return undefined;
  if (ipcNames.has(path) || path.startsWith('fs/mqueue/')) return 'ipc';
  if (utsNames.has(path)) return 'uts';
  return path.startsWith('net/') ? 'network' : undefined;
}

/** Those that a Pod may set everywhere: they can neither disturb another Pod nor the node. */
const safe = new Set([
  'kernel/shm_rmid_forced',
  'net/ipv4/ip_local_port_range',
  'net/ipv4/tcp_syncookies',
  'net/ipv4/ping_group_range',
  'net/ipv4/ip_unprivileged_port_start',
  'net/ipv4/ip_local_reserved_ports',
  'net/ipv4/tcp_keepalive_time',
  'net/ipv4/tcp_fin_timeout',
  'net/ipv4/tcp_keepalive_intvl',
  'net/ipv4/tcp_keepalive_probes',
  'net/ipv4/tcp_rmem',
  'net/ipv4/tcp_wmem',
]);

export function isSafeSysctl(name: string): boolean {
  const path = sysctlPath(name);
  return path !== undefined && safe.has(path);
}
