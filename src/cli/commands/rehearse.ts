/** `tiphys rehearse`: reads manifests (or a live cluster's objects), runs them under faults in virtual time, prints timeline and verdicts. */
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { loadAll } from 'js-yaml';
import type { Json, KindRef, KubeObject } from '#base/objects.ts';
import { loadKubeconfig } from '#client/kubeconfig.ts';
import { kinds } from '#client/kinds.ts';
import { createClient } from '#client/rest-client.ts';
import { createHttpTransport } from '#client/transport-http.ts';
import { realClock } from '#os/clock.real.ts';
import { durationMs, type Duration } from '#sim/duration.ts';
import type { NodeOptions } from '#sim/nodes.ts';
import { badness, rehearse, type Fault, type Rehearsal } from '#sim/rehearse.ts';
import { print, seconds, table, UsageError } from '../output.ts';

export interface RehearseCommandOptions { file?: string[]; nodes?: number; fromKubeconfig?: string | true; killNode?: string[]; drain?: string[]; slowPull?: string; for?: string; seeds?: string; seed?: string; json?: boolean }

function manifestFiles(paths: string[]): string[] {
  return paths.flatMap((path) => (statSync(path).isDirectory() ? readdirSync(path).filter((name) => /\.(ya?ml|json)$/.test(name)).sort().map((name) => join(path, name)) : [path]));
}

function readManifests(paths: string[]): KubeObject[] {
  const objects: KubeObject[] = [];
  for (const path of manifestFiles(paths)) {
    let values: Json[];
    try { values = loadAll(readFileSync(path, 'utf8')) as Json[]; } catch (error) { throw new UsageError(`${path}: ${(error as Error).message}`); }
    for (const value of values) {
      if (value === null || value === undefined) continue;
      const list: Json[] = value.kind === 'List' ? value.items : [value];
      for (const object of list) {
        if (typeof object?.kind !== 'string' || typeof object.apiVersion !== 'string' || typeof object.metadata?.name !== 'string') throw new UsageError(`${path}: an object needs apiVersion, kind and metadata.name`);
        objects.push(object);
      }
    }
  }
  if (objects.length === 0) throw new UsageError(`no manifests in ${paths.join(', ')}`);
  return objects;
}

const copied: KindRef[] = [kinds.Namespace, kinds.PriorityClass, kinds.StorageClass, kinds.LimitRange, kinds.ResourceQuota, kinds.ConfigMap, kinds.ServiceAccount, kinds.Service, kinds.PersistentVolumeClaim, kinds.Deployment, kinds.StatefulSet, kinds.DaemonSet, kinds.CronJob, kinds.PodDisruptionBudget, kinds.HorizontalPodAutoscaler];

/** A live cluster's objects without what it has added, and its nodes. Secrets are left out: nothing here needs them. */
async function readCluster(path: string): Promise<{ manifests: KubeObject[]; nodes: NodeOptions[] }> {
  await using transport = createHttpTransport({ ...loadKubeconfig(path), clock: realClock });
  const client = createClient(transport, 'tiphys-rehearse');
  const manifests: KubeObject[] = [];
  for (const kind of copied) {
    for (const object of (await client.list(kind)).items) {
      if (object.metadata.ownerReferences !== undefined || object.metadata.namespace?.startsWith('kube-') === true || object.metadata.name?.startsWith('system-') === true || object.metadata.name?.startsWith('kube-') === true) continue;
      const { name, namespace, labels, annotations } = object.metadata;
      const spec = structuredClone(object.spec);
      if (kind === kinds.Service) for (const field of ['clusterIP', 'clusterIPs']) if (spec[field] !== 'None' && spec[field]?.[0] !== 'None') delete spec[field];
      if (kind === kinds.PersistentVolumeClaim) delete spec.volumeName;
      const { status: _status, ...rest } = object;
      manifests.push({ ...rest, apiVersion: kind.group === '' ? 'v1' : `${kind.group}/${kind.version}`, kind: kind.kind, metadata: { name: name!, ...(namespace === undefined ? {} : { namespace }), ...(labels === undefined ? {} : { labels }), ...(annotations === undefined ? {} : { annotations }) }, ...(spec === undefined ? {} : { spec }) });
    }
  }
  const nodes = (await client.list(kinds.Node)).items.map((node): NodeOptions => ({ name: node.metadata.name!, cpu: node.status.allocatable.cpu, memory: node.status.allocatable.memory, labels: node.metadata.labels ?? {}, ...(node.spec.taints === undefined ? {} : { taints: node.spec.taints }) }));
  return { manifests, nodes };
}

function faultsOf(options: RehearseCommandOptions): Fault[] {
  const at = (text: string): number => { try { return durationMs(text as Duration); } catch { throw new UsageError(`${JSON.stringify(text)} is not a time like 10m or 2h`); } };
  return [...(options.killNode ?? []).map((text): Fault => ({ kind: 'kill-node', atMs: at(text) })), ...(options.drain ?? []).map((text): Fault => ({ kind: 'drain', atMs: at(text) }))];
}

function printResult(worst: Rehearsal, all: Rehearsal[], tookMs: number): void {
  const clock = (total: number): string => `${String(Math.floor(total / 3600)).padStart(2, '0')}:${String(Math.floor(total / 60) % 60).padStart(2, '0')}:${String(total % 60).padStart(2, '0')}`;
  print(`Timeline of seed ${worst.seed}${all.length > 1 ? `, the worst of ${all.length}` : ''}:`);
  for (const entry of worst.timeline.slice(0, 200)) print(`  ${clock(entry.atSeconds)}  ${entry.what}`);
  if (worst.timeline.length > 200) print(`  … and ${worst.timeline.length - 200} more (--json has all)`);
  print();
  print(table([['WORKLOAD', 'WANTED', 'LOWEST', 'BELOW', 'DOWN', 'RESTARTS', 'VERDICT'], ...worst.workloads.map((report) => [report.name, String(report.wanted), String(report.lowestReady), `${report.belowSeconds} s`, `${report.downSeconds} s`, String(report.restarts), report.verdict])]));
  for (const report of worst.workloads) for (const { pod, why } of report.stuck) print(`  ${pod}: ${why}`);
  for (const budget of worst.budgets) print(`  disruption budget ${budget.name}: ${budget.brokenSeconds === 0 ? 'kept' : `undercut for ${budget.brokenSeconds} s`}`);
  const bad = all.filter((result) => isBad(result)).length;
  print(`\n${all.length} seed${all.length === 1 ? '' : 's'} of ${clock(worst.virtualSeconds)} each in ${seconds(tookMs)}; ${bad === 0 ? 'nothing was unavailable' : `${bad} with a workload that was unavailable, did not come back or never ran; the worst again: --seed ${worst.seed}`}.`);
}

function isBad(result: Rehearsal): boolean {
  return result.workloads.some((report) => report.verdict !== 'ok' && report.verdict !== 'degraded');
}

export async function rehearseCommand(options: RehearseCommandOptions): Promise<void> {
  if ((options.file === undefined || options.file.length === 0) === (options.fromKubeconfig === undefined)) throw new UsageError('name manifests with -f, or a live cluster with --from-kubeconfig');
  const live = options.fromKubeconfig === undefined ? undefined : await readCluster(options.fromKubeconfig === true ? process.env['KUBECONFIG'] ?? join(process.env['HOME'] ?? '/root', '.kube/config') : options.fromKubeconfig);
  const manifests = live?.manifests ?? readManifests(options.file!);
  const seeds = options.seed !== undefined ? [Number(options.seed)] : Array.from({ length: Number(options.seeds ?? 1) }, (_unused, index) => index + 1);
  if (seeds.length === 0 || seeds.some((seed) => !Number.isInteger(seed) || seed < 1)) throw new UsageError('--seeds and --seed take whole numbers from 1');
  const begun = realClock.monotonic();
  const results = await rehearse({ manifests, nodes: options.nodes ?? live?.nodes ?? 3, faults: faultsOf(options), forMs: durationMs((options.for ?? '2h') as Duration), seeds, ...(options.slowPull === undefined ? {} : { slowPullMs: durationMs(options.slowPull as Duration) }) });
  const worst = results.reduce((a, b) => (badness(b) > badness(a) ? b : a));
  if (options.json === true) print(JSON.stringify({ worst: worst.seed, seeds: results }));
  else printResult(worst, results, realClock.monotonic() - begun);
  if (results.some(isBad)) process.exitCode = 1;
}
