/** `tiphys status`: parts, ports, versions and the memory that is this instance's own share (proportional set size). */
import { join } from 'node:path';
import { listDirectory, readIfExists } from '#os/files.ts';
import { describeState } from '#platform/cluster-store.ts';
import { formatDuration } from '#base/duration.ts';
import { messageOf } from '#base/thrown.ts';
import { reportEtcd, type EtcdReport } from '#platform/etcd/report.ts';
import { loadInstance, runsServer, type Instance } from '#platform/instance.ts';
import { loadResult, loadSchedule } from '#platform/backup/schedule.ts';
import { listMachineNodes } from '#platform/machines.ts';
import { knownParts, partStatus } from '#platform/launch.ts';
import { diskProblems } from '#platform/disk-problems.ts';
import { files, pathsOf, type Paths } from '#platform/paths.ts';
import { upgradeProblems } from '#platform/upgrade/record.ts';
import { kubernetesVersion, programVersion, tiphysVersion } from '#platform/version.ts';
import { bytes, print, table } from '../output.ts';

/** Proportional set size of a process, bytes. */
export function pssOf(pid: number): number {
  const kib = /^Pss:\s+(\d+) kB/m.exec(readIfExists(`/proc/${pid}/smaps_rollup`) ?? '')?.[1];
  return Number(kib ?? 0) * 1024;
}

/** A process and all that descend from it. */
export function tree(pid: number): number[] {
  const children = (readIfExists(join('/proc', String(pid), 'task', String(pid), 'children')) ?? '')
    .trim()
    .split(' ')
    .filter((text) => text !== '')
    .map(Number);
  return [pid, ...children.flatMap(tree)];
}

/** The cluster's nodes in a word, or why they are not known. */
async function clusterOf(paths: Paths, instance: Instance): Promise<string> {
  if (instance.joined?.hasLeft === true) return 'this machine has left the cluster';
  try {
    const nodes = await listMachineNodes(paths);
    const unwell = nodes.filter(({ health }) => !health.startsWith('Ready'));
    return `${nodes.length}, ${unwell.length === 0 ? 'all ready' : `not ready: ${unwell.map(({ name }) => name).join(', ')}`}`;
  } catch (error) {
    return `not known: ${messageOf(error)}`;
  }
}

/** Which backups are made by themselves, and how the last one went; nothing where none are. */
function backups(paths: Paths): string[] {
  try {
    const schedule = loadSchedule(paths);
    if (schedule === undefined) return [];
    const last = loadResult(paths);
    const at = (ms: number | undefined): string => (ms === undefined ? 'never' : new Date(ms).toISOString());
    const went =
      last === undefined
        ? 'none yet'
        : last.error !== undefined
          ? `FAILED at ${at(last.begunAtMs)}: ${last.error} (last good one: ${at(last.lastGoodAtMs)})`
          : last.endedAtMs === undefined
            ? `one began at ${at(last.begunAtMs)}`
            : `last ${last.name ?? ''}, ${bytes(last.bytes ?? 0)}, revision ${last.revision ?? 0}`;
    const { everyMs, keep, target } = schedule;
    return [`every ${formatDuration(everyMs)} to ${target}, ${keep} kept; ${went}`];
  } catch (error) {
    return [`not known: ${messageOf(error)}`];
  }
}

/** Of the cluster's own etcd. */
async function etcdReport(paths: Paths, instance: Instance): Promise<EtcdReport | undefined> {
  if (instance.joined?.hasLeft === true) return undefined;
  try {
    return await reportEtcd(paths, instance);
  } catch (error) {
    return { members: [], problems: [`the members of etcd are not known: ${messageOf(error)}`] };
  }
}

/** What is to be known of the instance, a name and its value each. */
function factRows(
  paths: Paths,
  instance: Instance,
  { cluster, etcd }: { cluster: string; etcd: EtcdReport | undefined },
): string[][] {
  return [
    ['Version', `${programVersion()} (Kubernetes API ${kubernetesVersion})`],
    ...(runsServer(instance) ? [['API server', `https://127.0.0.1:${instance.apiPort}`]] : []),
    ...(instance.joined === undefined
      ? []
      : [
          [
            'Cluster',
            `${instance.joined.server}, as ${runsServer(instance) ? 'server' : 'node'} ${instance.joined.node}`,
          ],
        ]),
    ['Nodes', cluster],
    ['Docker', files.dockerSocket(paths)],
    ...(instance.joined === undefined ? [['Registry', `127.0.0.1:${instance.registryPort}`]] : []),
    ['Ingress', `port ${instance.httpPort}, TLS ${instance.httpsPort}`],
    ['Pods, Services', `${instance.podRange}, ${instance.serviceRange}`],
    ...(runsServer(instance) ? [['State', describeState(paths, instance.etcd)]] : []),
    ...(etcd?.members ?? []).map(({ name, state, version, sizeBytes }) => [
      `  ${name}`,
      `${state}${version === '' ? '' : `, etcd ${version}, ${bytes(sizeBytes)}`}`,
    ]),
    ...backups(paths).map((text) => ['Backups', text]),
    ['Data', paths.data],
    ['Logs', files.logs(paths)],
  ];
}

export async function status(options: { json?: boolean }): Promise<void> {
  const paths = pathsOf(process.env);
  const instance = loadInstance(paths);
  if (instance === undefined) {
    if (options.json === true) print(JSON.stringify({ running: false, parts: [] }));
    else print(`No instance in ${paths.data}. 'tiphys up' makes one.`);
    process.exitCode = 1;
    return;
  }
  const parts = knownParts(paths)
    .map((name) => partStatus(paths, name))
    .map((part) => ({
      name: part.name,
      state: part.ready
        ? 'ready'
        : part.pid !== undefined
          ? 'starting'
          : part.supervisor !== undefined
            ? 'restarting'
            : 'down',
      pid: part.pid,
      pssBytes: part.supervisor === undefined ? 0 : tree(part.supervisor).reduce((sum, pid) => sum + pssOf(pid), 0),
    }));
  const extra = listDirectory(paths.run)
    .filter((name) => /^node-\d+$/.test(name))
    .map((name) => ({
      name: `${name} haproxy`,
      pid: Number(readIfExists(join(paths.run, name, 'ingress/haproxy.pid'))?.trim()),
    }))
    .filter((entry) => entry.pid > 0 && readIfExists(`/proc/${entry.pid}/comm`)?.trim() === 'haproxy');
  const all = [
    ...parts,
    ...extra.map((entry) => ({ name: entry.name, state: 'ready', pid: entry.pid, pssBytes: pssOf(entry.pid) })),
  ];
  const running = parts.every((part) => part.state === 'ready');
  const cluster = await clusterOf(paths, instance);
  const etcd = await etcdReport(paths, instance);
  const problems = [...upgradeProblems(paths), ...diskProblems(paths, instance), ...(etcd?.problems ?? [])];
  if (options.json === true)
    print(
      JSON.stringify({
        running,
        instance,
        cluster,
        ...(etcd === undefined ? {} : { etcd }),
        problems,
        parts: all,
        versions: { tiphys: tiphysVersion(), program: programVersion(), kubernetes: kubernetesVersion },
        backups: backups(paths)[0] ?? null,
        dockerSocket: files.dockerSocket(paths),
        ...(runsServer(instance) ? { kubeconfig: files.adminConfig(paths) } : {}),
      }),
    );
  else {
    print(
      table([
        ['PART', 'STATE', 'PID', 'MEMORY'],
        ...all.map((part) => [part.name, part.state, String(part.pid ?? '-'), bytes(part.pssBytes)]),
        ['total', '', '', bytes(all.reduce((sum, part) => sum + part.pssBytes, 0))],
      ]),
    );
    print();
    print(table(factRows(paths, instance, { cluster, etcd })));
    for (const problem of problems) print(`note: ${problem}`);
  }
  if (!running) process.exitCode = 1;
}
