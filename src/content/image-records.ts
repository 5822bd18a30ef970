/**
 * Images as this data directory knows them: names → image, image → manifest, configuration and layers.
 *
 * Words. The *image id* is the digest of the configuration, as docker's is. A *name* is canonical
 * (`docker.io/library/busybox:latest`). A
 * *repo digest* (`docker.io/library/busybox@sha256:…`) remembers under which manifest digest a repository holds the
 * image. An image without a name stays until it is removed; an *intermediate* one (a build step) until no build cache
 * record and no image needs it.
 *
 * Specification: OCI image 1.1 (manifest, config); docker's schema 2 media types say the same with other names.
 */
import { ApiError } from '#base/errors.ts';
import { canonicalName, canonicalRepository, isDigest, parseReference, withDefaultTag } from '#base/reference.ts';
import type { Reference } from '#base/reference.ts';
import type { Content, Roots } from './content.ts';
import { isImageFile } from './image-file.ts';
import type { ImageFile } from './image-file.ts';
import { configBytesMax, layersPerImageMax, manifestBytesMax, remoteBlobBytesMax } from './limits.ts';
import type { Change } from './records.ts';

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

export interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
  platform?: Platform;
  annotations?: Record<string, string>;
  artifactType?: string;
  data?: string;
  urls?: string[];
}
export interface Platform {
  os: string;
  architecture: string;
  variant?: string;
  'os.version'?: string;
}
export interface Manifest {
  schemaVersion: number;
  mediaType?: string;
  artifactType?: string;
  config: Descriptor;
  layers: Descriptor[];
  subject?: Descriptor;
  annotations?: Record<string, string>;
}
export interface Index {
  schemaVersion: number;
  mediaType?: string;
  artifactType?: string;
  manifests: Descriptor[];
  subject?: Descriptor;
  annotations?: Record<string, string>;
}

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
  /** Came from another registry, so that a pull of its name asks there again. */
  isPulled?: boolean;
  /** Came because a Pod needed it, and no user has named it since: the kubelet may remove it again. */
  isKubelets?: boolean;
  tagTimeMs?: number;
}

export interface NameRecord {
  imageId: string;
}

const digestPrefix = /^(?:sha256:)?([0-9a-f]{1,64})$/;

export interface ImageRecords {
  get(id: string): ImageRecord | undefined;
  list(): ImageRecord[];
  /** Canonical names of an image, sorted. */
  namesOf(id: string): string[];
  repoDigestsOf(id: string): string[];
  byName(canonical: string): string | undefined;
  /**
   * Name, repo digest, id or a unique id prefix, as docker resolves. An ApiError where a prefix is ambiguous.
   * `idPrefixMin`: letters that a
   * prefix has at least; where a name is meant, a short one is a name.
   */
  find(text: string, options?: { idPrefixMin?: number }): ImageRecord | undefined;
  put(record: ImageRecord, more?: Change[]): Promise<void>;
  /** Reads a manifest and its configuration out of the blob store and makes a record; blobs must be here. */
  recordFromManifest(manifestDigest: string): Promise<ImageRecord>;
  nameChange(canonical: string, imageId: string | undefined): Change;
  repoDigestChange(repositoryAtDigest: string, imageId: string | undefined): Change;
  commit(changes: Change[]): Promise<void>;
  /** Images are found by name too where this hook knows more names (the registry's tags). */
  addResolver(resolve: (reference: Reference) => string | undefined): void;
  lease(owner: string, holder: string, imageId: string): Promise<void>;
  /** Also gives up what `holder/…` holds. */
  releaseLease(owner: string, holder: string): Promise<void>;
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
  readonly #resolvers: ((reference: Reference) => string | undefined)[] = [];
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
  byName(canonical: string): string | undefined {
    return this.#content.records.get<NameRecord>('names', canonical)?.imageId;
  }

  find(text: string, options: { idPrefixMin?: number } = {}): ImageRecord | undefined {
    if (text.startsWith('sha256:') && text.length === 71) return this.get(text) ?? this.#byManifest(text);
    if (/^[0-9a-f]{64}$/.test(text)) return this.get(`sha256:${text}`);
    let reference: Reference | undefined;
    try {
      reference = withDefaultTag(parseReference(text));
    } catch (error) {
      if (!digestPrefix.test(text)) throw error;
    }
    if (reference !== undefined) {
      const id = this.#byReference(reference);
      if (id !== undefined) return this.get(id);
    }
    return this.#byPrefix(text, options.idPrefixMin ?? 1);
  }

  #byReference(reference: Reference): string | undefined {
    const { records } = this.#content;
    if (reference.digest !== undefined) {
      const repository = `${canonicalRepository(reference)}@${reference.digest}`;
      const id = records.get<NameRecord>('repo-digests', repository)?.imageId;
      if (id !== undefined) return id;
      // `name@sha256:CONFIG` and `name@sha256:MANIFEST` of an image that has a name in this repository.
      const record = this.get(reference.digest) ?? this.#byManifest(reference.digest);
      if (
        record !== undefined &&
        this.namesOf(record.id).some((name) => name.startsWith(`${canonicalRepository(reference)}:`))
      )
        return record.id;
    } else {
      const id = this.byName(canonicalName(reference));
      if (id !== undefined) return id;
    }
    for (const resolve of this.#resolvers) {
      const id = resolve(reference);
      if (id !== undefined && this.get(id) !== undefined) return id;
    }
    return undefined;
  }

  #byManifest(digest: string): ImageRecord | undefined {
    return this.list().find((record) => record.manifestDigest === digest);
  }

  #byPrefix(text: string, lengthMin: number): ImageRecord | undefined {
    const hex = digestPrefix.exec(text)?.[1];
    if (hex === undefined || hex.length < lengthMin) return undefined;
    const matches = this.list().filter((record) => record.id.startsWith(`sha256:${hex}`) && record.isHidden !== true);
    if (matches.length > 1) throw new ApiError('BadRequest', `Multiple IDs found with provided prefix: ${text}`);
    return matches[0];
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

  nameChange(canonical: string, imageId: string | undefined): Change {
    return {
      table: 'names',
      key: canonical,
      value: imageId === undefined ? undefined : ({ imageId } satisfies NameRecord),
    };
  }
  repoDigestChange(key: string, imageId: string | undefined): Change {
    return {
      table: 'repo-digests',
      key,
      value: imageId === undefined ? undefined : ({ imageId } satisfies NameRecord),
    };
  }
  commit(changes: Change[]): Promise<void> {
    return this.#content.records.commit(changes);
  }
  addResolver(resolve: (reference: Reference) => string | undefined): void {
    this.#resolvers.push(resolve);
  }

  lease(owner: string, holder: string, imageId: string): Promise<void> {
    const known = this.#content.records.get<{ imageId: string }>('leases', `${owner}/${holder}`);
    if (known?.imageId === imageId) return Promise.resolve();
    return this.commit([{ table: 'leases', key: `${owner}/${holder}`, value: { imageId } }]);
  }
  async releaseLease(owner: string, holder: string): Promise<void> {
    const key = `${owner}/${holder}`;
    const held = [...this.#content.records.entries('leases')]
      .map(([each]) => each)
      .filter((each) => each === key || each.startsWith(`${key}/`));
    if (held.length > 0) await this.commit(held.map((each) => ({ table: 'leases', key: each, value: undefined })));
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
        .map(([key]) => {
          const slash = key.indexOf('/');
          return { owner: key.slice(0, slash), holder: key.slice(slash + 1) };
        }),
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
    return { blobs, layers };
  }
}

export function createImageRecords(content: Content): ImageRecords {
  const images = new StoredImages(content);
  content.addRoots(() => images.roots());
  return images;
}
