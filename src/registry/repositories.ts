/**
 * Repositories: which tags, manifests and blobs each holds. The bytes are in the shared blob store; here are only the
 * names, in the tables
 * `registry-tags`, `registry-manifests` and `registry-blobs`. A repository exists while it holds anything.
 *
 * A manifest keeps its blobs, and a blob that was uploaded but is in no manifest yet is kept for a day. An image that a
 * client pushed is recorded for the engine too, hidden from its lists, so that a Pod can run it at once.
 */
import { ApiError } from '#base/errors.ts';
import type { Content, Roots } from '#content/content.ts';
import { linkIndex } from '#content/image-indexes.ts';
import type { ImageRecords } from '#content/image-records.ts';
import type { Change } from '#content/records.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock } from '#os/clock.ts';
import { RegistryError } from './errors.ts';
import { inspectManifest } from './inspect-manifest.ts';
import type { ManifestRecord } from './inspect-manifest.ts';
import { unnamedBlobMs } from './limits.ts';

interface TagRecord {
  digest: string;
}
interface BlobRecord {
  atMs: number;
}

export interface PutManifest {
  tags: string[];
  digest: string;
  bytes: Uint8Array;
  /** As the client says it; undefined where nobody has. */
  mediaType: string | undefined;
}

export interface Repositories {
  exists(path: string): boolean;
  names(): string[];
  tags(path: string): string[];
  resolve(path: string, tagOrDigest: string): string | undefined;
  manifest(path: string, digest: string): ManifestRecord | undefined;
  /** True while any repository has this manifest. */
  holds(digest: string): boolean;
  hasBlob(path: string, digest: string): boolean;
  hasBlobAnywhere(digest: string): boolean;
  addBlob(path: string, digest: string): Promise<void>;
  removeBlob(path: string, digest: string): Promise<void>;
  /** Checks and records a manifest whose bytes are in the blob store. */
  putManifest(
    path: string,
    manifest: PutManifest,
    options?: { linkBlobs?: boolean },
  ): Promise<{ record: ManifestRecord; newBlobs: Set<string> }>;
  removeTag(path: string, tag: string): Promise<boolean>;
  removeManifest(path: string, digest: string): Promise<boolean>;
  referrers(path: string, digest: string): { digest: string; record: ManifestRecord }[];
}

class StoredRepositories implements Repositories {
  readonly #content: Content;
  readonly #images: ImageRecords;
  readonly #clock: Clock;
  readonly #log: Logger;

  constructor(content: Content, images: ImageRecords, clock: Clock, log: Logger) {
    this.#content = content;
    this.#images = images;
    this.#clock = clock;
    this.#log = log;
  }

  exists(path: string): boolean {
    for (const table of ['registry-manifests', 'registry-blobs'])
      for (const [key] of this.#content.records.entries(table)) if (key.startsWith(`${path}@`)) return true;
    return false;
  }
  names(): string[] {
    const names = new Set<string>();
    for (const [key] of this.#content.records.entries('registry-manifests'))
      names.add(key.slice(0, key.lastIndexOf('@')));
    return [...names].sort();
  }
  tags(path: string): string[] {
    const out: string[] = [];
    for (const [key] of this.#content.records.entries('registry-tags'))
      if (key.startsWith(`${path}:`) && key.lastIndexOf(':') === path.length) out.push(key.slice(path.length + 1));
    return out.sort((a, b) =>
      a.toLowerCase() < b.toLowerCase() ? -1 : a.toLowerCase() > b.toLowerCase() ? 1 : a < b ? -1 : 1,
    );
  }
  resolve(path: string, tagOrDigest: string): string | undefined {
    const digest = tagOrDigest.includes(':')
      ? tagOrDigest
      : this.#content.records.get<TagRecord>('registry-tags', `${path}:${tagOrDigest}`)?.digest;
    return digest !== undefined && this.manifest(path, digest) !== undefined ? digest : undefined;
  }
  manifest(path: string, digest: string): ManifestRecord | undefined {
    return this.#content.records.get<ManifestRecord>('registry-manifests', `${path}@${digest}`);
  }
  holds(digest: string): boolean {
    for (const [key] of this.#content.records.entries('registry-manifests'))
      if (key.endsWith(`@${digest}`)) return true;
    return false;
  }
  hasBlob(path: string, digest: string): boolean {
    return (
      this.#content.blobs.has(digest) && this.#content.records.get('registry-blobs', `${path}@${digest}`) !== undefined
    );
  }
  hasBlobAnywhere(digest: string): boolean {
    if (!this.#content.blobs.has(digest)) return false;
    for (const [key] of this.#content.records.entries('registry-blobs')) if (key.endsWith(`@${digest}`)) return true;
    return false;
  }
  addBlob(path: string, digest: string): Promise<void> {
    return this.#content.records.commit([
      { table: 'registry-blobs', key: `${path}@${digest}`, value: { atMs: this.#clock.now() } satisfies BlobRecord },
    ]);
  }
  removeBlob(path: string, digest: string): Promise<void> {
    return this.#content.records.commit([{ table: 'registry-blobs', key: `${path}@${digest}`, value: undefined }]);
  }

  async putManifest(
    path: string,
    { tags, digest, bytes, mediaType }: PutManifest,
    options: { linkBlobs?: boolean } = {},
  ): Promise<{ record: ManifestRecord; newBlobs: Set<string> }> {
    const record = inspectManifest(bytes, mediaType);
    const changes: Change[] = [];
    const newBlobs = new Set<string>();
    // The index of a build's cache lists layers: what is no manifest here may be a blob.
    const children = record.manifests.filter((child) => this.manifest(path, child) === undefined);
    for (const blob of [...record.blobs, ...children.filter((child) => this.#content.blobs.has(child))]) {
      if (this.hasBlob(path, blob)) continue;
      if (options.linkBlobs !== true || !this.#content.blobs.has(blob))
        throw new RegistryError('MANIFEST_BLOB_UNKNOWN', `blob unknown to registry: ${blob}`);
      newBlobs.add(blob);
      changes.push({
        table: 'registry-blobs',
        key: `${path}@${blob}`,
        value: { atMs: this.#clock.now() } satisfies BlobRecord,
      });
    }
    for (const child of children)
      if (!this.#content.blobs.has(child))
        throw new RegistryError('MANIFEST_BLOB_UNKNOWN', `manifest unknown to registry: ${child}`);
    changes.push({ table: 'registry-manifests', key: `${path}@${digest}`, value: record });
    for (const tag of tags)
      changes.push({ table: 'registry-tags', key: `${path}:${tag}`, value: { digest } satisfies TagRecord });
    await this.#content.records.commit(changes);
    await this.#recordImage(digest, record);
    return { record, newBlobs };
  }

  /** Lets the engine find what was pushed. Anything that is not an image for Linux is none of its business. */
  async #recordImage(digest: string, manifest: ManifestRecord): Promise<void> {
    const isIndex = manifest.manifests.length > 0;
    if (!isIndex && (manifest.blobs.length === 0 || this.#images.list().some((one) => one.manifestDigest === digest)))
      return;
    try {
      if (isIndex) {
        using hold = this.#content.hold();
        const link = await linkIndex(this.#content, this.#images, digest, { hold, isHidden: true });
        await this.#images.commit(link().changes);
        return;
      }
      const record = await this.#images.recordFromManifest(digest);
      if (record.file.os !== 'linux' || this.#images.get(record.id) !== undefined) return;
      await this.#images.put({ ...record, isHidden: true });
    } catch (error) {
      if (!(error instanceof ApiError))
        this.#log.warn('a pushed manifest could not be read as an image', { digest, error });
    }
  }

  async removeTag(path: string, tag: string): Promise<boolean> {
    if (this.#content.records.get('registry-tags', `${path}:${tag}`) === undefined) return false;
    await this.#content.records.commit([{ table: 'registry-tags', key: `${path}:${tag}`, value: undefined }]);
    return true;
  }

  async removeManifest(path: string, digest: string): Promise<boolean> {
    if (this.manifest(path, digest) === undefined) return false;
    const changes: Change[] = [{ table: 'registry-manifests', key: `${path}@${digest}`, value: undefined }];
    for (const [key, tag] of this.#content.records.entries<TagRecord>('registry-tags'))
      if (tag.digest === digest && key.startsWith(`${path}:`))
        changes.push({ table: 'registry-tags', key, value: undefined });
    changes.push(...this.#forgetIndex(path, digest));
    const hidden = this.#images.list().find((image) => image.manifestDigest === digest && image.isHidden === true);
    if (
      hidden !== undefined &&
      !this.#isElsewhere(path, digest) &&
      this.#images.namesOf(hidden.id).length === 0 &&
      this.#images.indexesOf(hidden.id).length === 0 &&
      this.#images.leasesOf(hidden.id).length === 0
    )
      changes.push({ table: 'images', key: hidden.id, value: undefined });
    await this.#content.records.commit(changes);
    return true;
  }

  /** An index that nobody else has, and the images that were known for its sake. */
  #forgetIndex(path: string, digest: string): Change[] {
    const index = this.#images.index(digest);
    if (index === undefined || this.#isElsewhere(path, digest) || this.#images.namesOfIndex(digest).length > 0)
      return [];
    const alone = this.#images
      .imagesOf(index)
      .filter(
        ({ id, isHidden, manifestDigest }) =>
          isHidden === true &&
          !this.holds(manifestDigest) &&
          this.#images.indexesOf(id).length === 1 &&
          this.#images.leasesOf(id).length === 0,
      );
    return [
      { table: 'indexes', key: digest, value: undefined },
      ...alone.map(({ id }): Change => ({ table: 'images', key: id, value: undefined })),
    ];
  }

  #isElsewhere(path: string, digest: string): boolean {
    return [...this.#content.records.entries('registry-manifests')].some(
      ([key]) => key.endsWith(`@${digest}`) && key !== `${path}@${digest}`,
    );
  }

  referrers(path: string, digest: string): { digest: string; record: ManifestRecord }[] {
    const out: { digest: string; record: ManifestRecord }[] = [];
    for (const [key, record] of this.#content.records.entries<ManifestRecord>('registry-manifests')) {
      if (record.subject === digest && key.startsWith(`${path}@`))
        out.push({ digest: key.slice(path.length + 1), record });
    }
    return out;
  }

  roots(): Roots {
    const blobs = new Set<string>();
    for (const [key, record] of this.#content.records.entries<ManifestRecord>('registry-manifests')) {
      blobs.add(key.slice(key.lastIndexOf('@') + 1));
      for (const blob of record.blobs) blobs.add(blob);
    }
    const oldest = this.#clock.now() - unnamedBlobMs;
    for (const [key, record] of this.#content.records.entries<BlobRecord>('registry-blobs'))
      if (record.atMs > oldest) blobs.add(key.slice(key.lastIndexOf('@') + 1));
    return { blobs, layers: [] };
  }
}

export function createRepositories(content: Content, images: ImageRecords, clock: Clock, log: Logger): Repositories {
  const repositories = new StoredRepositories(content, images, clock, log);
  content.addRoots(() => repositories.roots());
  return repositories;
}
