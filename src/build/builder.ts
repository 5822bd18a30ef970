/**
 * The builder as a service: takes requests of the classic API, bounds how many run at a time, and cleans at start what
 * a dead process left.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { parseReference } from '#base/reference.ts';
import type { Content } from '#content/content.ts';
import type { ImageRecord, ImageRecords } from '#content/image-records.ts';
import type { BuildSnapshots } from '#content/snapshots.ts';
import type { ImageStore } from '#engine/images.ts';
import { isForPlatform } from '#engine/images-pull.ts';
import type { Clock, Random } from '#os/clock.ts';
import { runBuild } from './build.ts';
import type { BuilderParts, BuildRequest } from './build.ts';
import { createBuildCache } from './cache.ts';
import type { BuildCache } from './cache.ts';
import { receiveContext } from './context.ts';
import type { BuildContext, ContextOptions } from './context.ts';
import { buildsInParallelMax } from './limits.ts';
import type { BuildRunner } from './runner.ts';

export interface BuilderOptions {
  content: Content;
  images: ImageStore;
  records: ImageRecords;
  snapshots: BuildSnapshots;
  runner: BuildRunner;
  clock: Clock;
  random: Random;
  hostEnvironment?: HostEnvironment;
}

/** What RUN steps may see of the host without the image keeping it. */
export interface HostEnvironment {
  /** `HTTP_PROXY=…` and the like. */
  proxies: string[];
  /** A bundle of certificates of the host that RUN steps trust; off unless given. */
  certificatesFile?: string;
}

export interface Builder {
  readonly cache: BuildCache;
  receiveContext(source: AsyncIterable<Uint8Array>, options: ContextOptions): Promise<BuildContext>;
  build(request: Omit<BuildRequest, 'hiddenEnv' | 'hiddenMounts'>): Promise<ImageRecord>;
  /** Removes what an earlier process left half made. */
  recover(): Promise<void>;
}

const certificatesTarget = '/dev/tiphys-certificates.crt';
const certificateVariables = [
  'SSL_CERT_FILE',
  'CURL_CA_BUNDLE',
  'REQUESTS_CA_BUNDLE',
  'NODE_EXTRA_CA_CERTS',
  'GIT_SSL_CAINFO',
  'PIP_CERT',
];

class ClassicBuilder implements Builder {
  readonly #options: BuilderOptions;
  readonly #parts: BuilderParts;
  readonly cache: BuildCache;
  #running = 0;

  constructor(options: BuilderOptions) {
    this.#options = options;
    this.cache = createBuildCache(options.content, options.records, options.clock);
    this.#parts = {
      content: options.content,
      images: options.records,
      snapshots: options.snapshots,
      runner: options.runner,
      cache: this.cache,
      clock: options.clock,
      random: options.random,
      transport: options.images.options.transport,
      pullImage: async (reference, { always, platform, credential, onEvent, signal }) => {
        // By name or by an id as docker prints it: one letter of an id is not what a Dockerfile means.
        const find = (): ImageRecord | undefined => options.records.find(reference, { idPrefixMin: 12 });
        const known = always ? undefined : find();
        if (known !== undefined && (platform === undefined || isForPlatform(known, platform))) return known;
        const login = await credential?.(parseReference(reference).domain);
        const pulled = await options.images.pull(reference, {
          onProgress: onEvent,
          signal,
          ...(platform === undefined ? {} : { platform }),
          ...(login === undefined ? {} : { credential: login }),
        });
        return options.images.record(pulled.id);
      },
    };
  }

  receiveContext(source: AsyncIterable<Uint8Array>, options: ContextOptions): Promise<BuildContext> {
    return receiveContext(this.#options.content, source, options);
  }

  async build(request: Omit<BuildRequest, 'hiddenEnv' | 'hiddenMounts'>): Promise<ImageRecord> {
    if (this.#running >= buildsInParallelMax) throw new ApiError('TooManyRequests', 'too many builds at a time');
    this.#running++;
    const { proxies = [], certificatesFile } = this.#options.hostEnvironment ?? {};
    const hiddenEnv = [
      ...proxies,
      ...(certificatesFile === undefined ? [] : certificateVariables.map((name) => `${name}=${certificatesTarget}`)),
    ];
    const hiddenMounts =
      certificatesFile === undefined
        ? []
        : [{ type: 'bind' as const, source: certificatesFile, target: certificatesTarget, readOnly: true }];
    try {
      return await runBuild(this.#parts, { ...request, hiddenEnv, hiddenMounts });
    } finally {
      this.#running--;
    }
  }

  async recover(): Promise<void> {
    const { snapshots, content, runner } = this.#options;
    await runner.removeStale();
    for (const id of readdirSync(join(content.root, 'containers')))
      if (id.startsWith('build-')) await snapshots.removeContainerRoot(id);
    const orphans = this.#options.records
      .list()
      .filter((record) => record.isIntermediate === true && record.file.history === undefined);
    await this.#options.records.commit(
      orphans.map((record) => ({ table: 'images', key: record.id, value: undefined })),
    );
    // Every owner has registered by now: what none of them names is left over from a process that died.
    await content.collect({ evenYoung: true });
  }
}

export function createBuilder(options: BuilderOptions): Builder {
  return new ClassicBuilder(options);
}
