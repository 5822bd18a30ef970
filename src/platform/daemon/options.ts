/**
 * dockerd's options: each flag with the key that says the same in `daemon.json`, its kind, and what becomes of it here.
 * One without `refuse` is honoured. `refuse` gives the reason why a value cannot be had; whoever asks for it is told
 * the option's name and that reason, and the engine does not start: a setting that is dropped silently is a trap.
 *
 * Source: Docker documentation, "dockerd" and "Daemon configuration file"; docker 28.5, cmd/dockerd and daemon/config.
 */
import { isOfUser } from '../rootless/state.ts';
import { entriesOf, textOf, textsOf } from '#base/unknown.ts';

export type OptionKind =
  | 'bool'
  | 'string'
  | 'int'
  | 'list'
  /** `k=v`, repeated; an object of strings in the file. */
  | 'map'
  /** `k` or `k=true`; an object of booleans in the file. */
  | 'flags'
  /** Bytes: a number with a unit. */
  | 'size'
  /** `name=path`; `{name: {path, runtimeArgs}}` in the file. */
  | 'runtimes'
  /** `name=soft:hard`; `{name: {Name, Soft, Hard}}` in the file. */
  | 'ulimits'
  /** `base=CIDR,size=N`; a list of `{base, size}` in the file. */
  | 'pools'
  /** `driver=option=value`; an object of objects in the file. */
  | 'maps';

export interface DaemonOption {
  /** Absent: only in the file. */
  flag?: string;
  short?: string;
  /** In the file; absent: as the flag. */
  key?: string;
  kind: OptionKind;
  /** Absent: false, empty or nothing. */
  value?: boolean | string | number;
  help: string;
  refuse?: (value: unknown) => string | undefined;
  /** Not listed by --help. */
  hidden?: true;
}

const notBuilt = 'this engine does not have it yet';
const noSwarm = 'this engine is in no swarm';
const always = (reason: string) => (): string => reason;
/** Asked for and not what is so anyway. */
const unless =
  (reason: string, ...values: unknown[]) =>
  (value: unknown): string | undefined =>
    values.includes(value) ? undefined : reason;

const run: DaemonOption[] = [
  {
    flag: 'config-file',
    kind: 'string',
    value: '/etc/docker/daemon.json',
    help: 'daemon configuration file',
  },
  {
    flag: 'host',
    short: 'H',
    key: 'hosts',
    kind: 'list',
    help: 'where to listen: unix://, tcp://, fd://',
  },
  { flag: 'data-root', kind: 'string', help: 'directory of what is kept (default: /var/lib/tiphys-engine)' },
  { flag: 'exec-root', kind: 'string', help: 'directory of what a boot may take (default: /run/tiphys-engine)' },
  { flag: 'pidfile', short: 'p', kind: 'string', help: "the engine's process id (default: /var/run/docker.pid)" },
  { flag: 'group', short: 'G', kind: 'string', value: 'docker', help: 'group of the unix socket' },
  { flag: 'validate', kind: 'bool', help: 'check the configuration and exit' },
  { flag: 'version', short: 'v', kind: 'bool', help: 'print the version and exit' },
  { flag: 'help', kind: 'bool', help: 'print this and exit' },
  { flag: 'debug', short: 'D', kind: 'bool', help: 'log what only developers want to know' },
  { flag: 'log-level', short: 'l', kind: 'string', value: 'info', help: 'debug, info, warn, error or fatal' },
  { flag: 'log-format', kind: 'string', value: 'text', help: 'text or json' },
  { flag: 'raw-logs', kind: 'bool', help: 'no colours; there are none' },
  { flag: 'live-restore', kind: 'bool', help: 'containers go on when the engine is told to end' },
  { flag: 'shutdown-timeout', kind: 'int', value: 15, help: 'seconds that containers have to end with the engine' },
  {
    flag: 'metrics-addr',
    kind: 'string',
    help: 'address and port of metrics for Prometheus',
  },
  { flag: 'experimental', kind: 'bool', help: 'say to clients that experiments are welcome' },
  { flag: 'feature', key: 'features', kind: 'flags', help: 'name=true or name=false' },
  { flag: 'label', key: 'labels', kind: 'list', help: "key=value labels of the engine ('docker info')" },
];

const tls: DaemonOption[] = [
  { flag: 'tls', kind: 'bool', help: 'TLS on tcp:// addresses; implied by --tlsverify' },
  { flag: 'tlsverify', kind: 'bool', help: "TLS, and only for clients with the authority's certificate" },
  { flag: 'tlscacert', kind: 'string', help: "the clients' authority (default: ~/.docker/ca.pem)" },
  { flag: 'tlscert', kind: 'string', help: "the engine's certificate (default: ~/.docker/cert.pem)" },
  { flag: 'tlskey', kind: 'string', help: "the engine's key (default: ~/.docker/key.pem)" },
];

const images: DaemonOption[] = [
  { flag: 'insecure-registry', key: 'insecure-registries', kind: 'list', help: 'registries without TLS: host or CIDR' },
  { flag: 'registry-mirror', key: 'registry-mirrors', kind: 'list', help: 'mirrors of docker.io' },
  { flag: 'max-concurrent-downloads', kind: 'int', value: 3, help: 'layers of a pull at once' },
  { flag: 'max-concurrent-uploads', kind: 'int', value: 5, help: 'layers of a push at once' },
  { flag: 'max-download-attempts', kind: 'int', value: 5, help: 'tries of each download' },
  { flag: 'http-proxy', kind: 'string', help: 'proxy of pulls, pushes and builds' },
  { flag: 'https-proxy', kind: 'string', help: 'the same for https' },
  { flag: 'no-proxy', kind: 'string', help: 'hosts that are reached without it' },
  {
    flag: 'storage-driver',
    short: 's',
    kind: 'string',
    help: 'overlay2',
    refuse: unless('layers are directories of overlayfs here: overlay2 is the one there is', '', 'overlay2'),
  },
  {
    flag: 'storage-opt',
    key: 'storage-opts',
    kind: 'list',
    help: 'overlay2.override_kernel_check',
    refuse: (value) =>
      textsOf(value).every((text) => text.startsWith('overlay2.override_kernel_check=')) ? undefined : notBuilt,
  },
  {
    flag: 'allow-nondistributable-artifacts',
    kind: 'list',
    help: 'all layers are pushed',
    hidden: true,
  },
  {
    key: 'builder',
    kind: 'maps',
    help: 'garbage collection of the build cache',
    refuse: (value) => {
      return ['{}', '{"gc":{"enabled":true}}'].includes(JSON.stringify(value))
        ? undefined
        : "the build cache has bounds of its own; 'docker builder prune' takes others for a time";
    },
  },
];

const containers: DaemonOption[] = [
  { flag: 'log-driver', kind: 'string', value: 'json-file', help: "driver of containers' logs" },
  { flag: 'log-opt', key: 'log-opts', kind: 'map', help: 'its options' },
  { flag: 'default-ulimit', key: 'default-ulimits', kind: 'ulimits', help: 'name=soft:hard' },
  { flag: 'default-shm-size', kind: 'size', value: 67_108_864, help: 'size of /dev/shm' },
  { flag: 'default-ipc-mode', kind: 'string', value: 'private', help: 'shareable or private' },
  { flag: 'default-cgroupns-mode', kind: 'string', help: 'host or private' },
  { flag: 'cgroup-parent', kind: 'string', help: 'control group above those of containers' },
  { flag: 'no-new-privileges', kind: 'bool', help: 'processes of containers gain none' },
  { flag: 'seccomp-profile', kind: 'string', value: 'builtin', help: 'builtin, unconfined or a file' },
  { flag: 'init', kind: 'bool', help: 'an init in each container' },
  {
    flag: 'init-path',
    kind: 'string',
    help: 'docker-init',
    refuse: unless('tini or catatonit is taken from the search path', '', 'docker-init', 'tini', 'catatonit'),
  },
  {
    flag: 'default-runtime',
    kind: 'string',
    value: 'runc',
    help: 'runc or crun: the one that is installed; or a name of --add-runtime',
  },
  {
    flag: 'add-runtime',
    key: 'runtimes',
    kind: 'runtimes',
    help: 'further OCI runtimes: name=path',
    refuse: (value) =>
      entriesOf(value).some(([, runtime]) => textOf(runtime, 'runtimeType') !== undefined)
        ? "containerd's shims (runtimeType) need containerd: give the path of a program that is called as runc is"
        : undefined,
  },
  {
    flag: 'exec-opt',
    key: 'exec-opts',
    kind: 'list',
    help: 'native.cgroupdriver=cgroupfs',
    refuse: (value) =>
      textsOf(value).every((text) => text === 'native.cgroupdriver=cgroupfs')
        ? undefined
        : 'control groups are made in cgroupfs, in a delegated unit where systemd runs',
  },
  {
    flag: 'userns-remap',
    kind: 'string',
    help: 'user namespace of containers: default, or user[:group] of /etc/subuid and /etc/subgid',
  },
  {
    flag: 'selinux-enabled',
    kind: 'bool',
    help: 'labels of SELinux',
    refuse: unless('labels of SELinux are not set here', false),
  },
  { flag: 'cpu-rt-period', kind: 'int', value: 0, help: 'for all containers', refuse: unless(notBuilt, 0) },
  { flag: 'cpu-rt-runtime', kind: 'int', value: 0, help: 'for all containers', refuse: unless(notBuilt, 0) },
  {
    flag: 'cdi-spec-dir',
    key: 'cdi-spec-dirs',
    kind: 'list',
    help: 'where devices are described (CDI)',
  },
  {
    flag: 'authorization-plugin',
    key: 'authorization-plugins',
    kind: 'list',
    help: 'who is asked about each request, in order',
  },
];

const networks: DaemonOption[] = [
  { flag: 'bip', kind: 'string', help: 'address and prefix of the default bridge' },
  { flag: 'fixed-cidr', kind: 'string', help: 'range of addresses on the default bridge' },
  { flag: 'mtu', kind: 'int', value: 1500, help: 'of the default bridge' },
  { flag: 'icc', kind: 'bool', value: true, help: 'containers on the default bridge reach one another' },
  { flag: 'ip', kind: 'string', value: '0.0.0.0', help: 'where ports of the default bridge are published' },
  { flag: 'ip-masq', kind: 'bool', value: true, help: "masquerading of the default bridge's containers" },
  {
    flag: 'default-address-pool',
    key: 'default-address-pools',
    kind: 'pools',
    help: 'base=CIDR,size=N: where networks come from',
  },
  {
    flag: 'default-network-opt',
    key: 'default-network-opts',
    kind: 'maps',
    help: 'driver=option=value for new networks',
  },
  { flag: 'dns', kind: 'list', help: 'name servers of containers' },
  { flag: 'dns-opt', key: 'dns-opts', kind: 'list', help: 'options of their resolvers' },
  { flag: 'dns-search', kind: 'list', help: 'search domains' },
  { flag: 'host-gateway-ip', key: 'host-gateway-ips', kind: 'list', help: "what 'host-gateway' in --add-host means" },
  {
    flag: 'ip-forward',
    kind: 'bool',
    value: true,
    help: 'net.ipv4.ip_forward',
    refuse: unless('nothing reaches a container without it', true),
  },
  { flag: 'ip-forward-no-drop', kind: 'bool', help: 'the forward chain keeps its policy; it always does' },
  {
    flag: 'iptables',
    kind: 'bool',
    value: true,
    help: 'rules of published ports and of what leaves (nftables); without them ports are relayed',
  },
  { flag: 'ip6tables', kind: 'bool', value: true, help: 'the same for IPv6' },
  {
    flag: 'firewall-backend',
    kind: 'string',
    help: 'nftables',
    refuse: unless('rules are written in nftables', '', 'nftables'),
  },
  {
    flag: 'userland-proxy',
    kind: 'bool',
    value: true,
    help: 'relays what the kernel cannot translate: from ::1, and from IPv6 to containers without it',
  },
  { flag: 'userland-proxy-path', kind: 'string', help: 'there is none' },
  { flag: 'ipv6', kind: 'bool', help: 'IPv6 on the default bridge' },
  { flag: 'bip6', kind: 'string', help: 'IPv6 address and prefix of the default bridge' },
  { flag: 'fixed-cidr-v6', kind: 'string', help: 'range of IPv6 addresses on the default bridge' },
  { flag: 'default-gateway', kind: 'string', help: "gateway of the default bridge's containers" },
  { flag: 'default-gateway-v6', kind: 'string', help: 'the same for IPv6' },
  { flag: 'bridge', short: 'b', kind: 'string', help: 'a bridge that is there, or none' },
  { flag: 'allow-direct-routing', kind: 'bool', help: 'from outside', refuse: unless(notBuilt, false) },
  { flag: 'bridge-accept-fwmark', kind: 'string', help: 'from outside', refuse: unless(notBuilt, '') },
];

const others: DaemonOption[] = [
  {
    flag: 'containerd',
    kind: 'string',
    help: 'taken and not used: crun starts containers, conmon holds them',
    hidden: true,
  },
  { flag: 'containerd-namespace', kind: 'string', value: 'moby', help: 'not used', hidden: true },
  {
    flag: 'containerd-plugins-namespace',
    key: 'containerd-plugin-namespace',
    kind: 'string',
    value: 'plugins.moby',
    help: 'not used',
    hidden: true,
  },
  { flag: 'cri-containerd', kind: 'bool', help: 'CRI', refuse: unless('there is no containerd here', false) },
  {
    flag: 'rootless',
    kind: 'bool',
    help: 'without root: so where an ordinary user starts it',
    refuse: (value) =>
      value === false || isOfUser(process.env) ? undefined : 'this is root: start it as the user whose engine it is',
  },
  { flag: 'restart', short: 'r', kind: 'bool', value: true, help: 'of long ago', hidden: true },
  {
    flag: 'api-cors-header',
    kind: 'string',
    help: 'of long ago',
    hidden: true,
    refuse: unless('the option has been removed; use a reverse proxy if you need CORS headers', ''),
  },
  { key: 'deprecated-key-path', kind: 'string', help: 'of long ago', hidden: true },
  { key: 'resolv-conf', kind: 'string', help: "another host's resolv.conf", refuse: unless(notBuilt, '') },
  {
    flag: 'swarm-default-advertise-addr',
    kind: 'string',
    help: 'of a swarm',
    hidden: true,
    refuse: unless(noSwarm, ''),
  },
  {
    flag: 'node-generic-resource',
    key: 'node-generic-resources',
    kind: 'list',
    help: 'of a swarm',
    hidden: true,
    refuse: (value) => (textsOf(value).length === 0 ? undefined : noSwarm),
  },
  {
    flag: 'network-control-plane-mtu',
    kind: 'int',
    value: 1500,
    help: 'of a swarm',
    hidden: true,
    refuse: unless(noSwarm, 1500, 0),
  },
  {
    flag: 'network-diagnostic-port',
    kind: 'int',
    value: 0,
    help: 'of a swarm',
    hidden: true,
    refuse: unless(noSwarm, 0),
  },
  { key: 'swarm-raft-heartbeat-tick', kind: 'int', value: 0, help: 'of a swarm', refuse: always(noSwarm) },
  { key: 'swarm-raft-election-tick', kind: 'int', value: 0, help: 'of a swarm', refuse: always(noSwarm) },
];

export const daemonOptions: readonly DaemonOption[] = [
  ...run,
  ...tls,
  ...images,
  ...containers,
  ...networks,
  ...others,
];

/** The name by which an option is known once flags and file are one. */
export function keyOf(option: DaemonOption): string {
  return option.key ?? option.flag ?? '';
}

/** What is said in the file only under a flag's own name. */
export const flagOnly = new Set(['config-file', 'validate', 'version', 'help']);
/** Objects that are values; the members of others are options. */
export const wholeObjects = new Set([
  'default-network-opts',
  'log-opts',
  'runtimes',
  'default-ulimits',
  'features',
  'builder',
]);
/** Flag and file are put together. */
export const mergedKeys = new Set(['runtimes', 'features', 'builder']);
