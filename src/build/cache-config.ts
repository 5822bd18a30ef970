/**
 * The description of a cache that travels, `application/vnd.buildkit.cacheconfig.v0`: records (cache keys) and the
 * layers that the work gave, from the lowest up. It comes from registries and clients: every number in it is checked.
 *
 * A record may know the layers without having them (`absent`, which BuildKit passes over): work that stands on them is
 * found by their diff ids, and nobody fetches what only served to make that. In its chain a number from 0 is a layer of
 * the description, a text the diff id of one that is not there, and -1, -2, … the texts before it, in their order.
 *
 * Our keys say all that decides a result (`cache-keys.ts`), so a record has no inputs. Records of BuildKit are read,
 * and name keys that nobody here asks for.
 *
 * Source: BuildKit, `cache/remotecache/v1` (its types and its parser).
 */
import { isDigest } from '#base/reference.ts';
import { fieldOf, isObject, itemsOf, textOf } from '#base/unknown.ts';
import { ApiError } from '#base/errors.ts';
import { layersPerImageMax } from '#content/limits.ts';
import type { ImageLayer } from '#content/image-records.ts';
import { cacheConfigRecordsMax } from './limits.ts';

export const cacheConfigMediaType = 'application/vnd.buildkit.cacheconfig.v0';

/** What work gave, with all that it stands on. */
export interface TravellingResult {
  layers: ImageLayer[];
  createdAtMs: number;
  /** The layers are known by diff id alone. */
  isAbsent?: boolean;
}

function placesOf(layers: readonly ImageLayer[]): Map<string, number> {
  return new Map(layers.map((layer, index) => [layer.digest, index]));
}

interface ConfigRecord {
  digest: string;
  chains?: { layers: number[]; createdAt: string }[];
  absent?: { layers: (number | string)[]; createdAt: string };
}

/** Layers of absent results, in short. */
class AbsentNames {
  readonly #places: ReadonlyMap<string, number>;
  readonly #named = new Map<string, number>();

  constructor(layers: readonly ImageLayer[]) {
    this.#places = new Map(layers.map(({ diffId }, index) => [diffId, index]));
  }

  of({ diffId }: ImageLayer): number | string {
    const known = this.#places.get(diffId) ?? this.#named.get(diffId);
    if (known !== undefined) return known;
    this.#named.set(diffId, -1 - this.#named.size);
    return diffId;
  }
}

/** Records over these layers; what stands on others is absent. */
export function recordsOver(
  layers: readonly ImageLayer[],
  results: ReadonlyMap<string, TravellingResult>,
): ConfigRecord[] {
  const places = placesOf(layers);
  const names = new AbsentNames(layers);
  return [...results].map(([key, { layers: own, createdAtMs, isAbsent }]) => {
    const chain = own.map((layer) => places.get(layer.digest) ?? -1);
    const createdAt = new Date(createdAtMs).toISOString();
    const digest = `sha256:${key}`;
    if (isAbsent === true || chain.includes(-1))
      return { digest, absent: { layers: own.map((layer) => names.of(layer)), createdAt } };
    return { digest, chains: [{ layers: chain, createdAt }] };
  });
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

const timeOf = (value: unknown): number =>
  Date.parse(textOf(value, 'createdAt') ?? textOf(value, 'createdat') ?? '') || 0;

/** The chain of a result that is not there. `diffIds`: of the description's layers; `named`: texts of records before. */
function absentChain(value: unknown, diffIds: readonly (string | undefined)[], named: string[]): ImageLayer[] {
  const chain = itemsOf(fieldOf(value, 'layers'));
  if (chain.length > layersPerImageMax) malformed('a result has too many layers');
  return chain.map((each) => {
    if (typeof each === 'string') {
      if (!isDigest(each) || named.length >= cacheConfigRecordsMax) malformed('a layer has no digest');
      named.push(each);
    }
    const index = typeof each === 'string' ? -named.length : indexOf(each);
    const diffId = index < 0 ? named[-1 - index] : diffIds[index];
    return { digest: '', diffId: diffId ?? malformed(`there is no layer ${index}`), sizeBytes: 0, mediaType: '' };
  });
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
  const diffIds = layers.map((layer) => layer.blob?.diffId);
  const named: string[] = [];
  const results = new Map<string, TravellingResult>();
  for (const record of boundedList(value['records'], 'records')) {
    if (!isObject(record)) malformed('a record is no object');
    const digest = textOf(record, 'digest') ?? '';
    if (!isDigest(digest)) malformed('a record has no digest');
    if (record['absent'] !== undefined) {
      const own = absentChain(record['absent'], diffIds, named);
      results.set(digest.slice(7), { layers: own, createdAtMs: timeOf(record['absent']), isAbsent: true });
      continue;
    }
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
      // A blob that the manifest does not name cannot be had.
      if (own.every((layer) => layer !== undefined))
        results.set(digest.slice(7), { layers: own, createdAtMs: timeOf(each) });
    }
  }
  return results;
}
