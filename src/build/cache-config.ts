/**
 * The description of a cache that travels, `application/vnd.buildkit.cacheconfig.v0`: records (cache keys) and the
 * layers that the work gave, from the lowest up. It comes from registries and clients: every number in it is checked.
 *
 * Our keys say all that decides a result (`cache-keys.ts`), so a record has no inputs. Records of BuildKit are read,
 * and name keys that nobody here asks for.
 *
 * Source: BuildKit, `cache/remotecache/v1` (its types and its parser).
 */
import { isDigest } from '#base/reference.ts';
import { isObject, itemsOf, textOf } from '#base/unknown.ts';
import { ApiError } from '#base/errors.ts';
import { layersPerImageMax } from '#content/limits.ts';
import type { ImageLayer } from '#content/image-records.ts';
import { cacheConfigRecordsMax } from './limits.ts';

export const cacheConfigMediaType = 'application/vnd.buildkit.cacheconfig.v0';

/** What work gave, with all that it stands on. */
export interface TravellingResult {
  layers: ImageLayer[];
  createdAtMs: number;
}

function placesOf(layers: readonly ImageLayer[]): Map<string, number> {
  return new Map(layers.map((layer, index) => [layer.digest, index]));
}

interface ConfigRecord {
  digest: string;
  chains: { layers: number[]; createdAt: string }[];
}

/** Records over these layers; what stands on others is left out. */
export function recordsOver(
  layers: readonly ImageLayer[],
  results: ReadonlyMap<string, TravellingResult>,
): ConfigRecord[] {
  const places = placesOf(layers);
  const records: ConfigRecord[] = [];
  for (const [key, { layers: own, createdAtMs }] of results) {
    const chain = own.map((layer) => places.get(layer.digest) ?? -1);
    if (chain.includes(-1)) continue;
    records.push({
      digest: `sha256:${key}`,
      chains: [{ layers: chain, createdAt: new Date(createdAtMs).toISOString() }],
    });
  }
  return records;
}

export function writeCacheConfig(layers: readonly ImageLayer[], records: readonly ConfigRecord[]): Buffer {
  return Buffer.from(
    JSON.stringify({
      layers: layers.map(({ digest, diffId, mediaType, sizeBytes }) => ({
        blob: digest,
        parent: -1,
        annotations: { mediaType, diffID: diffId, size: sizeBytes },
      })),
      records,
    }),
  );
}

function malformed(what: string): never {
  throw new ApiError('BadRequest', `invalid cache config: ${what}`);
}

function boundedList(value: unknown, what: string): readonly unknown[] {
  const list = itemsOf(value);
  if (list.length > cacheConfigRecordsMax) malformed(`more than ${cacheConfigRecordsMax} ${what}`);
  return list;
}

/** A layer and its parents, lowest first. */
function chainTo(top: number, parents: readonly number[]): number[] {
  const chain: number[] = [];
  for (let at = top; at !== -1; at = parents[at] ?? -1) {
    if (at < -1 || at >= parents.length) malformed(`there is no layer ${at}`);
    if (chain.length >= layersPerImageMax) malformed('layers stand on each other in a circle, or too high');
    chain.unshift(at);
  }
  return chain;
}

function indexOf(value: unknown): number {
  return Number.isSafeInteger(value) ? Number(value) : malformed('an index is no number');
}

/**
 * Results by key (without `sha256:`). `known`: the blobs that the manifest around it names, with the digests of what is
 * in them.
 */
export function parseCacheConfig(
  value: unknown,
  known: ReadonlyMap<string, ImageLayer>,
): Map<string, TravellingResult> {
  if (!isObject(value)) malformed('it is no object');
  const layers = boundedList(value['layers'], 'layers').map((layer) => {
    const parent = isObject(layer) ? (layer['parent'] ?? 0) : -1;
    return { blob: known.get(textOf(layer, 'blob') ?? ''), parent: indexOf(parent) };
  });
  const parents = layers.map((layer) => layer.parent);
  const results = new Map<string, TravellingResult>();
  for (const record of boundedList(value['records'], 'records')) {
    if (!isObject(record)) malformed('a record is no object');
    const digest = textOf(record, 'digest') ?? '';
    if (!isDigest(digest)) malformed('a record has no digest');
    const chains = [
      ...itemsOf(record['layers']).map((each) => ({
        each,
        chain: chainTo(indexOf(isObject(each) ? (each['layer'] ?? 0) : undefined), parents),
      })),
      ...itemsOf(record['chains']).map((each) => ({
        each,
        chain: itemsOf(isObject(each) ? each['layers'] : undefined).map(indexOf),
      })),
    ];
    for (const { each, chain } of chains.slice(0, 1)) {
      if (chain.length > layersPerImageMax) malformed('a result has too many layers');
      const own = chain.map((index) => (layers[index] ?? malformed(`there is no layer ${index}`)).blob);
      const createdAtMs = Date.parse(textOf(each, 'createdAt') ?? textOf(each, 'createdat') ?? '') || 0;
      // A blob that the manifest does not name cannot be had.
      if (own.every((layer) => layer !== undefined)) results.set(digest.slice(7), { layers: own, createdAtMs });
    }
  }
  return results;
}
