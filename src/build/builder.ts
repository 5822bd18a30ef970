/**
 * The builder as a service: takes requests of the classic API, bounds how many run at a time, and cleans at start what
 * a dead process left.
 */
import { readdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Gate } from '#base/gate.ts';
import { familiarName, parseReference } from '#base/reference.ts';
import type { Content } from '#content/content.ts';
import type { ImageRecord, ImageRecords } from '#content/image-records.ts';
import type { BuildSnapshots } from '#content/snapshots.ts';
import type { ImageStore } from '#engine/images.ts';
import { emitImage } from '#engine/images-options.ts';
import { openRepositoryPlace } from '#engine/images-repository.ts';
import { exportArchive } from '#engine/images-save.ts';
import type { Clock, Random } from '#os/clock.ts';
import type { Mounts } from '#os/mount.ts';
import type { Processes } from '#os/processes.ts';
import { runBuild } from './build.ts';
import type { BuilderParts, BuildRequest } from './build.ts';
import { CacheMounts } from './llb/cache-mounts.ts';
import { secretsDirectory } from './llb/exec.ts';
import type { ExecSettings } from './llb/work.ts';
import { createBuildCache } from './cache-store.ts';
import type { BuildCache } from './cache-store.ts';
import { receiveContext } from './context.ts';
import type { BuildContext, ContextOptions } from './context.ts';
import { BuildHistory } from './grpc/history.ts';
import { KeptDirectories } from './kept-directories.ts';
import { buildsInParallelMax } from './limits.ts';
import type { BuildRunner } from './runner.ts';

export interface BuilderOptions {
  content: Content;
  images: ImageStore;
  records: ImageRecords;
  snapshots: BuildSnapshots;
  runner: BuildRunner;
  mounts: Mounts;
  processes: Processes;
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
  /** What front ends and solvers of other protocols work with. */
  readonly parts: BuilderParts;
  /** Builds of before. */
  readonly history: BuildHistory;
  /** Directories of clients, kept for their next builds. */
  readonly directories: KeptDirectories;
  /** What every command of this host gets. */
  readonly hidden: Pick<ExecSettings, 'hiddenEnv' | 'hiddenMounts'>;
  receiveContext(source: AsyncIterable<Uint8Array>, options: ContextOptions): Promise<BuildContext>;
  build(request: Omit<BuildRequest, 'hiddenEnv' | 'hiddenMounts'>): Promise<ImageRecord>;
  /** Runs work as one of the builds that may run at a time, when it is its turn. */
  admit<T>(work: () => Promise<T>): Promise<T>;
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

class EngineBuilder implements Builder {
  readonly #options: BuilderOptions;
  readonly parts: BuilderParts;
  readonly cache: ReturnType<typeof createBuildCache>;
  readonly directories: KeptDirectories;
  readonly history: BuildHistory;
  readonly #gate = new Gate(buildsInParallelMax);

  constructor(options: BuilderOptions) {
    this.#options = options;
    const { content, records: images, snapshots, runner, mounts, clock, random } = options;
    const cacheMounts = new CacheMounts(content, clock);
    this.history = new BuildHistory(content, clock);
    this.directories = new KeptDirectories(content, clock, random);
    this.cache = createBuildCache({ content, images, clock, cacheMounts, directories: this.directories });
    this.parts = {
      content,
      images,
      snapshots,
      runner,
      mounts,
      cache: this.cache,
      cacheMounts,
      processes: options.processes,
      clock,
      random,
      transport: options.images.options.transport,
      onBuilt: (id, names) => {
        emitImage(options.images.options, 'create', id, { name: id });
        for (const name of names)
          emitImage(options.images.options, 'tag', id, { name: familiarName(parseReference(name)) });
      },
      saveImage: (target, names) =>
        exportArchive(
          options.images.options,
          (names.length === 0 ? [target.image.id] : names).map((reference) => ({ reference, ...target })),
        ),
      openPlace: (reference, credential) => openRepositoryPlace(options.images.options, reference, credential),
      pushImage: (name, { credential, onEvent, signal }) =>
        options.images.push(name, {
          onProgress: onEvent,
          // The exporter has compressed them.
          keepsLayers: true,
          signal,
          ...(credential === undefined ? {} : { credential }),
        }),
      pullImage: async (reference, { always, platform, credential, onEvent, signal }) => {
        // By name or by an id as docker prints it: one letter of an id is not what a Dockerfile means.
        const find = { idPrefixMin: 12, ...(platform === undefined ? {} : { platform }) };
        const known = always ? undefined : options.records.find(reference, find);
        if (known !== undefined) return known;
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

  get hidden(): Pick<ExecSettings, 'hiddenEnv' | 'hiddenMounts'> {
    const { proxies = [], certificatesFile } = this.#options.hostEnvironment ?? {};
    if (certificatesFile === undefined) return { hiddenEnv: proxies, hiddenMounts: [] };
    return {
      hiddenEnv: [...proxies, ...certificateVariables.map((name) => `${name}=${certificatesTarget}`)],
      hiddenMounts: [{ type: 'bind', source: certificatesFile, target: certificatesTarget, readOnly: true }],
    };
  }

  admit<T>(work: () => Promise<T>): Promise<T> {
    return this.#gate.run(work);
  }

  build(request: Omit<BuildRequest, 'hiddenEnv' | 'hiddenMounts'>): Promise<ImageRecord> {
    return this.admit(() => runBuild(this.parts, { ...request, ...this.hidden }));
  }

  async recover(): Promise<void> {
    const { snapshots, content, runner } = this.#options;
    await runner.removeStale();
    for (const id of readdirSync(join(content.root, 'containers')))
      if (id.startsWith('build-')) await snapshots.removeContainerRoot(id);
    await this.#options.mounts.unmountBelow(secretsDirectory(content));
    await rm(secretsDirectory(content), { recursive: true, force: true });
    await this.parts.cacheMounts.recover();
    await this.directories.recover();
    await this.cache.recover();
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
  return new EngineBuilder(options);
}
