/**
 * `--cache-from` and `--cache-to` of one build: results of steps come from, and go to, registries, directories of the
 * client and images (`inline`). What cannot be read is told and passed over, as a cache decides no result; layers are
 * fetched when a step is looked for that they are of, and are checked like those of any image.
 */
import { ApiError } from '#base/errors.ts';
import { parseReference, withDefaultTag } from '#base/reference.ts';
import { messageOf } from '#base/thrown.ts';
import { isObject, itemsOf, textOf } from '#base/unknown.ts';
import { ociLayerType } from '#content/image-writer.ts';
import { mediaTypes, parseManifest } from '#content/image-records.ts';
import type { ImageLayer } from '#content/image-records.ts';
import type { Descriptor, Manifest } from '#content/manifest.ts';
import { configBytesMax } from '#content/limits.ts';
import { compressLayer, isPlainLayer } from '#content/layer-compression.ts';
import type { BlobPlace, PlacedManifest } from '#engine/images-repository.ts';
import type { Hold } from '#content/content.ts';
import type { RegistryCredential } from '#engine/engine.ts';
import type { BuilderParts } from '../build.ts';
import { digestOf } from '../cache-keys.ts';
import { cacheConfigMediaType, parseCacheConfig, recordsOver, writeCacheConfig } from '../cache-config.ts';
import type { TravellingResult } from '../cache-config.ts';
import { cacheConfigBytesMax, cacheImagesMax } from '../limits.ts';
import { layersOf } from '../llb/output.ts';
import type { StepLayer } from '../llb/output.ts';
import type { TravelledResult, TravellingCache, Work } from '../llb/work.ts';
import { isTrue, parseCompression } from './compression-options.ts';
import type { CompressionOptions } from './compression-options.ts';
import { messagesIn, textIn, textMapIn } from '#grpc/fields.ts';
import type { Message } from '#grpc/fields.ts';
import { openSharedPlace } from './content-store.ts';
import type { Line, Progress } from './progress.ts';
import type { Session } from './session.ts';

export interface CacheEntry {
  type: string;
  attributes: Record<string, string>;
}

/** Of a message's field. */
export function cacheEntriesIn(message: Message, field: string): CacheEntry[] {
  return messagesIn(message, field).map((entry) => ({
    type: textIn(entry, 'Type'),
    attributes: textMapIn(entry, 'Attrs'),
  }));
}

/** The build, as its cache needs it. */
interface CacheJob {
  builder: { parts: Pick<BuilderParts, 'content' | 'openPlace'> };
  signal: AbortSignal;
  hold: Hold;
  progress: Pick<Progress, 'warn'>;
  session(signal: AbortSignal): Promise<Session>;
  credential(domain: string): Promise<RegistryCredential | undefined>;
  shown<T>(name: string, work: (line: Line) => Promise<T>): Promise<T>;
}

interface Imported {
  results: ReadonlyMap<string, TravellingResult>;
  manifest: PlacedManifest;
}

const uncompressed = 'containerd.io/uncompressed';

/** Throws BadRequest for what there is not, in BuildKit's words. */
function checkCacheEntries(exports: readonly CacheEntry[], imports: readonly CacheEntry[]): void {
  for (const { type } of exports)
    if (!['inline', 'registry', 'local'].includes(type))
      throw new ApiError('BadRequest', `unknown cache exporter: ${JSON.stringify(type.slice(0, 50))}`);
  for (const { type } of imports)
    if (!['registry', 'local'].includes(type))
      throw new ApiError('BadRequest', `unknown cache importer: ${type.slice(0, 50)}`);
  for (const { attributes } of exports) {
    if (attributes['mode'] !== undefined && !['min', 'max'].includes(attributes['mode']))
      throw new ApiError('BadRequest', `unsupported cache export mode ${attributes['mode'].slice(0, 50)}`);
    parseCompression(attributes);
  }
}

/** Outputs of one vertex have keys of their own. */
function outputKey(key: string, output: number): string {
  return output === 0 ? key : digestOf('output', key, output);
}

export class JobCache implements TravellingCache {
  readonly #job: CacheJob;
  readonly #exports: readonly CacheEntry[];
  readonly #imports: CacheEntry[];
  #imported: Promise<Imported[]> | undefined;
  readonly #results = new Map<string, TravellingResult>();

  constructor(job: CacheJob, exports: readonly CacheEntry[], imports: readonly CacheEntry[]) {
    checkCacheEntries(exports, imports);
    this.#job = job;
    this.#exports = exports;
    this.#imports = [...imports];
  }

  get isInline(): boolean {
    return this.#exports.some(({ type }) => type === 'inline');
  }

  /** A front end names more of them, or the same. */
  addImports(entries: readonly CacheEntry[]): void {
    checkCacheEntries([], entries);
    const known = new Set(this.#imports.map((entry) => JSON.stringify(entry)));
    const added = entries.filter((entry) => !known.has(JSON.stringify(entry)));
    if (added.length === 0) return;
    this.#imports.push(...added);
    this.#imported = undefined;
  }

  async #place({ type, attributes }: CacheEntry): Promise<BlobPlace> {
    const { builder, signal } = this.#job;
    if (type === 'registry') {
      const reference = withDefaultTag(parseReference(attributes['ref'] ?? ''));
      return builder.parts.openPlace(reference, await this.#job.credential(reference.domain));
    }
    const directory = attributes['src'] ?? attributes['dest'] ?? '';
    const session = await this.#job.session(signal);
    const store = { session, name: `local:${directory}`, content: builder.parts.content };
    return openSharedPlace(store, attributes['digest'] ?? '');
  }

  // Coming.

  async find(work: Work): Promise<TravelledResult | undefined> {
    if (this.#imports.length === 0) return undefined;
    let told: TravelledResult | undefined;
    for (const imported of await (this.#imported ??= this.#readAll())) {
      const found = await this.#findIn(imported, work);
      if (found !== undefined && found.isAbsent !== true) return found;
      // Another may have what this one only tells of.
      told ??= found;
    }
    return told;
  }

  async #readAll(): Promise<Imported[]> {
    const all = await Promise.all(
      this.#imports.map(async (entry) => {
        const name = entry.attributes['ref'] ?? entry.attributes['src'] ?? '';
        try {
          return await this.#job.shown(`importing cache manifest from ${name.slice(0, 200)}`, () => this.#read(entry));
        } catch {
          // It was shown; steps are carried out in its place.
          this.#job.signal.throwIfAborted();
          return [];
        }
      }),
    );
    return all.flat();
  }

  async #read(entry: CacheEntry): Promise<Imported[]> {
    const manifest = await (await this.#place(entry)).find(this.#job.signal);
    return this.#parse(manifest, manifest.bytes);
  }

  async #blob(manifest: PlacedManifest, descriptor: { digest: string; size: number }, bytesMax: number) {
    const { digest, size } = descriptor;
    if (size > bytesMax) throw new ApiError('BadRequest', `blob ${digest} is too large (${size} > ${bytesMax})`);
    this.#job.hold.addBlob(digest);
    await manifest.fetch(digest, size, this.#job.signal);
    return this.#job.builder.parts.content.blobs.readBytes(digest, bytesMax);
  }

  /** A manifest or an index, of a cache or of images with caches in them. */
  async #parse(manifest: PlacedManifest, bytes: Buffer, isBelow = false): Promise<Imported[]> {
    const value: unknown = JSON.parse(bytes.toString('utf8'));
    const inIndex = itemsOf(isObject(value) ? value['manifests'] : undefined).filter(isDescriptor);
    const config = isObject(value) && isDescriptor(value['config']) ? value['config'] : undefined;
    const cacheConfig = [...inIndex, ...(config === undefined ? [] : [config])].find(
      ({ mediaType }) => mediaType === cacheConfigMediaType,
    );
    if (cacheConfig !== undefined) {
      const described = [...inIndex, ...itemsOf(isObject(value) ? value['layers'] : undefined).filter(isDescriptor)];
      const layers = described.flatMap((each): [string, ImageLayer][] => {
        const diffId = each.annotations?.[uncompressed];
        if (diffId === undefined) return [];
        return [[each.digest, { digest: each.digest, diffId, sizeBytes: each.size, mediaType: each.mediaType }]];
      });
      const parsed: unknown = JSON.parse((await this.#blob(manifest, cacheConfig, cacheConfigBytesMax)).toString());
      return [{ results: parseCacheConfig(parsed, new Map(layers)), manifest }];
    }
    if (config !== undefined) return this.#parseImage(manifest, bytes);
    if (isBelow) return [];
    const images = inIndex.filter(({ size }) => size <= cacheConfigBytesMax).slice(0, cacheImagesMax);
    const all: Imported[] = [];
    for (const image of images)
      all.push(...(await this.#parse(manifest, await this.#blob(manifest, image, cacheConfigBytesMax), true)));
    return all;
  }

  async #parseImage(manifest: PlacedManifest, bytes: Buffer): Promise<Imported[]> {
    const { config, layers } = parseManifest(bytes, 'cache');
    const file: unknown = JSON.parse((await this.#blob(manifest, config, configBytesMax)).toString('utf8'));
    const cache = textOf(file, 'moby.buildkit.cache.v0');
    const diffIds = isObject(file) && isObject(file['rootfs']) ? itemsOf(file['rootfs']['diff_ids']) : [];
    if (cache === undefined || diffIds.length !== layers.length) return [];
    const own = layers.map(({ digest, size, mediaType }, index): ImageLayer => ({
      digest,
      diffId: String(diffIds[index]),
      sizeBytes: size,
      mediaType,
    }));
    const records: unknown = JSON.parse(Buffer.from(cache, 'base64').toString('utf8'));
    const inOrder = layers.map(({ digest }, index) => ({ blob: digest, parent: index - 1 }));
    const known = new Map(own.map((layer) => [layer.digest, layer]));
    return [{ results: parseCacheConfig({ layers: inOrder, records }, known), manifest }];
  }

  /** All outputs of the work, or nothing. What cannot be had, or is not what it should be, counts as not known. */
  async #findIn({ results, manifest }: Imported, work: Work): Promise<TravelledResult | undefined> {
    const layers: (ImageLayer | null)[] = [];
    let atMs = 0;
    let isAbsent = false;
    for (let output = 0; output < work.outputs; output++) {
      const found = results.get(outputKey(work.key, output));
      const below = layersOf(work.below[output] ?? []);
      if (found === undefined || found.layers.length > below.length + 1) return undefined;
      if (!standsOn(found.layers, below)) return undefined;
      layers.push(found.layers[below.length] ?? null);
      atMs = found.createdAtMs;
      isAbsent ||= found.isAbsent === true;
    }
    if (isAbsent) return { layers, atMs, isAbsent };
    try {
      for (const layer of layers) if (layer !== null) await this.#fetch(manifest, layer);
    } catch (error) {
      this.#job.signal.throwIfAborted();
      this.#job.progress.warn('', `a cached layer cannot be used: ${messageOf(error)}`);
      return undefined;
    }
    return { layers, atMs };
  }

  async #fetch(manifest: PlacedManifest, { digest, diffId, sizeBytes }: ImageLayer): Promise<void> {
    const { content } = this.#job.builder.parts;
    this.#job.hold.addBlob(digest);
    this.#job.hold.addLayer(diffId);
    await manifest.fetch(digest, sizeBytes, this.#job.signal);
    await content.layers.ensure(diffId, digest, this.#job.signal);
  }

  // Going.

  note(work: Work, { layers, atMs, isAbsent }: TravelledResult): void {
    if (this.#exports.length === 0) return;
    for (const [output, layer] of layers.entries()) {
      const below = layersOf(work.below[output] ?? []);
      this.#results.set(outputKey(work.key, output), {
        layers: layer === null ? below : [...below, layer],
        createdAtMs: atMs,
        ...(isAbsent === true ? { isAbsent } : {}),
      });
    }
  }

  /** For an image's configuration: what its own layers are the results of. */
  inlineRecords(layers: readonly ImageLayer[]): string {
    return Buffer.from(JSON.stringify(recordsOver(layers, this.#results))).toString('base64');
  }

  /** What the build gave goes to every place that was asked for. Answers what the client is told. */
  async export(results: readonly (readonly StepLayer[])[]): Promise<Record<string, string>> {
    const response: Record<string, string> = {};
    for (const entry of this.#exports) {
      if (entry.type === 'inline') continue;
      const where = entry.type === 'registry' ? 'registry' : 'client directory';
      try {
        await this.#job.shown(`exporting cache to ${where}`, async (line) =>
          Object.assign(response, await this.#exportTo(entry, results.map(layersOf), line)),
        );
      } catch (error) {
        if (!isTrue(entry.attributes['ignore-error'])) throw error;
      }
    }
    return response;
  }

  /** `mode=min`: what the result itself stands on goes whole, all else is told of; else all that the build made. */
  #wanted({ attributes }: CacheEntry, images: readonly ImageLayer[][]): Map<string, TravellingResult> {
    if (attributes['mode'] === 'max') return this.#results;
    const parts = new Set(images.flat().map(({ diffId }) => diffId));
    const isPart = ({ layers }: TravellingResult): boolean => layers.every(({ diffId }) => parts.has(diffId));
    return new Map(
      [...this.#results].map(([key, result]) => [key, isPart(result) ? result : { ...result, isAbsent: true }]),
    );
  }

  async #exportTo(entry: CacheEntry, images: readonly ImageLayer[][], line: Line): Promise<Record<string, string>> {
    const { attributes } = entry;
    const results = this.#wanted(entry, images);
    const compression = parseCompression(attributes);
    // A step is known by the layers below it.
    if (compression.compression.kind === 'estargz')
      throw new ApiError('BadRequest', 'a cache has no eStargz layers: they are others than its steps were made of');
    const isOci = !isFalse(attributes['oci-mediatypes']);
    const isManifest = attributes['image-manifest'] === undefined ? isOci : isTrue(attributes['image-manifest']);
    if (isManifest && !isOci)
      throw new ApiError(
        'BadRequest',
        'invalid configuration for remote cache, OCI mediatypes are required for image-manifest cache format',
      );
    const place = await this.#place(entry);
    const layers = new Map<string, ImageLayer>();
    for (const result of results.values())
      for (const layer of result.isAbsent === true ? [] : result.layers)
        if (!layers.has(layer.diffId)) layers.set(layer.diffId, await this.#put(place, layer, compression, line));
    const of = (layer: ImageLayer): ImageLayer => layers.get(layer.diffId) ?? layer;
    const translated = new Map(
      [...results].map(([key, result]) => [key, { ...result, layers: result.layers.map(of) }]),
    );
    const all = [...layers.values()];
    const config = writeCacheConfig(all, recordsOver(all, translated));
    const { blobs } = this.#job.builder.parts.content;
    const digest = await blobs.writeBytes(config);
    this.#job.hold.addBlob(digest);
    line.count(`writing config ${digest}`, config.length, true);
    await place.put(digest, config.length, this.#job.signal);
    const manifest = manifestOf(all, { digest, size: config.length }, { isOci, isManifest });
    const bytes = Buffer.from(JSON.stringify(manifest));
    const { mediaType = mediaTypes.ociManifest } = manifest;
    const descriptor = { mediaType, digest: await blobs.writeBytes(bytes), size: bytes.length };
    this.#job.hold.addBlob(descriptor.digest);
    line.count(`writing cache ${isManifest ? 'image ' : ''}manifest ${descriptor.digest}`, bytes.length, true);
    await place.putManifest(bytes, mediaType, this.#job.signal);
    return { 'cache.manifest': JSON.stringify(descriptor) };
  }

  async #put(
    place: BlobPlace,
    layer: ImageLayer,
    { compression, isForced }: CompressionOptions,
    line: Line,
  ): Promise<ImageLayer> {
    const { content } = this.#job.builder.parts;
    const isKept = isPlainLayer(layer) ? compression.kind === 'none' : !isForced;
    const sent = isKept ? layer : await compressLayer(content, layer, compression);
    this.#job.hold.addBlob(sent.digest);
    await place.put(sent.digest, sent.sizeBytes, this.#job.signal);
    line.count(`writing layer ${sent.digest}`, sent.sizeBytes, true);
    return sent;
  }
}

const isFalse = (text: string | undefined): boolean => text === 'false' || text === '0';

function isDescriptor(value: unknown): value is Descriptor {
  return (
    isObject(value) &&
    typeof value['digest'] === 'string' &&
    typeof value['mediaType'] === 'string' &&
    Number.isSafeInteger(value['size']) &&
    Number(value['size']) >= 0
  );
}

/** Whether layers begin with these. */
function standsOn(upper: readonly ImageLayer[], lower: readonly ImageLayer[]): boolean {
  return lower.every((layer, index) => layer.diffId === upper[index]?.diffId);
}

/** Layers side by side, and the config among them. */
interface CacheIndex {
  schemaVersion: 2;
  mediaType: string;
  manifests: Descriptor[];
}

function manifestOf(
  layers: readonly ImageLayer[],
  config: { digest: string; size: number },
  { isOci, isManifest }: { isOci: boolean; isManifest: boolean },
): Manifest | CacheIndex {
  const described = layers.map(({ digest, diffId, sizeBytes, mediaType }) => ({
    mediaType: isOci ? ociLayerType(mediaType) : mediaType,
    digest,
    size: sizeBytes,
    annotations: { [uncompressed]: diffId },
  }));
  const own = { mediaType: cacheConfigMediaType, ...config };
  if (isManifest) return { schemaVersion: 2, mediaType: mediaTypes.ociManifest, config: own, layers: described };
  const mediaType = isOci ? mediaTypes.ociIndex : mediaTypes.dockerList;
  return { schemaVersion: 2, mediaType, manifests: [...described, own] };
}
