/**
 * `tiphys rehearse`: manifests (or a live cluster's state) in virtual time under faults; prints timeline and verdicts.
 * Exit status 0: nothing worse than
 * `--fail-on` allows; 1: something is; 2: nothing was rehearsed, because an option or a manifest is wrong or the live
 * cluster cannot be read.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { delimiter, join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { isQuantity } from '#base/quantity.ts';
import { formatYaml } from '#base/yaml.ts';
import { messageOf } from '#base/thrown.ts';
import { type KubeconfigContext, loadKubeconfig } from '#client/kubeconfig.ts';
import { createClient } from '#client/rest-client.ts';
import { createHttpTransport } from '#client/transport-http.ts';
import { realClock } from '#os/clock.real.ts';
import { nodesOf } from '#sim/rehearse/setup.ts';
import { severityNames } from '#sim/rehearse/severity.ts';
import { runRehearsals } from '#sim/rehearse/threads.ts';
import { type Change, RehearsalError, type RehearsalNode, type RehearseOptions } from '#sim/rehearse/types.ts';
import { print, UsageError } from '../output.ts';
import { nodeManifest } from '../rehearse/clean.ts';
import { readDuration, readFaults, readMoment } from '../rehearse/faults.ts';
import { readCluster } from '../rehearse/live.ts';
import { type ManifestSet, readManifests, type ReadOptions } from '../rehearse/manifests.ts';
import { printResult } from '../rehearse/print.ts';
import { failedSeeds, jsonResult } from '../rehearse/summary.ts';

export interface RehearseCommandOptions {
  file?: string[];
  recursive?: boolean;
  namespace?: string;
  fromKubeconfig?: string | true;
  context?: string;
  save?: string;
  nodes?: string;
  nodeCpu?: string;
  nodeMemory?: string;
  then?: string[];
  killNode?: string[];
  killZone?: string[];
  drain?: string[];
  apiDown?: string[];
  slowPull?: string;
  for?: string;
  start?: string;
  seeds?: string;
  seed?: string;
  failOn?: string;
  json?: boolean;
}

const seedsMax = 100_000;

/** The first file that has the context; `KUBECONFIG` may name several. */
function kubeconfigOf(path: string | true, context: string | undefined): KubeconfigContext {
  const paths =
    path === true
      ? (process.env['KUBECONFIG'] ?? join(process.env['HOME'] ?? '/root', '.kube/config'))
          .split(delimiter)
          .filter((one) => one !== '')
      : [path];
  const present = paths.filter((one) => existsSync(one));
  if (present.length === 0) throw new UsageError(`--from-kubeconfig: there is no file ${paths.join(', ')}`);
  let failure = '';
  for (const one of present) {
    try {
      return loadKubeconfig(one, context);
    } catch (error) {
      if (failure === '') failure = `${one}: ${messageOf(error)}`;
    }
  }
  throw new UsageError(`--from-kubeconfig: ${failure}`);
}

async function readLive(path: string | true, context: string | undefined): Promise<ManifestSet> {
  const chosen = kubeconfigOf(path, context);
  await using transport = createHttpTransport({ ...chosen, clock: realClock });
  try {
    return await readCluster(createClient(transport, 'tiphys-rehearse'), `cluster ${chosen.context}`);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const hint =
      ['Unauthorized', 'Forbidden'].includes(error.reason) &&
      chosen.certificate === undefined &&
      chosen.token === undefined
        ? '; this kubeconfig has neither certificate nor token (programs that fetch one are not run: kubectl get -o yaml writes files that -f takes)'
        : '';
    throw new UsageError(
      `cannot read the cluster of context ${chosen.context} at ${chosen.server}: ${error.message}${hint}`,
    );
  }
}

function nodesFor(options: RehearseCommandOptions, given: readonly RehearsalNode[]): readonly RehearsalNode[] {
  const { nodeCpu: cpu, nodeMemory: memory } = options;
  for (const [name, value] of [
    ['--node-cpu', cpu],
    ['--node-memory', memory],
  ] as const)
    if (value !== undefined && !isQuantity(value))
      throw new UsageError(`${name}: ${JSON.stringify(value)} is not an amount like 4 or 16Gi`);
  const count = options.nodes === undefined ? undefined : Number(options.nodes);
  if (count !== undefined && (!Number.isInteger(count) || count < 1 || count > 5_000))
    throw new UsageError(`--nodes: ${JSON.stringify(options.nodes)} is not a number of nodes (1 to 5000)`);
  const nodes = count === undefined && given.length > 0 ? given : nodesOf(count ?? 3);
  return nodes.map((node) => ({
    ...node,
    ...(cpu === undefined ? {} : { cpu }),
    ...(memory === undefined ? {} : { memory }),
  }));
}

function seedsOf({ seeds, seed }: RehearseCommandOptions): number[] {
  const whole = (option: string, text: string): number => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < 1 || value > seedsMax)
      throw new UsageError(`${option}: ${JSON.stringify(text)} is not a whole number from 1 to ${seedsMax}`);
    return value;
  };
  if (seed !== undefined && seeds !== undefined) throw new UsageError('--seeds and --seed exclude each other');
  return seed !== undefined
    ? [whole('--seed', seed)]
    : Array.from({ length: whole('--seeds', seeds ?? '1') }, (_unused, index) => index + 1);
}

/**
 * Writes a live cluster's copy as manifests. They keep a uid, by which a reader knows that they come from a server of
 * whatever version.
 */
function saveCopy(path: string, { manifests, nodes }: ManifestSet): void {
  const items = [
    ...nodes.map(nodeManifest),
    ...manifests.map(({ object }, index) => ({ ...object, metadata: { ...object.metadata, uid: `copy-${index}` } })),
  ];
  try {
    writeFileSync(path, formatYaml({ apiVersion: 'v1', kind: 'List', items }), { mode: 0o600 });
  } catch (error) {
    throw new UsageError(`--save: ${messageOf(error)}`);
  }
}

/**
 * The command that repeats one seed, from the words that were given; of a live cluster, whose state moves on, from the
 * copy that was saved.
 */
export function repeatCommand(words: readonly string[], seed: number): string {
  const takesWord = /^--(seeds?|save|context)$/;
  const isSaved = words.some((word) => /^--save(=|$)/.test(word));
  const dropped = isSaved ? /^--(seeds?|save|context|from-kubeconfig)(=|$)/ : /^--seeds?(=|$)/;
  const kept: string[] = [];
  for (let at = 0; at < words.length; at++) {
    const [word = '', next] = words.slice(at, at + 2);
    if (word === '--json') continue;
    if (!dropped.test(word)) {
      kept.push(word);
      continue;
    }
    // Files of the user's own come on top of the copy.
    if (word.startsWith('--save'))
      kept.splice(1, 0, '-f', word.startsWith('--save=') ? word.slice('--save='.length) : (next ?? ''));
    // The path of --from-kubeconfig may be absent.
    if (takesWord.test(word) || (word === '--from-kubeconfig' && next !== undefined && !next.startsWith('-'))) at += 1;
  }
  const quoted = kept.map((word) => (/^[\w./:=@%+,~-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`));
  return ['tiphys', ...quoted, '--seed', String(seed)].join(' ');
}

async function optionsOf(options: RehearseCommandOptions): Promise<{ rehearse: RehearseOptions; notes: string[] }> {
  const files = options.file ?? [];
  if (files.length === 0 && options.fromKubeconfig === undefined)
    throw new UsageError('name manifests with -f, a live cluster with --from-kubeconfig, or both');
  if (options.context !== undefined && options.fromKubeconfig === undefined)
    throw new UsageError('--context needs --from-kubeconfig');
  if (options.save !== undefined && options.fromKubeconfig === undefined)
    throw new UsageError('--save needs --from-kubeconfig');
  const forMs = readDuration('--for', options.for ?? '2h');
  if (forMs < 1_000) throw new UsageError('--for: at least 1s');
  if (options.start !== undefined && Number.isNaN(Date.parse(options.start)))
    throw new UsageError(`--start: ${JSON.stringify(options.start)} is not a time like 2026-03-29T00:30:00Z`);
  const faults = [
    ...readFaults('kill-node', options.killNode, forMs),
    ...readFaults('kill-zone', options.killZone, forMs),
    ...readFaults('drain', options.drain, forMs),
    ...readFaults('api-down', options.apiDown, forMs),
  ];
  const reading: ReadOptions = {
    recursive: options.recursive === true,
    namespace: options.namespace,
    readInput: () => readFileSync(0, 'utf8'),
  };
  const changes = (options.then ?? []).map((text): Change => {
    const { atMs, target, ...other } = readMoment('--then', text);
    if (target === undefined || Object.keys(other).length > 0)
      throw new UsageError(`--then: ${JSON.stringify(text)} is not written TIME=PATH, such as 20m=next/`);
    if (atMs >= forMs) throw new UsageError(`--then ${text}: that is not before the end (--for)`);
    return { atMs, label: target, manifests: readManifests([target], reading).manifests };
  });
  const given = readManifests(files, reading);
  const live =
    options.fromKubeconfig === undefined ? undefined : await readLive(options.fromKubeconfig, options.context);
  if (options.save !== undefined && live !== undefined) saveCopy(options.save, live);
  const nodes = nodesFor(options, given.nodes.length > 0 ? given.nodes : (live?.nodes ?? []));
  const slowPullMs = options.slowPull === undefined ? undefined : readDuration('--slow-pull', options.slowPull);
  return {
    rehearse: {
      manifests: [...(live?.manifests ?? []), ...given.manifests],
      nodes,
      faults,
      changes,
      forMs,
      ...(slowPullMs === undefined ? {} : { slowPullMs }),
      ...(options.start === undefined ? {} : { start: options.start }),
    },
    notes: [...(live?.notes ?? []), ...given.notes],
  };
}

/** `words` are the command line's, without the program. */
export async function rehearseCommand(options: RehearseCommandOptions, words: readonly string[]): Promise<void> {
  const failOn = options.failOn ?? 'unavailable';
  const [, severity] = Object.entries(severityNames).find(([name]) => name === failOn) ?? [];
  if (severity === undefined)
    throw new UsageError(`--fail-on: ${JSON.stringify(failOn)} is none of ${Object.keys(severityNames).join(', ')}`);
  const seeds = seedsOf(options);
  const begun = realClock.monotonic();
  const { rehearse, notes } = await optionsOf(options);
  let done;
  try {
    done = await runRehearsals(rehearse, seeds, availableParallelism());
  } catch (error) {
    if (error instanceof RehearsalError) throw new UsageError(error.message);
    throw error;
  }
  const repeat = (seed: number): string => repeatCommand(words, seed);
  const failed = failedSeeds(done.rehearsals, severity);
  const allNotes = [...notes, ...done.notes];
  if (options.json === true)
    print(JSON.stringify(jsonResult(done.rehearsals, { name: failOn, severity }, repeat, allNotes)));
  else {
    for (const note of allNotes) print(`note: ${note}`);
    if (allNotes.length > 0) print();
    printResult({ all: done.rehearsals, failed, failOn, repeat, tookMs: realClock.monotonic() - begun });
  }
  if (failed.length > 0) process.exitCode = 1;
}
