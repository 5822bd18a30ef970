/** `tiphys up`. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { realClock } from '#os/clock.real.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import type { InstanceChoices, NetworkMode } from '#platform/instance.ts';
import { knownParts, stopPart } from '#platform/launch.ts';
import { loadInstance, runsServer } from '#platform/instance.ts';
import { archiveTools, installPackages, missingTools, tools } from '#platform/packages.ts';
import { files, pathsOf, type Paths } from '#platform/paths.ts';
import { checkServerArguments } from '#platform/server-arguments.ts';
import { bringUp } from '#platform/up.ts';
import { confirm, print, seconds, UsageError } from '../output.ts';

export interface PlatformOptions {
  nodes?: number;
  data?: string;
  apiPort?: number;
  registryPort?: number;
  httpPort?: number;
  httpsPort?: number;
  registryMirror?: string[];
  maxPods?: number;
  nodeMonitorGracePeriod?: number;
  loadBalancerPool?: string;
  network?: NetworkMode;
  podRange?: string;
  serviceRange?: string;
  etcdEndpoints?: string[];
  etcdCafile?: string;
  etcdCertfile?: string;
  etcdKeyfile?: string;
  etcdPrefix?: string;
  kubeApiserverArg?: string[];
  yes?: boolean;
  dryRun?: boolean;
  foreground?: boolean;
  replace?: boolean;
}

export function choicesOf(options: PlatformOptions): InstanceChoices {
  return {
    ...(options.nodes === undefined ? {} : { nodes: options.nodes }),
    ...(options.apiPort === undefined ? {} : { apiPort: options.apiPort }),
    ...(options.registryPort === undefined ? {} : { registryPort: options.registryPort }),
    ...(options.httpPort === undefined ? {} : { httpPort: options.httpPort }),
    ...(options.httpsPort === undefined ? {} : { httpsPort: options.httpsPort }),
    ...(options.maxPods === undefined ? {} : { maxPods: options.maxPods }),
    ...(options.nodeMonitorGracePeriod === undefined ? {} : { nodeGraceMs: options.nodeMonitorGracePeriod }),
    ...(options.loadBalancerPool === undefined ? {} : { loadBalancerPool: options.loadBalancerPool }),
    ...(options.network === undefined ? {} : { network: options.network }),
    ...(options.podRange === undefined ? {} : { podRange: options.podRange }),
    ...(options.serviceRange === undefined ? {} : { serviceRange: options.serviceRange }),
    ...(options.registryMirror === undefined || options.registryMirror.length === 0
      ? {}
      : { registryMirrors: options.registryMirror }),
    ...etcdOf(options),
    ...(options.kubeApiserverArg === undefined || options.kubeApiserverArg.length === 0
      ? {}
      : { kubeApiserverArgs: checkServerArguments(options.kubeApiserverArg) }),
  };
}

function etcdOf(options: PlatformOptions): Pick<InstanceChoices, 'etcd'> {
  const { etcdEndpoints: endpoints = [], etcdCafile, etcdCertfile, etcdKeyfile, etcdPrefix } = options;
  const rest = {
    ...(etcdCafile === undefined ? {} : { cafile: resolve(etcdCafile) }),
    ...(etcdCertfile === undefined ? {} : { certfile: resolve(etcdCertfile) }),
    ...(etcdKeyfile === undefined ? {} : { keyfile: resolve(etcdKeyfile) }),
    ...(etcdPrefix === undefined ? {} : { prefix: etcdPrefix }),
  };
  if (endpoints.length > 0) return { etcd: { endpoints, ...rest } };
  if (Object.keys(rest).length > 0) throw new UsageError('--etcd-endpoints says which etcd is meant');
  return {};
}

export function requireRoot(what: string): void {
  if (process.getuid?.() !== 0)
    throw new UsageError(
      `${what} needs root: it makes containers, networks and cgroups. Run it with sudo; 'tiphys doctor' checks the rest of this machine`,
    );
}

/** What `up` adds to the machine, for the listing before the first time. */
export function additions(paths: Paths, options: PlatformOptions): string[] {
  const missing = missingTools(linuxProcesses, [...tools, ...archiveTools]);
  return [
    ...missing.map((tool) => `package  ${tool.package}, by apt-get (${tool.why})`),
    `files    ${paths.data} (data), ${paths.run} (sockets, logs, kubeconfig)`,
    'files    contexts named tiphys in ~/.docker and ~/.kube/config; the current context stays',
    "links    tph* (bridges and veths of containers), a link with the node's addresses",
    'rules    nftables tables tiphys_*; net.ipv4.ip_forward=1',
    `ports    127.0.0.1:${options.apiPort ?? 6443} (API), 127.0.0.1:${options.registryPort ?? 5000} (registry); ${options.httpPort ?? 80} and ${options.httpsPort ?? 443} once an Ingress exists`,
    'cgroups  tiphys_*',
    ...(paths.home === undefined && existsSync('/run/systemd/system')
      ? ['unit     tiphys.service, so that it comes back after a boot']
      : []),
  ];
}

/** Lists, asks and installs. False: the user said no, or only wanted the list. */
export async function prepareMachine(paths: Paths, options: PlatformOptions, extra: string[] = []): Promise<boolean> {
  const required = missingTools(linuxProcesses, tools);
  // Tried once, before there is an instance: a machine without packages must not try again at each start.
  const missing = [
    ...required,
    ...(loadInstance(paths) === undefined ? missingTools(linuxProcesses, archiveTools) : []),
  ];
  if (options.dryRun === true || missing.length > 0 || extra.length > 0) {
    print('This adds to the machine:');
    for (const line of [...additions(paths, options), ...extra]) print(`  ${line}`);
    print("'tiphys uninstall' removes all of it.");
  }
  if (options.dryRun === true) return false;
  if (missing.length === 0 && extra.length === 0) return true;
  if (options.yes !== true && !(await confirm('Go ahead?'))) return false;
  try {
    await installPackages(linuxProcesses, paths, missing, (line) => print(`  ${line}`));
  } catch (error) {
    if (required.length > 0) throw error;
    print(
      `  note: ${missing.map((tool) => tool.package).join(', ')} could not be installed; archives that need them are refused`,
    );
  }
  return true;
}

export async function up(options: PlatformOptions): Promise<void> {
  requireRoot('tiphys up');
  const paths = pathsOf(process.env, options.data);
  if (!(await prepareMachine(paths, options))) return;
  const begun = realClock.monotonic();
  const { instance, started, notes } = await bringUp(paths, choicesOf(options), { replace: options.replace === true });
  if (started.length === 0) print('Tiphys is already up.');
  else print(`Tiphys is up after ${seconds(realClock.monotonic() - begun)}.`);
  for (const note of notes) print(`  note: ${note}`);
  if (runsServer(instance))
    print(`  API server  https://127.0.0.1:${instance.apiPort}   kubectl --context tiphys get nodes`);
  if (instance.joined !== undefined)
    print(`  Cluster     ${instance.joined.server}, as node ${instance.joined.node}   tiphys nodes`);
  print(`  Docker      ${files.dockerSocket(paths)}   docker --context tiphys ps`);
  if (instance.etcd !== undefined) print(`  State       etcd ${instance.etcd.endpoints.join(', ')}`);
  if (instance.joined === undefined) print(`  Registry    127.0.0.1:${instance.registryPort}`);
  if (options.foreground === true) await stayInForeground(paths);
}

async function stayInForeground(paths: Paths): Promise<void> {
  await new Promise<void>((resolve) => {
    process.once('SIGINT', resolve);
    process.once('SIGTERM', resolve);
    const keep = setIntervalForever();
    keep();
  });
  const { loadInstance } = await import('#platform/instance.ts');
  const instance = loadInstance(paths);
  if (instance !== undefined)
    for (const name of knownParts(paths).reverse()) await stopPart(paths, name, linuxProcesses, realClock);
}

/** Keeps the event loop alive while nothing else does. */
function setIntervalForever(): () => void {
  const tick = (): void => {
    realClock.setTimer(3_600_000, tick);
  };
  return tick;
}
