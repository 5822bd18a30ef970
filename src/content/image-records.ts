/**
 * Images as this data directory knows them: names → image, image → manifest, configuration and layers.
 *
 * Words. The *image id* is the digest of the configuration, as docker's is. A *name* is canonical
 * (`docker.io/library/busybox:latest`). A
 * *repo digest* (`docker.io/library/busybox@sha256:…`) remembers under which manifest digest a repository holds the
 * image. An image without a name stays until it is removed; an *intermediate* one (a build step) until no build cache
 * record and no image needs it.
 *
 * A name or repo digest may stand for an *index*: its bytes are kept as they came, and each of its manifests whose
 * content is here is linked to the image that it makes. The name's own image is the one that runs here best (its
 * *default*), so ids stay those of configurations. The other images of an index have records and no names; they go
 * with it, when its last name or its default image is removed.
 *
 * Specification: OCI image 1.1 (manifest, config); docker's schema 2 media types say the same with other names.
 */
import { ApiError } from '#base/errors.ts';
import { bestFor, hostPlatform } from '#base/platform.ts';
import { canonicalName, canonicalRepository, isDigest, parseReference, withDefaultTag } from '#base/reference.ts';
import type { Reference } from '#base/reference.ts';
import type { Content, Roots } from './content.ts';
import { isImageFile, platformOf } from './image-file.ts';
import type { ImageFile } from './image-file.ts';
import type { Descriptor, IndexRecord, Manifest, Platform } from './manifest.ts';
import { configBytesMax, layersPerImageMax, manifestBytesMax, remoteBlobBytesMax } from './limits.ts';
import type { Change, CommitOptions } from './records.ts';

export const mediaTypes = {
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  dockerPlainLayer: 'application/vnd.docker.image.rootfs.diff.tar',
  dockerZstdLayer: 'application/vnd.docker.image.rootfs.diff.tar.zstd',
  dockerForeignLayer: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  ociEmpty: 'application/vnd.oci.empty.v1+json',
} as const;

export interface ImageLayer {
  digest: string;
  diffId: string;
  sizeBytes: number;
  mediaType: string;
}

export interface ImageRecord {
  id: string;
  manifestDigest: string;
  manifestMediaType: string;
  layers: ImageLayer[];
  /** The configuration, parsed. Its bytes are the blob `id`. */
  file: ImageFile;
  createdAtMs: number;
  /** Image that a build step or a commit started from. */
  parent?: string;
  /** A build step: not listed unless asked for, kept only while something needs it. */
  isIntermediate?: boolean;
  /** Known to the registry alone (pushed by a client): never listed by the engine. */
  isHidden?: boolean;
  /** The content of a managed plugin: of no interest to users of images, and not theirs to remove. */
  isPlugins?: boolean;
  /** Came from another registry, so that a pull of its name asks there again. */
  isPulled?: boolean;
  /** Came by a credential: who wants it from here must come to it by one of his own. */
  isCredentialed?: boolean;
  /** Came because a Pod needed it, and no user has named it since: the kubelet may remove it again. */
  isKubelets?: boolean;
  tagTimeMs?: number;
}

export interface NameRecord {
  imageId: string;
  /** Digest of the index that the name stands for. */
  index?: string;
}

/** What a reference stands for: an image, the default one of an index if there is one. */
export interface ImageTarget {
  image: ImageRecord;
  index?: IndexRecord;
}

export interface FindOptions {
  /** Letters that a prefix of an id has at least. */
  idPrefixMin?: number;
  /** Of an index, the image for it; an image for another one is not found. */
  platform?: Platform;
}

export type DigestResolver = (reference: Reference) => string | undefined;

const digestPrefix = /^(?:sha256:)?([0-9a-f]{1,64})$/;

export interface ImageRecords {
  get(id: string): ImageRecord | undefined;
  list(): ImageRecord[];
  /** Canonical names of an image, sorted. */
  namesOf(id: string): string[];
  repoDigestsOf(id: string): string[];
  /** Whether a name or repo digest stands for the image alone, not for an index. */
  hasOwnName(id: string): boolean;
  byName(canonical: string): NameRecord | undefined;
  /**
   * Name, repo digest, id or a unique id prefix, as docker resolves. An ApiError where a prefix is ambiguous. Where a
   * name is meant, a short prefix is a name (`idPrefixMin`).
   */
  find(text: string, options?: FindOptions): ImageRecord | undefined;
  /** As `find`, with the index. */
  findTarget(text: string, options?: Pick<FindOptions, 'idPrefixMin'>): ImageTarget | undefined;
  /** What people see: no build steps, nothing that only the registry has, of an index one image. */
  listShown(): ImageRecord[];
  index(digest: string): IndexRecord | undefined;
  /** Indexes that have the image, whether names stand for them or not. */
  indexesOf(id: string): IndexRecord[];
  /** Canonical names, and repo digests, that stand for the index. */
  namesOfIndex(digest: string): string[];
  /** Images of the index that are here, the default one first. `more`: records that are about to be made. */
  imagesOf(index: IndexRecord, more?: readonly ImageRecord[]): ImageRecord[];
  /** Keeps the index, and what names stand for it then stand for its default image. None: names go with it. */
  indexChanges(index: IndexRecord, more?: readonly ImageRecord[]): Change[];
  put(record: ImageRecord, more?: Change[]): Promise<void>;
  /** Reads a manifest and its configuration out of the blob store and makes a record; blobs must be here. */
  recordFromManifest(manifestDigest: string): Promise<ImageRecord>;
  nameChange(canonical: string, target: NameRecord | undefined): Change;
  repoDigestChange(repositoryAtDigest: string, target: NameRecord | undefined): Change;
  commit(changes: Change[], options?: CommitOptions): Promise<void>;
  /** Images are found by name too where this hook knows more names (the registry's tags): the manifest's digest. */
  addResolver(resolve: DigestResolver): void;
  lease(owner: string, holder: string, imageId: string, options?: CommitOptions): Promise<void>;
  /** Also gives up what `holder/…` holds. */
  releaseLease(owner: string, holder: string, options?: CommitOptions): Promise<void>;
  /** Of every owner. */
  releaseLeases(isStale: (holder: string) => boolean): Promise<void>;
  /** As a lease, but only as long as this process holds it: a build in progress. */
  pin(imageId: string): Disposable;
  leasesOf(imageId: string): { owner: string; holder: string }[];
  layerSizeBytes(record: ImageRecord): number;
}

export function parseJson(bytes: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString('utf8')) as unknown;
  } catch {
    throw new ApiError('BadRequest', `${what} is not valid JSON`);
  }
}

export function parseManifest(bytes: Uint8Array, digest: string): Manifest {
  const manifest = parseJson(bytes, `manifest ${digest}`) as Manifest | null;
  const isDescriptor = (value: unknown): boolean => {
    const { digest, size } = (value ?? {}) as Partial<Descriptor>;
    return (
      typeof digest === 'string' &&
      isDigest(digest) &&
      Number.isSafeInteger(size) &&
      size! >= 0 &&
      size! <= remoteBlobBytesMax
    );
  };
  if (
    typeof manifest !== 'object' ||
    manifest === null ||
    !isDescriptor(manifest.config) ||
    !Array.isArray(manifest.layers) ||
    !manifest.layers.every(isDescriptor)
  ) {
    const isFirst = (manifest as { schemaVersion?: unknown } | null)?.schemaVersion === 1;
    throw new ApiError(
      'BadRequest',
      isFirst
        ? `manifest ${digest} has schema version 1, which is not supported: push the image anew with a newer client`
        : `manifest ${digest} is not an image manifest`,
    );
  }
  if (manifest.layers.length > layersPerImageMax)
    throw new ApiError(
      'BadRequest',
      `image has ${manifest.layers.length} layers, at most ${layersPerImageMax} can be mounted`,
    );
  return manifest;
}

class StoredImages implements ImageRecords {
  readonly #content: Content;
  readonly #pins = new Map<string, number>();
  readonly #resolvers: DigestResolver[] = [];
  constructor(content: Content) {
    this.#content = content;
  }

  get(id: string): ImageRecord | undefined {
    return this.#content.records.get<ImageRecord>('images', id);
  }
  list(): ImageRecord[] {
    return [...this.#content.records.entries<ImageRecord>('images')].map(([, record]) => record);
  }
  namesOf(id: string): string[] {
    return [...this.#content.records.entries<NameRecord>('names')]
      .filter(([, name]) => name.imageId === id)
      .map(([name]) => name)
      .sort();
  }
  repoDigestsOf(id: string): string[] {
    return [...this.#content.records.entries<NameRecord>('repo-digests')]
      .filter(([, name]) => name.imageId === id)
      .map(([name]) => name)
      .sort();
  }
  hasOwnName(id: string): boolean {
    return ['names', 'repo-digests'].some((table) =>
      [...this.#content.records.entries<NameRecord>(table)].some(
        ([, name]) => name.imageId === id && name.index === undefined,
      ),
    );
  }
  byName(canonical: string): NameRecord | undefined {
    return this.#content.records.get<NameRecord>('names', canonical);
  }

  find(text: string, { idPrefixMin, platform }: FindOptions = {}): ImageRecord | undefined {
    const target = this.findTarget(text, idPrefixMin === undefined ? {} : { idPrefixMin });
    if (target === undefined || platform === undefined) return target?.image;
    const images = target.index === undefined ? [target.image] : this.imagesOf(target.index);
    return bestFor(platform, images, ({ file }) => platformOf(file));
  }

  findTarget(text: string, { idPrefixMin = 1 }: FindOptions = {}): ImageTarget | undefined {
    if (text.startsWith('sha256:') && text.length === 71) return this.#byDigest(text);
    if (/^[0-9a-f]{64}$/.test(text)) return this.#byDigest(`sha256:${text}`);
    let reference: Reference | undefined;
    try {
      reference = withDefaultTag(parseReference(text));
    } catch (error) {
      if (!digestPrefix.test(text)) throw error;
    }
    const found = reference === undefined ? undefined : this.#byReference(reference);
    return found ?? this.#byPrefix(text, idPrefixMin);
  }

  #targetOf(name: NameRecord | undefined): ImageTarget | undefined {
    const image = name === undefined ? undefined : this.get(name.imageId);
    if (name === undefined || image === undefined) return undefined;
    const index = name.index === undefined ? undefined : this.index(name.index);
    return index === undefined ? { image } : { image, index };
  }

  #byReference(reference: Reference): ImageTarget | undefined {
    const { records } = this.#content;
    const repository = canonicalRepository(reference);
    if (reference.digest !== undefined) {
      const known = this.#targetOf(records.get<NameRecord>('repo-digests', `${repository}@${reference.digest}`));
      if (known !== undefined) return known;
      // `name@sha256:CONFIG` and `name@sha256:MANIFEST` of an image that has a name in this repository.
      const target = this.#byDigest(reference.digest);
      if (target !== undefined && this.#isIn(target, repository)) return target;
    } else {
      const known = this.#targetOf(this.byName(canonicalName(reference)));
      if (known !== undefined) return known;
    }
    for (const resolve of this.#resolvers) {
      const digest = resolve(reference);
      const target = digest === undefined ? undefined : this.#byDigest(digest);
      if (target !== undefined) return target;
    }
    return undefined;
  }

  /** Whether the image, or an index that has it, has a name in the repository. */
  #isIn({ image }: ImageTarget, repository: string): boolean {
    const names = [
      ...this.namesOf(image.id),
      ...this.indexesOf(image.id).flatMap((index) => this.namesOfIndex(index.digest)),
    ];
    return names.some((name) => name.startsWith(`${repository}:`));
  }

  /** Of a configuration, a manifest or an index. */
  #byDigest(digest: string): ImageTarget | undefined {
    const own = this.get(digest) ?? this.list().find((record) => record.manifestDigest === digest);
    if (own !== undefined) return { image: own };
    const index = this.index(digest);
    const [image] = index === undefined ? [] : this.imagesOf(index);
    if (index !== undefined && image !== undefined) return { image, index };
    for (const each of this.#indexes())
      for (const { descriptor, kind, content } of each.manifests)
        if (descriptor.digest === digest && kind === 'image' && content !== undefined)
          return this.#targetOf({ imageId: content.configDigest });
    return undefined;
  }

  #byPrefix(text: string, lengthMin: number): ImageTarget | undefined {
    const hex = digestPrefix.exec(text)?.[1];
    if (hex === undefined || hex.length < lengthMin) return undefined;
    const begin = `sha256:${hex}`;
    const shown = this.list().filter((record) => record.isHidden !== true && record.isPlugins !== true);
    const ofIds = shown.filter(({ id }) => id.startsWith(begin));
    // `docker image ls --tree` shows manifests by their digests.
    const matches = ofIds.length > 0 ? ofIds : shown.filter(({ manifestDigest }) => manifestDigest.startsWith(begin));
    if (matches.length > 1) throw new ApiError('BadRequest', `Multiple IDs found with provided prefix: ${text}`);
    return matches[0] === undefined ? undefined : { image: matches[0] };
  }

  listShown(): ImageRecord[] {
    const defaults = new Set<string>();
    const members = new Set<string>();
    for (const table of ['names', 'repo-digests'])
      for (const [, { imageId }] of this.#content.records.entries<NameRecord>(table)) defaults.add(imageId);
    for (const index of this.#indexes()) {
      const [first, ...others] = this.imagesOf(index);
      if (first !== undefined) defaults.add(first.id);
      for (const { id } of others) members.add(id);
    }
    return this.list().filter(
      ({ id, isIntermediate, isHidden, isPlugins }) =>
        isIntermediate !== true && isHidden !== true && isPlugins !== true && (defaults.has(id) || !members.has(id)),
    );
  }

  index(digest: string): IndexRecord | undefined {
    return this.#content.records.get<IndexRecord>('indexes', digest);
  }
  #indexes(): IndexRecord[] {
    return [...this.#content.records.entries<IndexRecord>('indexes')].map(([, index]) => index);
  }
  indexesOf(id: string): IndexRecord[] {
    return this.#indexes().filter((index) => index.manifests.some(({ content }) => content?.configDigest === id));
  }
  namesOfIndex(digest: string): string[] {
    return ['names', 'repo-digests'].flatMap((table) =>
      [...this.#content.records.entries<NameRecord>(table)]
        .filter(([, name]) => name.index === digest)
        .map(([name]) => name),
    );
  }
  imagesOf(index: IndexRecord, more: readonly ImageRecord[] = []): ImageRecord[] {
    const images = new Map<string, ImageRecord>();
    for (const { kind, content } of index.manifests) {
      if (kind !== 'image' || content === undefined) continue;
      const record = more.find(({ id }) => id === content.configDigest) ?? this.get(content.configDigest);
      if (record !== undefined) images.set(record.id, record);
    }
    const first = bestFor(hostPlatform(), [...images.values()], ({ file }) => platformOf(file));
    return first === undefined ? [...images.values()] : [first, ...[...images.values()].filter((one) => one !== first)];
  }

  indexChanges(index: IndexRecord, more: readonly ImageRecord[] = []): Change[] {
    const [image] = this.imagesOf(index, more);
    const target = image === undefined ? undefined : { imageId: image.id, index: index.digest };
    return [
      { table: 'indexes', key: index.digest, value: target === undefined ? undefined : index },
      ...['names', 'repo-digests'].flatMap((table) =>
        [...this.#content.records.entries<NameRecord>(table)]
          .filter(([, name]) => name.index === index.digest && name.imageId !== image?.id)
          .map(([key]) => ({ table, key, value: target })),
      ),
    ];
  }

  put(record: ImageRecord, more: Change[] = []): Promise<void> {
    return this.commit([{ table: 'images', key: record.id, value: record }, ...more]);
  }

  async recordFromManifest(manifestDigest: string): Promise<ImageRecord> {
    const { blobs } = this.#content;
    const manifest = parseManifest(await blobs.readBytes(manifestDigest, manifestBytesMax), manifestDigest);
    const file = parseJson(await blobs.readBytes(manifest.config.digest, configBytesMax), 'image configuration');
    if (!isImageFile(file)) throw new ApiError('BadRequest', `${manifest.config.digest} is not an image configuration`);
    if (file.rootfs.diff_ids.length !== manifest.layers.length)
      throw new ApiError('BadRequest', 'image configuration and manifest disagree on the number of layers');
    const layers = manifest.layers.map((layer, index): ImageLayer => ({
      digest: layer.digest,
      diffId: file.rootfs.diff_ids[index]!,
      sizeBytes: layer.size,
      mediaType: layer.mediaType,
    }));
    const created = Date.parse(file.created ?? '');
    return {
      id: manifest.config.digest,
      manifestDigest,
      manifestMediaType: manifest.mediaType ?? mediaTypes.ociManifest,
      layers,
      file,
      createdAtMs: Number.isFinite(created) ? created : 0,
    };
  }

  nameChange(canonical: string, target: NameRecord | undefined): Change {
    return { table: 'names', key: canonical, value: target };
  }
  repoDigestChange(key: string, target: NameRecord | undefined): Change {
    return { table: 'repo-digests', key, value: target };
  }
  commit(changes: Change[], options?: CommitOptions): Promise<void> {
    return this.#content.records.commit(changes, options);
  }
  addResolver(resolve: DigestResolver): void {
    this.#resolvers.push(resolve);
  }

  lease(owner: string, holder: string, imageId: string, options?: CommitOptions): Promise<void> {
    const known = this.#content.records.get<{ imageId: string }>('leases', `${owner}/${holder}`);
    if (known?.imageId === imageId) return Promise.resolve();
    return this.commit([{ table: 'leases', key: `${owner}/${holder}`, value: { imageId } }], options);
  }
  releaseLease(owner: string, holder: string, options?: CommitOptions): Promise<void> {
    const key = `${owner}/${holder}`;
    return this.#releaseKeys((each) => each === key || each.startsWith(`${key}/`), options);
  }
  releaseLeases(isStale: (holder: string) => boolean): Promise<void> {
    return this.#releaseKeys((key) => isStale(leaseOf(key).holder));
  }
  #releaseKeys(isMeant: (key: string) => boolean, options?: CommitOptions): Promise<void> {
    const keys = [...this.#content.records.entries('leases')].map(([key]) => key).filter(isMeant);
    return this.commit(
      keys.map((key) => ({ table: 'leases', key, value: undefined })),
      options,
    );
  }
  pin(imageId: string): Disposable {
    this.#pins.set(imageId, (this.#pins.get(imageId) ?? 0) + 1);
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (!isHeld) return;
        isHeld = false;
        const left = this.#pins.get(imageId)! - 1;
        if (left === 0) this.#pins.delete(imageId);
        else this.#pins.set(imageId, left);
      },
    };
  }
  leasesOf(imageId: string): { owner: string; holder: string }[] {
    const pinned = this.#pins.has(imageId) ? [{ owner: 'build', holder: 'in progress' }] : [];
    return [
      ...pinned,
      ...[...this.#content.records.entries<{ imageId: string }>('leases')]
        .filter(([, lease]) => lease.imageId === imageId)
        .map(([key]) => leaseOf(key)),
    ];
  }

  layerSizeBytes(record: ImageRecord): number {
    return record.layers.reduce(
      (sum, layer) =>
        sum + (this.#content.layers.has(layer.diffId) ? this.#content.layers.sizeBytes(layer.diffId) : layer.sizeBytes),
      0,
    );
  }

  roots(): Roots {
    const blobs = new Set<string>();
    const layers = new Set<string>();
    for (const record of this.list()) {
      blobs.add(record.id);
      if (record.manifestDigest !== '') blobs.add(record.manifestDigest);
      for (const layer of record.layers) {
        if (layer.digest !== '') blobs.add(layer.digest);
        layers.add(layer.diffId);
      }
    }
    for (const { digest, inner, manifests } of this.#indexes())
      for (const each of [digest, ...inner, ...manifests.flatMap(({ content }) => content?.blobs ?? [])])
        blobs.add(each);
    return { blobs, layers };
  }
}

export function createImageRecords(content: Content): ImageRecords {
  const images = new StoredImages(content);
  content.addRoots(() => images.roots());
  return images;
}

function leaseOf(key: string): { owner: string; holder: string } {
  const slash = key.indexOf('/');
  return { owner: key.slice(0, slash), holder: key.slice(slash + 1) };
}
