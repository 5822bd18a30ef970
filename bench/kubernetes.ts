/**
 * The peer of the API and Pod benchmarks: etcd and Kubernetes' own programs, built by `build-peers`, with Debian's
 * containerd and runc. All state is in the scratch directory; ports, sockets, the bridge and the cgroup are its own and
 * go at the end.
 */
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, rmdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '#base/thrown.ts';
import { command, daemon, fileSizeMb, find, logTail, until } from './harness.ts';
import type { Run } from './harness.ts';
import { KubeClient, targetOf } from './kube-client.ts';
import type { Target } from './kube-client.ts';

const apiPort = 16_643;
const etcdPort = 12_379;
const podSubnet = '172.30.250.0/24';
const bridge = 'tphbench0';
const cgroup = 'tiphys-bench-kube';

export interface ControlPlane {
  target: Target;
  client: KubeClient;
  pids: number[];
  versions: Record<string, string>;
  kubeconfig: string;
  directory: string;
  token: string;
}

function programsMissing(current: Run, names: string[]): string | undefined {
  const missing = names.filter((name) => find(name, current.peersDirectory) === undefined);
  return missing.length === 0
    ? undefined
    : `${missing.join(', ')} not installed: with Go, run bench/build-peers (a quarter of an hour) and give its directory as TIPHYS_BENCH_PEERS`;
}

const program = (current: Run, name: string): string => find(name, current.peersDirectory)!;

function kubeconfigWith(directory: string, token: string): string {
  const path = join(directory, 'kubeconfig');
  writeFileSync(
    path,
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'bench',
      contexts: [{ name: 'bench', context: { cluster: 'bench', user: 'bench' } }],
      clusters: [
        { name: 'bench', cluster: { server: `https://127.0.0.1:${apiPort}`, 'insecure-skip-tls-verify': true } },
      ],
      users: [{ name: 'bench', user: { token } }],
    }),
    { mode: 0o600 },
  );
  return path;
}

export interface Etcd {
  endpoint: string;
  pid: number;
  version: string;
}

/** One member with its usual settings, or why there is none. */
export function startEtcd(current: Run): Etcd | string {
  const missing = programsMissing(current, ['etcd']);
  if (missing !== undefined) return missing;
  const endpoint = `http://127.0.0.1:${etcdPort}`;
  current.say('starting etcd');
  const etcd = daemon(current, 'etcd', [
    program(current, 'etcd'),
    ...['--data-dir', join(current.scratch, 'etcd')],
    ...['--listen-client-urls', endpoint, '--advertise-client-urls', endpoint],
    ...['--listen-peer-urls', `http://127.0.0.1:${etcdPort + 1}`],
    ...['--log-level', 'warn'],
  ]);
  const version = execFileSync(program(current, 'etcd'), ['--version'], { encoding: 'utf8' }).split('\n')[0] ?? '';
  return { endpoint, pid: etcd.pid ?? 0, version: `${version} (${fileSizeMb(program(current, 'etcd'))})` };
}

/**
 * etcd and kube-apiserver with their usual settings, but without priority and fairness, which would hold a single loud
 * client back.
 */
export async function startControlPlane(current: Run, given?: Etcd): Promise<ControlPlane | string> {
  const missing = programsMissing(current, ['etcd', 'kube-apiserver']);
  if (missing !== undefined) return missing;
  const etcd = given ?? startEtcd(current);
  if (typeof etcd === 'string') return etcd;
  const directory = join(current.scratch, 'kubernetes');
  mkdirSync(directory, { recursive: true });
  const key = join(directory, 'service-account.key');
  writeFileSync(
    key,
    generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs1', format: 'pem' }),
    { mode: 0o600 },
  );
  const token = randomBytes(16).toString('hex');
  writeFileSync(join(directory, 'tokens.csv'), `${token},admin,admin,system:masters\n`, { mode: 0o600 });
  current.say('starting kube-apiserver');
  const api = daemon(current, 'kube-apiserver', [
    program(current, 'kube-apiserver'),
    `--etcd-servers=${etcd.endpoint}`,
    `--secure-port=${apiPort}`,
    '--bind-address=127.0.0.1',
    `--cert-dir=${directory}/certificates`,
    `--token-auth-file=${directory}/tokens.csv`,
    '--authorization-mode=RBAC',
    '--service-account-issuer=https://bench',
    `--service-account-key-file=${key}`,
    `--service-account-signing-key-file=${key}`,
    '--service-cluster-ip-range=10.250.0.0/16',
    '--allow-privileged',
    '--enable-priority-and-fairness=false',
    '--max-requests-inflight=4000',
    '--max-mutating-requests-inflight=2000',
  ]);
  const kubeconfig = kubeconfigWith(directory, token);
  const target = await targetOf('kube-apiserver', kubeconfig);
  const client = new KubeClient(target);
  current.defer(() => client.close());
  try {
    await until(
      'kube-apiserver',
      60_000,
      async () => {
        if (api.exitCode !== null) throw new Error('ended');
        // Not there yet.
        return (await client.ask('GET', '/readyz').catch(() => undefined)) !== undefined;
      },
      100,
    );
  } catch {
    return `kube-apiserver does not start here: ${logTail(current, 'kube-apiserver', 3)} ${logTail(current, 'etcd', 1)}`;
  }
  const version = await client.ask('GET', '/version');
  return {
    target,
    client,
    directory,
    kubeconfig,
    token,
    pids: [etcd.pid, api.pid!],
    versions: {
      'kube-apiserver': `${version['gitVersion']} (${fileSizeMb(program(current, 'kube-apiserver'))})`,
      etcd: etcd.version,
    },
  };
}

/**
 * Scheduler, controller manager, containerd and kubelet. Resolves when the node is Ready, or with why there is none.
 */
export async function startNode(
  current: Run,
  plane: ControlPlane,
  images: string[],
  pauseImage: string,
): Promise<{ versions: Record<string, string>; pids: number[] } | string> {
  const missing = programsMissing(current, ['kubelet', 'kube-scheduler', 'kube-controller-manager']);
  if (missing !== undefined) return missing;
  for (const name of ['containerd', 'ctr', 'runc'])
    if (find(name) === undefined) return `${name} is not installed: apt-get install containerd runc`;
  const plugins = ['/opt/cni/bin', '/usr/lib/cni'].find((path) => existsSync(join(path, 'bridge')));
  if (plugins === undefined) return 'CNI plugins are not installed: apt-get install containernetworking-plugins';
  const { directory, kubeconfig } = plane;
  current.say('starting containerd, kubelet, kube-scheduler and kube-controller-manager');
  const namespaces = new Set(namespacesNow());
  current.defer(() => removeNodeTraces(directory, namespaces));
  const socket = `${directory}/containerd/containerd.sock`;
  mkdirSync(`${directory}/cni`, { recursive: true });
  mkdirSync(`${directory}/containerd`, { recursive: true });
  writeFileSync(
    `${directory}/cni/10-bench.conflist`,
    JSON.stringify({
      cniVersion: '0.4.0',
      name: 'bench',
      plugins: [
        {
          type: 'bridge',
          bridge,
          isGateway: true,
          ipMasq: false,
          ipam: {
            type: 'host-local',
            ranges: [[{ subnet: podSubnet }]],
            routes: [{ dst: '0.0.0.0/0' }],
            dataDir: `${directory}/cni-state`,
          },
        },
      ],
    }),
  );
  writeFileSync(
    `${directory}/containerd.toml`,
    `version = 2
root = "${directory}/containerd/root"
state = "${directory}/containerd/state"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "${socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "${pauseImage}"
disable_apparmor = true
# A root without CAP_SYS_RESOURCE may not lower a score, and runc then fails.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "${plugins}"
conf_dir = "${directory}/cni"
`,
  );
  const containerd = daemon(current, 'containerd', [
    find('containerd')!,
    '--config',
    `${directory}/containerd.toml`,
    '--log-level',
    'warn',
  ]);
  const ctr = ['ctr', '--address', socket, '-n', 'k8s.io'];
  try {
    await until(
      'containerd',
      20_000,
      async () => (await command([...ctr, 'version'], { allowFailure: true })).code === 0,
      100,
    );
    for (const image of images) await command([...ctr, 'images', 'import', '--all-platforms', image]);
  } catch (error) {
    return `containerd does not start here: ${messageOf(error)} ${logTail(current, 'containerd', 2)}`;
  }
  const certificate = readFileSync(`${directory}/certificates/apiserver.crt`, 'utf8');
  writeFileSync(`${directory}/root-ca.crt`, certificate);
  const manager = daemon(current, 'kube-controller-manager', [
    program(current, 'kube-controller-manager'),
    '--kubeconfig',
    kubeconfig,
    '--service-account-private-key-file',
    `${directory}/service-account.key`,
    '--root-ca-file',
    `${directory}/root-ca.crt`,
    '--use-service-account-credentials=false',
    '--leader-elect=false',
    '--secure-port=16657',
    `--cert-dir=${directory}/manager`,
  ]);
  const scheduler = daemon(current, 'kube-scheduler', [
    program(current, 'kube-scheduler'),
    '--kubeconfig',
    kubeconfig,
    '--leader-elect=false',
    '--secure-port=16659',
    `--cert-dir=${directory}/scheduler`,
  ]);
  writeFileSync(
    `${directory}/kubelet.yaml`,
    JSON.stringify({
      apiVersion: 'kubelet.config.k8s.io/v1beta1',
      kind: 'KubeletConfiguration',
      authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
      authorization: { mode: 'AlwaysAllow' },
      cgroupDriver: 'cgroupfs',
      cgroupRoot: `/${cgroup}`,
      failCgroupV1: false,
      failSwapOn: false,
      port: 16_650,
      healthzPort: 16_648,
      readOnlyPort: 0,
      containerRuntimeEndpoint: `unix://${socket}`,
      evictionHard: { 'nodefs.available': '1%', 'imagefs.available': '1%' },
      maxPods: 110,
      resolvConf: '/etc/resolv.conf',
      enforceNodeAllocatable: [],
      localStorageCapacityIsolation: false,
      registerNode: true,
      makeIPTablesUtilChains: false,
      podLogsDir: `${directory}/pod-logs`,
    }),
  );
  makeCgroup();
  const kubelet = daemon(current, 'kubelet', [
    program(current, 'kubelet'),
    '--config',
    `${directory}/kubelet.yaml`,
    '--kubeconfig',
    kubeconfig,
    '--root-dir',
    `${directory}/kubelet`,
    '--cert-dir',
    `${directory}/kubelet-pki`,
    '--hostname-override',
    'bench',
  ]);
  try {
    await until(
      'kubelet',
      90_000,
      async () => {
        if (kubelet.exitCode !== null) throw new Error('ended');
        const node = await plane.client.ask('GET', '/api/v1/nodes/bench', undefined, [404]);
        const account = await plane.client.ask(
          'GET',
          '/api/v1/namespaces/default/serviceaccounts/default',
          undefined,
          [404],
        );
        return (
          account['kind'] === 'ServiceAccount' &&
          node['spec']?.taints === undefined &&
          (node['status']?.conditions as { type: string; status: string }[] | undefined)?.some(
            (one) => one.type === 'Ready' && one.status === 'True',
          ) === true
        );
      },
      200,
    );
  } catch {
    return `kubelet does not get ready on this host: ${
      logTail(current, 'kubelet', 400)
        .split('\n')
        .filter((line) => /^[EF]\d|failed|error:/i.test(line))
        .slice(-3)
        .join(' | ') || logTail(current, 'kubelet', 2)
    }`;
  }
  const kubeletVersion = (await command([program(current, 'kubelet'), '--version'])).stdout.trim();
  const containerdVersion = (await command(['containerd', '--version'])).stdout.trim();
  return {
    pids: [containerd.pid!, manager.pid!, scheduler.pid!, kubelet.pid!],
    versions: {
      kubelet: `${kubeletVersion} (${fileSizeMb(program(current, 'kubelet'))})`,
      containerd: `${containerdVersion} (${fileSizeMb(find('containerd'))})`,
    },
  };
}

const controllers = (): string[] =>
  existsSync('/sys/fs/cgroup/cgroup.procs')
    ? ['']
    : readdirSync('/sys/fs/cgroup').filter((name) => existsSync(`/sys/fs/cgroup/${name}/cgroup.procs`));

function makeCgroup(): void {
  for (const controller of controllers()) {
    const path = join('/sys/fs/cgroup', controller, cgroup);
    try {
      mkdirSync(path, { recursive: true });
    } catch {
      continue;
    }
    // Children of a cpuset have no processors until somebody gives them some.
    for (const file of ['cpuset.cpus', 'cpuset.mems'])
      if (controller === 'cpuset')
        try {
          writeFileSync(join(path, file), readFileSync(join('/sys/fs/cgroup/cpuset', file), 'utf8').trim());
        } catch {
          /* as it is */
        }
  }
}

/**
 * What is left when kubelet and containerd have been stopped: shims, namespaces, mounts, the bridge, cgroups. Only what
 * carries the scratch directory's name.
 */
async function removeNodeTraces(directory: string, before: Set<string>): Promise<void> {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    let words = '';
    try {
      words = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    } catch {
      continue;
    }
    if (words.includes('containerd-shim') && words.includes(directory))
      try {
        process.kill(Number(pid), 'SIGKILL');
      } catch {
        /* it has ended */
      }
  }
  for (const controller of controllers()) await emptyCgroup(join('/sys/fs/cgroup', controller, cgroup));
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '');
  for (const path of mounts.filter((one) => one.startsWith(directory)).reverse())
    await command(['umount', '-l', path], { allowFailure: true });
  for (const name of namespacesNow())
    if (name.startsWith('cni-') && !before.has(name))
      await command(['ip', 'netns', 'delete', name], { allowFailure: true });
  await command(['ip', 'link', 'delete', bridge], { allowFailure: true });
}

function namespacesNow(): string[] {
  try {
    return readdirSync('/var/run/netns');
  } catch {
    return [];
  }
}

async function emptyCgroup(path: string): Promise<void> {
  if (!existsSync(path)) return;
  for (const entry of readdirSync(path, { withFileTypes: true }))
    if (entry.isDirectory()) await emptyCgroup(join(path, entry.name));
  for (const pid of readFileSync(join(path, 'cgroup.procs'), 'utf8')
    .split('\n')
    .filter((line) => line !== ''))
    try {
      process.kill(Number(pid), 'SIGKILL');
    } catch {
      /* it has ended */
    }
  await until(
    path,
    5_000,
    () => {
      try {
        rmdirSync(path);
        return true;
      } catch {
        return false;
      }
    },
    50,
    // What stays is an empty group: nothing measures it.
  ).catch(() => {});
}
