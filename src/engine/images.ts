/**
 * Images of the engine: finding, listing, naming. What else is done with them has files of its own (`images-pull.ts`,
 * `images-push.ts`, `images-remove.ts`, `images-commit.ts`, `images-save.ts`, `images-load.ts`).
 *
 * A name resolves first to what is here. What a container or a Pod leases stays, whoever asks for its removal. Texts of
 * errors are docker's: they are read by people and by scripts.
 */
import { ApiError } from '#base/errors.ts';
import type { Platform } from '#base/platform.ts';
import { canonicalName, familiarName, familiarRepository, parseReference, withDefaultTag } from '#base/reference.ts';
import type { Reference } from '#base/reference.ts';
import { SingleFlight } from '#base/single-flight.ts';
import type { RunConfig } from '#content/image-file.ts';
import type { ImageRecord } from '#content/image-records.ts';
import { writeManifest } from '#content/image-writer.ts';
import type { Change } from '#content/records.ts';
import type { ImageConfig, ImageSummary, Images, Owner, RegistryCredential } from './engine.ts';
import { importArchive } from './images-load.ts';
import { exportArchive } from './images-save.ts';
import { commitImage, importImage } from './images-commit.ts';
import type { CommitOptions, ImportOptions } from './images-commit.ts';
import { historyOf } from './images-history.ts';
import type { HistoryItem } from './images-history.ts';
import { emitImage, familiar } from './images-options.ts';
import type { ImagesOptions, Progress, PullOptions } from './images-options.ts';
import { pullImage } from './images-pull.ts';
import { pushImage } from './images-push.ts';
import { pruneImages, removeImage } from './images-remove.ts';
import type { PruneOptions, RemoveOptions } from './images-remove.ts';

/** What the façade needs beyond `Images`. */
export interface ImageStore extends Images {
  readonly options: ImagesOptions;
  record(reference: string): ImageRecord;
  summarize(record: ImageRecord): ImageSummary;
  tag(source: string, target: string): Promise<void>;
  history(reference: string): HistoryItem[];
  pull(reference: string, options?: PullOptions): Promise<ImageSummary>;
  push(
    reference: string,
    options: { credential?: RegistryCredential; onProgress?: Progress; signal?: AbortSignal },
  ): Promise<void>;
  remove(reference: string, options?: RemoveOptions): Promise<{ untagged: string[]; deleted: string[] }>;
  /** A docker archive that is an OCI layout too; resolves to a stream. */
  save(references: string[]): Promise<AsyncIterable<Uint8Array>>;
  /** `platform`: of archives for several, this one. */
  load(source: AsyncIterable<Uint8Array>, onProgress: Progress, platform?: Platform): Promise<void>;
  import(source: AsyncIterable<Uint8Array>, options: ImportOptions): Promise<ImageRecord>;
  /** A new image of a parent and a packed upper directory. */
  commit(options: CommitOptions): Promise<ImageRecord>;
  prune(options: PruneOptions): Promise<{ deleted: { untagged?: string; deleted?: string }[]; freedBytes: number }>;
}

function toImageConfig(config: RunConfig | undefined): ImageConfig {
  return {
    user: config?.User ?? '',
    env: config?.Env ?? [],
    entrypoint: config?.Entrypoint ?? [],
    command: config?.Cmd ?? [],
    workingDir: config?.WorkingDir ?? '',
    volumes: Object.keys(config?.Volumes ?? {}),
    exposedPorts: Object.keys(config?.ExposedPorts ?? {}),
    stopSignal: config?.StopSignal ?? '',
    labels: config?.Labels ?? {},
    ...(config?.Healthcheck === undefined || config.Healthcheck === null ? {} : { healthcheck: config.Healthcheck }),
  };
}

class EngineImages implements ImageStore {
  readonly options: ImagesOptions;
  readonly #pulls = new SingleFlight<ImageSummary>();
  constructor(options: ImagesOptions) {
    this.options = options;
    const registry = options.localRegistry;
    if (registry !== undefined) {
      options.records.addResolver((reference) => {
        if (!registry.owns(reference.domain)) return undefined;
        const digest = registry.resolve(reference.path, reference.digest ?? reference.tag ?? 'latest');
        return digest === undefined
          ? undefined
          : options.records.list().find((record) => record.manifestDigest === digest)?.id;
      });
    }
  }

  find(reference: string, options: { isWhole?: boolean } = {}): ImageSummary | undefined {
    const record = this.options.records.find(reference, options.isWhole === true ? { idPrefixMin: 64 } : {});
    return record === undefined ? undefined : this.summarize(record);
  }

  record(reference: string): ImageRecord {
    const record = this.options.records.find(reference);
    if (record === undefined) throw new ApiError('NotFound', `No such image: ${notFoundName(reference)}`);
    return record;
  }

  list(): ImageSummary[] {
    return this.options.records
      .list()
      .filter((record) => record.isIntermediate !== true && record.isHidden !== true)
      .map((record) => this.summarize(record));
  }

  summarize(record: ImageRecord): ImageSummary {
    const { records } = this.options;
    const { os, architecture, variant } = record.file;
    return {
      platform: { os, architecture, ...(variant === undefined ? {} : { variant }) },
      id: record.id,
      names: records.namesOf(record.id).map(familiar),
      digests: records.repoDigestsOf(record.id).map(familiar),
      sizeBytes: records.layerSizeBytes(record),
      createdAtMs: record.createdAtMs,
      config: toImageConfig(record.file.config),
      isCollectable:
        record.isKubelets === true &&
        records.leasesOf(record.id).length === 0 &&
        (this.options.containersOf?.(record.id) ?? []).length === 0,
    };
  }

  pull(reference: string, options: PullOptions = {}): Promise<ImageSummary> {
    const wanted = withDefaultTag(parseReference(reference));
    // Pods that start together ask for the same image together; one that reports progress or brings a credential pulls
    // for itself.
    if (options.onProgress !== undefined || options.credential !== undefined || options.platform !== undefined)
      return this.#pull(wanted, options);
    const { signal } = options;
    return this.#pulls.run(
      `${options.owner ?? ''} ${canonicalName(wanted)}`,
      (over) => this.#pull(wanted, { ...options, signal: over }),
      signal,
    );
  }

  async #pull(reference: Reference, options: PullOptions): Promise<ImageSummary> {
    const record = await pullImage(this.options, reference, options);
    // A user who pulls what the kubelet brought wants to keep it.
    if (options.owner !== 'kubelet' && record.isKubelets === true) {
      const kept = { ...record };
      delete kept.isKubelets;
      await this.options.records.put(kept, []);
    }
    emitImage(this.options, 'pull', familiarName(reference), {
      name: familiarRepository(reference),
      ...record.file.config?.Labels,
    });
    return this.summarize(record);
  }

  push(
    reference: string,
    options: { credential?: RegistryCredential; onProgress?: Progress; signal?: AbortSignal },
  ): Promise<void> {
    return pushImage(this.options, reference, options).then(() =>
      emitImage(this.options, 'push', reference, { name: reference }),
    );
  }

  async tag(source: string, target: string): Promise<void> {
    const record = this.record(source);
    let reference = parseReference(target);
    if (reference.digest !== undefined)
      throw new ApiError('BadRequest', 'refusing to create a tag with a digest reference');
    reference = withDefaultTag(reference);
    await this.#name(record, [canonicalName(reference)]);
    emitImage(this.options, 'tag', record.id, { name: familiarName(reference) });
  }

  /** Gives names; a build step becomes an image of its own by that. */
  async #name(record: ImageRecord, names: string[], changes: Change[] = []): Promise<ImageRecord> {
    const { content, records } = this.options;
    using hold = content.hold();
    const named: ImageRecord = { ...record, tagTimeMs: this.options.clock.now() };
    delete named.isIntermediate;
    delete named.isHidden;
    delete named.isKubelets;
    if (named.manifestDigest === '') {
      const manifest = await writeManifest(content, named, hold);
      named.manifestDigest = manifest.digest;
      named.manifestMediaType = manifest.mediaType;
    }
    await records.put(named, [...names.map((name) => records.nameChange(name, named.id)), ...changes]);
    return named;
  }

  history(reference: string): HistoryItem[] {
    return historyOf(this.options, this.record(reference));
  }

  remove(reference: string, options: RemoveOptions = {}): Promise<{ untagged: string[]; deleted: string[] }> {
    return removeImage(this.options, this.record(reference), reference, options);
  }

  prune(options: PruneOptions): ReturnType<ImageStore['prune']> {
    return pruneImages(this.options, options);
  }

  import(source: AsyncIterable<Uint8Array>, options: ImportOptions): Promise<ImageRecord> {
    return importImage(this.options, source, options);
  }

  commit(options: CommitOptions): Promise<ImageRecord> {
    return commitImage(this.options, options);
  }

  lease(owner: Owner, imageId: string, holder: string): Promise<void> {
    return this.options.records.lease(owner, holder, imageId);
  }
  releaseLease(owner: Owner, holder: string): Promise<void> {
    return this.options.records.releaseLease(owner, holder);
  }

  save(references: string[]): Promise<AsyncIterable<Uint8Array>> {
    return exportArchive(
      this.options,
      references.map((reference) => ({ reference, record: this.record(reference) })),
    );
  }
  load(source: AsyncIterable<Uint8Array>, onProgress: Progress, platform?: Platform): Promise<void> {
    return importArchive(this.options, {
      source,
      platform,
      progress: onProgress,
      name: async (record, names) => {
        await this.#name(record, names);
        emitImage(this.options, 'load', record.id, { name: names[0] ?? record.id });
      },
    });
  }
}

/** `No such image: busybox:latest`: docker adds the tag it looked for. */
function notFoundName(reference: string): string {
  try {
    return familiarName(withDefaultTag(parseReference(reference)));
  } catch {
    return reference;
  }
}

export function createImages(options: ImagesOptions): ImageStore {
  return new EngineImages(options);
}
