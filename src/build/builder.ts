/**
 * The builder as a service: takes requests of the classic API, bounds how many run at a time, and cleans at start what a dead process left.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ApiError } from '#base/errors.ts';
import type { Content } from '#content/content.ts';
import type { ImageRecord, ImageRecords, RunConfig } from '#content/image-records.ts';
import type { BuildSnapshots } from '#content/snapshots.ts';
import type { ImageStore } from '#engine/images.ts';
import type { Clock, Random } from '#os/clock.ts';
import { runBuild } from './build.ts';
import type { BuilderParts, BuildRequest } from './build.ts';
import { createBuildCache } from './cache.ts';
import type { BuildCache } from './cache.ts';
import { receiveContext } from './context.ts';
import type { BuildContext } from './context.ts';
import { applyConfig } from './dockerfile/config.ts';
import { parseTrigger } from './dockerfile/parser.ts';
import { buildsInParallelMax } from './limits.ts';
import type { Processes } from '#os/processes.ts';
import type { BuildRunner } from './runner.ts';

export interface BuilderOptions { content: Content; images: ImageStore; records: ImageRecords; snapshots: BuildSnapshots; runner: BuildRunner; clock: Clock; random: Random; /** Expands bzip2 and xz contexts by the host's programs. */ processes?: Processes; hostEnvironment?: HostEnvironment }

/** What RUN steps may see of the host without the image keeping it. */
export interface HostEnvironment {
  /** `HTTP_PROXY=…` and the like. */
  proxies: string[];
  /** A bundle of certificates of the host that RUN steps trust; off unless given. */
  certificatesFile?: string;
}

export interface Builder {
  readonly cache: BuildCache;
  receiveContext(source: AsyncIterable<Uint8Array>, dockerfile: string, signal?: AbortSignal): Promise<BuildContext>;
  build(request: Omit<BuildRequest, 'hiddenEnv' | 'hiddenMounts'>): Promise<ImageRecord>;
  /** Removes what an earlier process left half made. */
  recover(): Promise<void>;
}

const certificatesTarget = '/dev/tiphys-certificates.crt';
const certificateVariables = ['SSL_CERT_FILE', 'CURL_CA_BUNDLE', 'REQUESTS_CA_BUNDLE', 'NODE_EXTRA_CA_CERTS', 'GIT_SSL_CAINFO', 'PIP_CERT'];

class ClassicBuilder implements Builder {
  readonly #options: BuilderOptions;
  readonly #parts: BuilderParts;
  readonly cache: BuildCache;
  #running = 0;

  constructor(options: BuilderOptions) {
    this.#options = options;
    this.cache = createBuildCache(options.content, options.records, options.clock);
    this.#parts = {
      content: options.content, images: options.records, snapshots: options.snapshots, runner: options.runner, cache: this.cache, clock: options.clock, random: options.random,
      transport: options.images.options.transport,
      pullImage: async (reference, always, onEvent, signal) => {
        const known = always ? undefined : options.records.find(reference);
        if (known === undefined) await options.images.pull(reference, { onProgress: onEvent, signal });
        return options.images.record(reference);
      },
    };
  }

  receiveContext(source: AsyncIterable<Uint8Array>, dockerfile: string, signal?: AbortSignal): Promise<BuildContext> { return receiveContext(this.#options.content, source, dockerfile, signal, expandWith(this.#options.processes)); }

  async build(request: Omit<BuildRequest, 'hiddenEnv' | 'hiddenMounts'>): Promise<ImageRecord> {
    if (this.#running >= buildsInParallelMax) throw new ApiError('TooManyRequests', 'too many builds at a time');
    this.#running++;
    const { proxies = [], certificatesFile } = this.#options.hostEnvironment ?? {};
    const hiddenEnv = [...proxies, ...(certificatesFile === undefined ? [] : certificateVariables.map((name) => `${name}=${certificatesTarget}`))];
    const hiddenMounts = certificatesFile === undefined ? [] : [{ type: 'bind' as const, source: certificatesFile, target: certificatesTarget, readOnly: true }];
    try { return await runBuild(this.#parts, { ...request, hiddenEnv, hiddenMounts }); } finally { this.#running--; }
  }

  async recover(): Promise<void> {
    const { snapshots, content, runner } = this.#options;
    await runner.removeStale();
    for (const id of readdirSync(join(content.root, 'containers'))) if (id.startsWith('build-')) await snapshots.removeContainerRoot(id);
    const orphans = this.#options.records.list().filter((record) => record.isIntermediate === true && record.file.history === undefined);
    await this.#options.records.commit(orphans.map((record) => ({ table: 'images', key: record.id, value: undefined })));
    // Every owner has registered by now: what none of them names is left over from a process that died.
    await content.collect({ evenYoung: true });
  }
}

type ExpandOther = (kind: 'bzip2' | 'xz', source: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>;

function expandWith(processes: Processes | undefined): ExpandOther | undefined {
  if (processes === undefined) return undefined;
  return (kind, source) => {
    const program = processes.find(kind);
    if (program === undefined) throw new ApiError('BadRequest', `the context is compressed with ${kind}, and ${kind} is not installed`);
    const child = processes.spawn(program, ['-dc'], { stdin: 'pipe', stdout: 'pipe' });
    pipeline(Readable.from(source, { objectMode: false }), child.stdin!).catch(() => {});
    return child.stdout as AsyncIterable<Uint8Array>;
  };
}

export function createBuilder(options: BuilderOptions): Builder { return new ClassicBuilder(options); }

/** `--change` of commit and import: instructions applied to a configuration. */
export function applyChanges(config: RunConfig, changes: string[]): RunConfig {
  let out = config;
  for (const change of changes) {
    const instruction = parseTrigger(change);
    if (instruction.keyword === 'WORKDIR') { out = { ...out, WorkingDir: instruction.rest.trim() }; continue; }
    const applied = applyConfig(out, instruction, { variables: () => undefined, escape: '\\' });
    if (applied === undefined) throw new ApiError('BadRequest', `${instruction.keyword.toLowerCase()} is not a valid change command`);
    out = applied;
  }
  return out;
}
