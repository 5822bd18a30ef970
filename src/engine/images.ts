/**
 * Images of the engine: finding, listing, tagging, removing, committing and importing. Pulling, pushing and archives
 * are files of their own (`images-pull.ts`, `images-push.ts`, `images-archive.ts`); this one holds what they share.
 *
 * A name resolves first to what is here (decision 13); what a container or a Pod leases stays whoever asks for its
 * removal. Texts of errors are docker's: they are read by people and by scripts.
 */
import { ApiError } from '#base/errors.ts';
import { hostPlatform } from '#base/platform.ts';
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
import type { HistoryEntry, ImageFile, RunConfig } from '#content/image-file.ts';
import type { ImageLayer, ImageRecord } from '#content/image-records.ts';
import { toImageLayer, writeImage, writeManifest } from '#content/image-writer.ts';
import { archiveBytesMax } from '#content/limits.ts';
import { findMountPoints } from '#content/mount-points.ts';
import type { Change } from '#content/records.ts';
import type { ImageConfig, ImageSummary, Images, Owner, RegistryCredential } from './engine.ts';
import { exportArchive, importArchive } from './images-archive.ts';
import { shortId } from './images-options.ts';
import type { ImagesOptions, Progress } from './images-options.ts';
import { pullImage } from './images-pull.ts';
import type { PullOptions } from './images-pull.ts';
import { pushImage } from './images-push.ts';

export interface HistoryItem {
  Id: string;
  Created: number;
  CreatedBy: string;
  Tags: string[] | null;
  Size: number;
  Comment: string;
}

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
  remove(
    reference: string,
    options?: { force?: boolean; owner?: Owner; /** Nameless steps below it stay. */ keepsParents?: boolean },
  ): Promise<{ untagged: string[]; deleted: string[] }>;
  /** A docker archive that is an OCI layout too; resolves to a stream. */
  save(references: string[]): Promise<AsyncIterable<Uint8Array>>;
  /** `platform`: of archives for several, this one. */
  load(source: AsyncIterable<Uint8Array>, onProgress: Progress, platform?: Platform): Promise<void>;
  import(
    source: AsyncIterable<Uint8Array>,
    options: { name?: string; message?: string; changes?: RunConfig; platform?: Platform; onProgress?: Progress },
  ): Promise<ImageRecord>;
  /** A new image of a parent and a packed upper directory. */
  commit(options: {
    parent?: ImageRecord;
    upper?: string;
    config: RunConfig;
    comment?: string;
    author?: string;
    createdBy?: string;
    name?: string;
  }): Promise<ImageRecord>;
  prune(options: {
    all: boolean;
    labels: (labels: Record<string, string>) => boolean;
    untilMs?: number;
  }): Promise<{ deleted: { untagged?: string; deleted?: string }[]; freedBytes: number }>;
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
    this.#emit('pull', familiarName(reference), { name: familiarRepository(reference), ...record.file.config?.Labels });
    return this.summarize(record);
  }

  push(
    reference: string,
    options: { credential?: RegistryCredential; onProgress?: Progress; signal?: AbortSignal },
  ): Promise<void> {
    return pushImage(this.options, reference, options).then(() => this.#emit('push', reference, { name: reference }));
  }

  #emit(action: string, id: string, attributes: Record<string, string>): void {
    this.options.emit({ type: 'image', action, id, attributes });
  }

  async tag(source: string, target: string): Promise<void> {
    const record = this.record(source);
    let reference = parseReference(target);
    if (reference.digest !== undefined)
      throw new ApiError('BadRequest', 'refusing to create a tag with a digest reference');
    reference = withDefaultTag(reference);
    await this.#name(record, [canonicalName(reference)]);
    this.#emit('tag', record.id, { name: familiarName(reference) });
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
    const record = this.record(reference);
    const { records, content } = this.options;
    let layer = 0;
    const items = (record.file.history ?? []).map((entry: HistoryEntry): HistoryItem => {
      const own = entry.empty_layer === true ? undefined : record.layers[layer++];
      const size =
        own === undefined ? 0 : content.layers.has(own.diffId) ? content.layers.sizeBytes(own.diffId) : own.sizeBytes;
      const created = Date.parse(entry.created ?? '');
      return {
        Id: '<missing>',
        Created: Number.isFinite(created) ? Math.floor(created / 1000) : 0,
        CreatedBy: entry.created_by ?? '',
        Tags: null,
        Size: size,
        Comment: entry.comment ?? '',
      };
    });
    const newest = items.reverse();
    // Ids of the steps are known where the image was built here.
    let at: ImageRecord | undefined = record;
    for (const item of newest) {
      if (at === undefined) break;
      item.Id = at.id;
      const names: string[] = records.namesOf(at.id).map(familiar);
      item.Tags = names.length > 0 ? names : null;
      at = at.parent === undefined ? undefined : records.get(at.parent);
    }
    return newest;
  }

  async remove(
    reference: string,
    options: { force?: boolean; owner?: Owner; keepsParents?: boolean } = {},
  ): Promise<{ untagged: string[]; deleted: string[] }> {
    const { records, content } = this.options;
    const record = this.record(reference);
    const names = records.namesOf(record.id);
    const digests = records.repoDigestsOf(record.id);
    const byId = isIdReference(reference, record);
    const untagged: string[] = [];
    const changes: Change[] = [];
    const dropName = (name: string): void => {
      changes.push(records.nameChange(name, undefined));
      untagged.push(familiar(name));
    };
    const dropDigest = (name: string): void => {
      changes.push(records.repoDigestChange(name, undefined));
      untagged.push(familiar(name));
    };
    if (!byId) {
      const wanted = withDefaultTag(parseReference(reference));
      const name = canonicalName(wanted);
      const left = names.filter((each) => each !== name);
      if (wanted.digest === undefined && !names.includes(name))
        throw new ApiError(
          'Conflict',
          `conflict: unable to remove repository reference "${reference}": it is held by the registry`,
        );
      if (left.length === 0) this.#checkUse(record, reference, options, 'remove repository reference');
      if (wanted.digest !== undefined) dropDigest(name);
      else dropName(name);
      // A repository's last tag takes its digests along.
      const repository = canonicalRepository(wanted);
      if (wanted.digest === undefined && !left.some((each) => each.startsWith(`${repository}:`)))
        for (const digest of digests) if (digest.startsWith(`${repository}@`)) dropDigest(digest);
      const stays = left.length > 0 || (wanted.digest !== undefined && (names.length > 0 || digests.length > 1));
      if (stays) {
        await this.#untag(changes, untagged, record);
        return { untagged, deleted: [] };
      }
    } else {
      const repositories = new Set(names.map((name) => canonicalRepository(parseReference(name))));
      if (repositories.size > 1 && options.force !== true)
        throw new ApiError(
          'Conflict',
          `conflict: unable to delete ${shortId(record.id)} (must be forced) - image is referenced in multiple repositories`,
        );
      this.#checkUse(record, reference, options, 'delete');
      names.forEach(dropName);
      digests.forEach(dropDigest);
    }
    const deleted = await this.#delete(record, changes, untagged, options.keepsParents === true);
    void content.collect().catch((error: unknown) => this.options.log.warn('collection failed', { error }));
    return { untagged, deleted };
  }

  async #untag(changes: Change[], untagged: string[], record: ImageRecord): Promise<void> {
    await this.options.records.commit(changes);
    for (const name of untagged) this.#emit('untag', record.id, { name });
  }

  /** docker's conflicts, and ours: what a Pod needs is never removed, by whatever force. */
  #checkUse(record: ImageRecord, reference: string, options: { force?: boolean; owner?: Owner }, verb: string): void {
    const { records, containersOf } = this.options;
    const subject = verb === 'delete' ? shortId(record.id) : `"${reference}"`;
    const pods = records
      .leasesOf(record.id)
      .filter((lease) => lease.owner === 'kubelet' && options.owner !== 'kubelet');
    const users = containersOf?.(record.id) ?? [];
    const pod = pods[0]?.holder ?? users.find((user) => user.owner === 'kubelet')?.id;
    if (pod !== undefined)
      throw new ApiError(
        'Conflict',
        `conflict: unable to ${verb} ${subject} (cannot be forced) - image is being used by running container ${shortId(pod)}`,
      );
    const running = users.find((user) => user.isRunning);
    if (verb === 'delete') {
      if (running !== undefined)
        throw new ApiError(
          'Conflict',
          `conflict: unable to delete ${subject} (cannot be forced) - image is being used by running container ${shortId(running.id)}`,
        );
      if (options.force !== true && users[0] !== undefined)
        throw new ApiError(
          'Conflict',
          `conflict: unable to delete ${subject} (must be forced) - image is being used by stopped container ${shortId(users[0].id)}`,
        );
      const child = records.list().find((each) => each.parent === record.id && each.isIntermediate !== true);
      if (child !== undefined)
        throw new ApiError(
          'Conflict',
          `conflict: unable to delete ${subject} (cannot be forced) - image has dependent child images`,
        );
    } else if (options.force !== true && users[0] !== undefined) {
      throw new ApiError(
        'Conflict',
        `conflict: unable to remove repository reference ${subject} (must force) - container ${shortId(users[0].id)} is using its referenced image ${shortId(record.id)}`,
      );
    }
  }

  /** Removes the record and the nameless steps below it that nothing else needs. */
  async #delete(record: ImageRecord, changes: Change[], untagged: string[], keepsParents = false): Promise<string[]> {
    const { records, containersOf } = this.options;
    const deleted: string[] = [];
    const isHeld = (id: string): boolean =>
      (containersOf?.(id) ?? []).some((user) => user.owner === 'docker') || records.leasesOf(id).length > 0;
    // Forced away from a stopped container: the names go, the image stays for it.
    if (isHeld(record.id) && untagged.length > 0) {
      await this.#untag(changes, untagged, record);
      return [];
    }
    // The registry serves it still: the engine forgets its names, not the image.
    if (record.manifestDigest !== '' && this.options.localRegistry?.holds(record.manifestDigest) === true) {
      changes.push({ table: 'images', key: record.id, value: { ...record, isHidden: true } satisfies ImageRecord });
      await this.#untag(changes, untagged, record);
      return [];
    }
    for (let at: ImageRecord | undefined = record; at !== undefined;) {
      changes.push({ table: 'images', key: at.id, value: undefined });
      deleted.push(at.id);
      const parent: ImageRecord | undefined = at.parent === undefined ? undefined : records.get(at.parent);
      const isNeeded: boolean =
        parent === undefined ||
        parent.isIntermediate !== true ||
        isHeld(parent.id) ||
        records.list().some((each) => each.parent === parent.id && !deleted.includes(each.id));
      at = isNeeded || keepsParents ? undefined : parent;
    }
    await this.#untag(changes, untagged, record);
    for (const id of deleted) this.#emit('delete', id, { name: id });
    return deleted;
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
    return importArchive(
      this.options,
      source,
      onProgress,
      async (record, names) => {
        await this.#name(record, names);
        this.#emit('load', record.id, { name: names[0] ?? record.id });
      },
      platform,
    );
  }

  async import(
    source: AsyncIterable<Uint8Array>,
    options: { name?: string; message?: string; changes?: RunConfig; platform?: Platform; onProgress?: Progress },
  ): Promise<ImageRecord> {
    const { content, clock } = this.options;
    using hold = content.hold();
    const uploaded = await content.blobs.write(source, {}, archiveBytesMax);
    hold.addBlob(uploaded.digest);
    // Unpacked and packed again: the archive may be compressed in any way, and its diff id is that of a layer's form.
    const scratch = content.blobs.scratchPath();
    await content.layers.unpackFile(content.blobs.path(uploaded.digest), scratch);
    const packed = await content.layers.commitUpper(scratch);
    hold.addBlob(packed.digest);
    hold.addLayer(packed.diffId);
    const created = new Date(clock.now()).toISOString();
    const file: ImageFile = {
      ...(options.platform ?? hostPlatform()),
      created,
      comment: options.message ?? '',
      config: options.changes ?? {},
      rootfs: { type: 'layers', diff_ids: packed.isEmpty ? [] : [packed.diffId] },
      history: [{ created, comment: options.message ?? '' }],
    };
    const names =
      options.name === undefined || options.name === ''
        ? []
        : [canonicalName(withDefaultTag(parseReference(options.name)))];
    const record = await writeImage(content, this.options.records, {
      file,
      layers: packed.isEmpty ? [] : [toImageLayer(packed)],
      createdAtMs: clock.now(),
      names,
    });
    this.#emit('import', record.id, { name: names[0] === undefined ? record.id : familiar(names[0]) });
    return record;
  }

  async commit(options: {
    parent?: ImageRecord;
    upper?: string;
    config: RunConfig;
    comment?: string;
    author?: string;
    createdBy?: string;
    name?: string;
  }): Promise<ImageRecord> {
    const { content, clock } = this.options;
    using hold = content.hold();
    const layers: ImageLayer[] = [...(options.parent?.layers ?? [])];
    let isEmpty = true;
    if (options.upper !== undefined) {
      const packed = await content.layers.packUpper(options.upper, findMountPoints(content, options.upper, layers));
      isEmpty = packed.isEmpty;
      if (!packed.isEmpty) {
        hold.addBlob(packed.digest);
        hold.addLayer(packed.diffId);
        await content.layers.ensure(packed.diffId, packed.digest);
        layers.push(toImageLayer(packed));
      }
    }
    const created = new Date(clock.now()).toISOString();
    const base = options.parent?.file;
    const entry: HistoryEntry = {
      created,
      created_by: options.createdBy ?? '',
      ...(options.author ? { author: options.author } : {}),
      ...(options.comment ? { comment: options.comment } : {}),
      ...(isEmpty ? { empty_layer: true } : {}),
    };
    const file: ImageFile = {
      architecture: base?.architecture ?? (process.arch === 'x64' ? 'amd64' : process.arch),
      os: base?.os ?? 'linux',
      created,
      ...(options.author ? { author: options.author } : {}),
      ...(options.comment ? { comment: options.comment } : {}),
      config: options.config,
      rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.diffId) },
      history: [...(base?.history ?? []), entry],
    };
    const names =
      options.name === undefined || options.name === ''
        ? []
        : [canonicalName(withDefaultTag(parseReference(options.name)))];
    const record = await writeImage(content, this.options.records, {
      file,
      layers,
      createdAtMs: clock.now(),
      names,
      ...(options.parent === undefined ? {} : { parent: options.parent.id }),
    });
    if (names[0] !== undefined) this.#emit('tag', record.id, { name: familiar(names[0]) });
    return record;
  }

  async prune(options: {
    all: boolean;
    labels: (labels: Record<string, string>) => boolean;
    untilMs?: number;
  }): Promise<{ deleted: { untagged?: string; deleted?: string }[]; freedBytes: number }> {
    const { records, containersOf, content } = this.options;
    const out: { untagged?: string; deleted?: string }[] = [];
    for (const record of records.list()) {
      if (record.isIntermediate === true || record.isHidden === true) continue;
      const names = records.namesOf(record.id);
      if (names.length > 0 && !options.all) continue;
      if (
        !options.labels(record.file.config?.Labels ?? {}) ||
        (options.untilMs !== undefined && record.createdAtMs > options.untilMs)
      )
        continue;
      if ((containersOf?.(record.id) ?? []).length > 0 || records.leasesOf(record.id).length > 0) continue;
      if (records.list().some((each) => each.parent === record.id && each.isIntermediate !== true)) continue;
      const changes = [
        ...names.map((name) => records.nameChange(name, undefined)),
        ...records.repoDigestsOf(record.id).map((name) => records.repoDigestChange(name, undefined)),
      ];
      const untagged = [...names, ...records.repoDigestsOf(record.id)].map(familiar);
      const deleted = await this.#delete(record, changes, untagged);
      out.push(...untagged.map((name) => ({ untagged: name })), ...deleted.map((id) => ({ deleted: id })));
    }
    return { deleted: out, freedBytes: out.length === 0 ? 0 : await content.collect() };
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

function isIdReference(reference: string, record: ImageRecord): boolean {
  const hex = record.id.slice('sha256:'.length);
  return (
    reference === record.id ||
    (/^[0-9a-f]+$/.test(reference) && hex.startsWith(reference)) ||
    (reference.startsWith('sha256:') && record.id.startsWith(reference))
  );
}

export function createImages(options: ImagesOptions): ImageStore {
  return new EngineImages(options);
}

function familiar(canonical: string): string {
  return familiarName(parseReference(canonical));
}
