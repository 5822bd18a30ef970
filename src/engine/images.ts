/**
 * Images of the engine: finding, listing, naming. What else is done with them has files of its own (`images-pull.ts`,
 * `images-push.ts`, `images-remove.ts`, `images-commit.ts`, `images-save.ts`, `images-load.ts`).
 *
 * A name resolves first to what is here. What a container or a Pod leases stays, whoever asks for its removal. Texts of
 * errors are docker's: they are read by people and by scripts.
 */
import { ApiError } from '#base/errors.ts';
import { formatPlatform } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import {
  canonicalName,
  canonicalRepository,
  familiarName,
  familiarRepository,
  parseReference,
  withDefaultTag,
} from '#base/reference.ts';
import type { Reference } from '#base/reference.ts';
import { SingleFlight } from '#base/single-flight.ts';
import { platformOf } from '#content/image-file.ts';
import type { RunConfig } from '#content/image-file.ts';
import type { ImageRecord, ImageTarget, NameRecord } from '#content/image-records.ts';
import { writeManifest } from '#content/image-writer.ts';
import type { LinkedIndex } from '#content/image-indexes.ts';
import type { ImageConfig, ImageSummary, Images, Owner } from './engine.ts';
import { importArchive } from './images-load.ts';
import { exportArchive } from './images-save.ts';
import { commitImage, importImage } from './images-commit.ts';
import type { CommitOptions, ImportOptions } from './images-commit.ts';
import { historyOf } from './images-history.ts';
import type { HistoryItem } from './images-history.ts';
import { emitImage, familiar, namesOfRepository } from './images-options.ts';
import type { ImagesOptions, Progress, PullOptions } from './images-options.ts';
import { pullImage } from './images-pull.ts';
import { pushImage } from './images-push.ts';
import type { PushOptions } from './images-push.ts';
import { pruneImages, removeImage } from './images-remove.ts';
import type { PruneOptions, RemoveOptions } from './images-remove.ts';

/** What the façade needs beyond `Images`. */
export interface ImageStore extends Images {
  readonly options: ImagesOptions;
  /** `platform`: of an index, the image for it. Throws NotFound. */
  record(reference: string, platform?: Platform): ImageRecord;
  /** With the index that the reference stands for. Throws NotFound. */
  target(reference: string): ImageTarget;
  summarize(record: ImageRecord): ImageSummary;
  tag(source: string, target: string): Promise<void>;
  history(reference: string, platform?: Platform): HistoryItem[];
  pull(reference: string, options?: PullOptions): Promise<ImageSummary>;
  push(reference: string, options: PushOptions): Promise<void>;
  remove(reference: string, options?: RemoveOptions): Promise<{ untagged: string[]; deleted: string[] }>;
  /**
   * A docker archive that is an OCI layout too; resolves to a stream. Of indexes, only the images for `platforms`: one
   * of them is saved by itself, several with their index. Throws NotFound where an image is not for one of them.
   */
  save(references: string[], platforms?: readonly Platform[]): Promise<AsyncIterable<Uint8Array>>;
  /** `platforms`: of archives for several, these. */
  load(source: AsyncIterable<Uint8Array>, onProgress: Progress, platforms?: readonly Platform[]): Promise<void>;
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
        return registry.resolve(reference.path, reference.digest ?? reference.tag ?? 'latest');
      });
    }
  }

  find(reference: string, options: { isWhole?: boolean; platform?: Platform } = {}): ImageSummary | undefined {
    const { isWhole, platform } = options;
    const record = this.options.records.find(reference, {
      ...(isWhole === true ? { idPrefixMin: 64 } : {}),
      ...(platform === undefined ? {} : { platform }),
    });
    return record === undefined ? undefined : this.summarize(record);
  }

  target(reference: string): ImageTarget {
    const target = this.options.records.findTarget(reference);
    if (target === undefined) throw new ApiError('NotFound', `No such image: ${notFoundName(reference)}`);
    return target;
  }

  record(reference: string, platform?: Platform): ImageRecord {
    const { image } = this.target(reference);
    if (platform === undefined) return image;
    const record = this.options.records.find(reference, { platform });
    if (record !== undefined) return record;
    throw new ApiError(
      'NotFound',
      `image with reference ${reference} was found but does not provide the specified platform (${formatPlatform(platform)})`,
    );
  }

  list(): ImageSummary[] {
    return this.options.records.listShown().map((record) => this.summarize(record));
  }

  summarize(record: ImageRecord): ImageSummary {
    const { records } = this.options;
    return {
      platform: platformOf(record.file),
      ...(record.manifestDigest === ''
        ? {}
        : {
            manifest: {
              mediaType: record.manifestMediaType,
              digest: record.manifestDigest,
              size: this.options.content.blobs.size(record.manifestDigest) ?? 0,
            },
          }),
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

  push(reference: string, options: PushOptions): Promise<void> {
    return pushImage(this.options, reference, options).then(() =>
      emitImage(this.options, 'push', reference, { name: reference }),
    );
  }

  async tag(source: string, target: string): Promise<void> {
    const { image, index } = this.target(source);
    let reference = parseReference(target);
    if (reference.digest !== undefined)
      throw new ApiError('BadRequest', 'refusing to create a tag with a digest reference');
    if (['sha256', 'sha384', 'sha512'].includes(familiarRepository(reference)))
      throw new ApiError('BadRequest', 'refusing to create an ambiguous tag using digest algorithm as name');
    reference = withDefaultTag(reference);
    await this.#name(image, [canonicalName(reference)], index?.digest);
    emitImage(this.options, 'tag', image.id, { name: familiarName(reference) });
  }

  /** Gives names, for the image or for an index of which it is the default; a build step becomes an image by that. */
  async #name(record: ImageRecord, names: string[], index?: string | (() => LinkedIndex)): Promise<void> {
    const { content, records } = this.options;
    using hold = content.hold();
    const manifest =
      record.manifestDigest === ''
        ? await writeManifest(content, record, hold)
        : { digest: record.manifestDigest, mediaType: record.manifestMediaType };
    const linked = typeof index === 'function' ? index() : undefined;
    // Of several that are loaded, the name stands for the one that runs here best.
    const image = linked?.images[0] ?? {
      ...record,
      manifestDigest: manifest.digest,
      manifestMediaType: manifest.mediaType,
    };
    const named: ImageRecord = { ...image, tagTimeMs: this.options.clock.now() };
    delete named.isIntermediate;
    delete named.isHidden;
    delete named.isKubelets;
    const digest = typeof index === 'string' ? index : linked?.index.digest;
    const target: NameRecord = { imageId: named.id, ...(digest === undefined ? {} : { index: digest }) };
    await records.commit([
      ...(linked?.changes ?? []),
      { table: 'images', key: named.id, value: named },
      ...names.map((name) => records.nameChange(name, target)),
    ]);
  }

  history(reference: string, platform?: Platform): HistoryItem[] {
    return historyOf(this.options, this.record(reference, platform));
  }

  remove(reference: string, options: RemoveOptions = {}): Promise<{ untagged: string[]; deleted: string[] }> {
    return removeImage(this.options, this.target(reference), reference, options);
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

  lease(owner: Owner, imageId: string, holder: string, options?: { sync?: boolean }): Promise<void> {
    return this.options.records.lease(owner, holder, imageId, options);
  }
  releaseLease(owner: Owner, holder: string, options?: { sync?: boolean }): Promise<void> {
    return this.options.records.releaseLease(owner, holder, options);
  }
  releaseLeases(isStale: (holder: string) => boolean): Promise<void> {
    return this.options.records.releaseLeases(isStale);
  }

  save(references: string[], platforms: readonly Platform[] = []): Promise<AsyncIterable<Uint8Array>> {
    return exportArchive(
      this.options,
      references
        .flatMap((each) => this.#savedNames(each))
        .map((reference) => ({ reference, ...this.#savedTarget(reference, platforms) })),
    );
  }

  #savedTarget(reference: string, platforms: readonly Platform[]): ImageTarget & { only?: ReadonlySet<string> } {
    const target = this.target(reference);
    const images = platforms.map((platform) => this.record(reference, platform));
    const [first] = images;
    if (first === undefined) return target;
    if (target.index === undefined || new Set(images).size === 1) return { image: first };
    return { ...target, image: first, only: new Set(images.map(({ manifestDigest }) => manifestDigest)) };
  }

  /** A repository stands for all its tags; an id and a whole name for themselves. */
  #savedNames(text: string): string[] {
    if (/^(?:sha256:)?[0-9a-f]{12,64}$/.test(text)) return [text];
    const reference = parseReference(text);
    if (reference.tag !== undefined || reference.digest !== undefined) return [text];
    const names = namesOfRepository(this.options, canonicalRepository(reference));
    return names.length === 0 ? [text] : names;
  }
  load(source: AsyncIterable<Uint8Array>, onProgress: Progress, platforms: readonly Platform[] = []): Promise<void> {
    return importArchive(this.options, {
      source,
      platforms,
      progress: onProgress,
      name: async (record, names, link) => {
        await this.#name(record, names, link);
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
