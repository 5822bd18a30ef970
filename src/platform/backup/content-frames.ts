/**
 * Images, the registry and its users as frames: `{type: 'records'}` with a list of changes to the tables of
 * `content/records.ts`, `{type: 'blob', digest}` with its bytes, and at the end `{type: 'names', images, leftOut}`.
 *
 * Layers travel as blobs, each once, and are unpacked again where they are needed. What is taken is held meanwhile, so
 * that no collection removes it. Leases, build steps, caches and plugins stay where they are: they are the machine's.
 */
import type { Content } from '#content/content.ts';
import type { ImageRecord, ImageRecords, NameRecord } from '#content/image-records.ts';
import type { IndexRecord } from '#content/manifest.ts';
import type { Change } from '#content/records.ts';
import { ApiError } from '#base/errors.ts';
import { itemsOf, textOf, textsOf, fieldOf } from '#base/unknown.ts';
import { frameHead, readFrames } from './frames.ts';

/**
 * `own`: what no other registry has - images that were made or loaded here - and what the platform's registry holds.
 * Names: these alone.
 */
export type ImageChoice = 'own' | 'all' | 'none' | readonly string[];

const registryTables = ['registry-manifests', 'registry-tags', 'registry-blobs'];
const usersTable = 'registry-users';
/** Of the changes that are sent and written together. */
const changesBytesWanted = 256 * 1024;

class Selection {
  readonly images = new Map<string, ImageRecord>();
  readonly indexes = new Map<string, IndexRecord>();
  readonly leftOut: string[] = [];
  readonly #content: Content;
  readonly #records: ImageRecords;
  readonly #withRegistry: boolean;

  constructor(content: Content, records: ImageRecords, choice: ImageChoice) {
    this.#content = content;
    this.#records = records;
    this.#withRegistry = choice === 'own' || choice === 'all';
    if (typeof choice !== 'string') for (const name of choice) this.#addNamed(name);
    else if (choice !== 'none')
      for (const image of records.list())
        if (image.isPlugins !== true && image.isIntermediate !== true && (choice === 'all' || this.#isOwn(image)))
          this.#add(image);
  }

  #addNamed(name: string): void {
    const target = this.#records.findTarget(name);
    if (target === undefined)
      throw new ApiError(
        'NotFound',
        `there is no image ${JSON.stringify(name)} on this machine; 'docker images' lists them`,
      );
    this.#add(target.image);
  }

  #isOwn({ id, isPulled, isHidden, manifestDigest }: ImageRecord): boolean {
    if (this.#isInRegistry(manifestDigest)) return true;
    return this.#records.indexesOf(id).some(({ digest }) => this.#isInRegistry(digest)) || !(isPulled || isHidden);
  }

  #isInRegistry(digest: string): boolean {
    for (const [key] of this.#content.records.entries('registry-manifests'))
      if (key.endsWith(`@${digest}`)) return true;
    return false;
  }

  #add(image: ImageRecord): void {
    if (this.images.has(image.id)) return;
    const { blobs } = this.#content;
    if (!image.layers.every(({ digest }) => digest !== '' && blobs.has(digest))) {
      this.leftOut.push(`image ${this.#records.namesOf(image.id)[0] ?? image.id}: its layers have no archives here`);
      return;
    }
    // The step that it was made from is not in the backup.
    const { parent: _parent, ...record } = image;
    this.images.set(image.id, record);
    for (const index of this.#records.indexesOf(image.id)) {
      if (this.indexes.has(index.digest)) continue;
      this.indexes.set(index.digest, index);
      for (const each of this.#records.imagesOf(index)) this.#add(each);
    }
  }

  #named(table: string): Change[] {
    return [...this.#content.records.entries<NameRecord>(table)]
      .filter(([, { imageId, index }]) => this.images.has(imageId) && (index === undefined || this.indexes.has(index)))
      .map(([key, value]) => ({ table, key, value }));
  }

  changes(): Change[] {
    const tables = [...(this.#withRegistry ? registryTables : []), usersTable];
    return [
      ...[...this.images].map(([key, value]) => ({ table: 'images', key, value })),
      ...[...this.indexes].map(([key, value]) => ({ table: 'indexes', key, value })),
      ...['names', 'repo-digests'].flatMap((table) => this.#named(table)),
      ...tables.flatMap((table) =>
        [...this.#content.records.entries(table)].map(([key, value]) => ({ table, key, value })),
      ),
    ];
  }

  /** Digests that are here. */
  blobs(): Set<string> {
    const wanted = new Set<string>();
    for (const { id, manifestDigest, layers } of this.images.values())
      for (const digest of [id, manifestDigest, ...layers.map((layer) => layer.digest)]) wanted.add(digest);
    for (const { digest, inner, manifests } of this.indexes.values())
      for (const each of [digest, ...inner, ...manifests.flatMap(({ content }) => content?.blobs ?? [])])
        wanted.add(each);
    if (this.#withRegistry)
      for (const [key, record] of this.#content.records.entries('registry-manifests'))
        for (const digest of [key.slice(key.lastIndexOf('@') + 1), ...textsOf(fieldOf(record, 'blobs'))])
          wanted.add(digest);
    return new Set([...wanted].filter((digest) => digest !== '' && this.#content.blobs.has(digest)));
  }

  names(): string[] {
    return [...this.images.values()]
      .filter(({ isHidden }) => isHidden !== true)
      .flatMap(({ id }) => {
        const names = this.#records.namesOf(id);
        return names.length === 0 ? [id] : names;
      })
      .sort();
  }
}

function* recordFrames(changes: readonly Change[]): Generator<Buffer> {
  const frame = (lines: string[]): Buffer => {
    const content = Buffer.from(`[${lines.join(',')}]`);
    return Buffer.concat([frameHead({ type: 'records' }, content.length), content]);
  };
  let lines: string[] = [];
  let bytes = 0;
  for (const change of changes) {
    const line = JSON.stringify(change);
    if (bytes > 0 && bytes + line.length > changesBytesWanted) {
      yield frame(lines);
      lines = [];
      bytes = 0;
    }
    lines.push(line);
    bytes += line.length;
  }
  if (lines.length > 0) yield frame(lines);
}

/** Rejects with NotFound, before the first frame, where an image is not here. */
export async function* contentFrames(
  content: Content,
  records: ImageRecords,
  choice: ImageChoice,
): AsyncGenerator<Uint8Array> {
  // Layers that were made a moment ago are on the disk first.
  await content.layers.settle();
  using hold = content.hold();
  const selection = new Selection(content, records, choice);
  const blobs = selection.blobs();
  for (const digest of blobs) hold.addBlob(digest);
  for (const { layers } of selection.images.values()) for (const { diffId } of layers) hold.addLayer(diffId);
  yield* recordFrames(selection.changes());
  for (const digest of blobs) {
    const bytes = content.blobs.size(digest);
    if (bytes === undefined) throw new ApiError('NotFound', `content ${digest}: not found`);
    yield frameHead({ type: 'blob', digest }, bytes);
    for await (const chunk of content.blobs.read(digest))
      yield chunk instanceof Uint8Array ? chunk : Buffer.from(chunk);
  }
  yield frameHead({ type: 'names', images: selection.names(), leftOut: selection.leftOut }, 0);
}

const damaged = (): ApiError =>
  new ApiError('BadRequest', 'this backup is damaged: its images are not what the format says');

/** Tables that a backup may fill. */
const known = new Set(['images', 'indexes', 'names', 'repo-digests', ...registryTables, usersTable]);

function parseChanges(bytes: Buffer): Change[] {
  const found: unknown = JSON.parse(bytes.toString());
  return itemsOf(found).map((change) => {
    const [table, key] = [textOf(change, 'table'), textOf(change, 'key')];
    if (table === undefined || key === undefined || !known.has(table)) throw damaged();
    return { table, key, value: fieldOf(change, 'value') };
  });
}

/** Fills a content that holds nothing. Blobs that are not what their digest says are refused. */
export async function writeContent(source: AsyncIterable<Uint8Array>, content: Content): Promise<void> {
  using hold = content.hold();
  const batches: Change[][] = [];
  for await (const frame of readFrames(source)) {
    if (frame.head['type'] === 'records') batches.push(parseChanges(await frame.read()));
    else if (frame.head['type'] === 'blob') {
      const digest = textOf(frame.head, 'digest');
      if (digest === undefined) throw damaged();
      hold.addBlob(digest);
      await content.blobs.write(frame.content, { digest, sizeBytes: frame.bytes }, frame.bytes);
    }
  }
  // Names come after what they stand for.
  for (const changes of batches) await content.records.commit(changes);
}
