/**
 * Layers in another compression than they have. What was made is remembered in table `compressed-layers` (diff id and
 * compression to the blob), so that a layer of many images, or of an image that is pushed again, is compressed once.
 * eStargz has something in it that the layer had not: it is another layer, with the same files.
 */
import type { LayerCompression } from './compression.ts';
import type { Content } from './content.ts';
import { estargzAnnotations } from './estargz.ts';
import { mediaTypes } from './image-records.ts';
import type { ImageLayer } from './image-records.ts';
import { compressedLayersMax } from './limits.ts';
import type { Change } from './records.ts';

const table = 'compressed-layers';

const mediaTypeOf: Readonly<Record<LayerCompression['kind'], string>> = {
  none: mediaTypes.dockerPlainLayer,
  gzip: mediaTypes.dockerLayer,
  zstd: mediaTypes.dockerZstdLayer,
  estargz: mediaTypes.dockerLayer,
};

interface Compressed {
  digest: string;
  sizeBytes: number;
  diffId?: string;
  annotations?: Record<string, string>;
}

export interface CompressedLayer extends ImageLayer {
  /** What a manifest says of it. */
  annotations?: Record<string, string>;
}

export function isPlainLayer(layer: ImageLayer): boolean {
  return layer.digest === layer.diffId;
}

/** Entries whose blobs are gone, and the oldest where there are too many. */
function staleEntries(content: Content): Change[] {
  const entries = [...content.records.entries<Compressed>(table)];
  const gone = entries.filter(([, { digest }]) => !content.blobs.has(digest));
  const stale = entries.length - gone.length < compressedLayersMax ? gone : entries;
  return stale.map(([key]) => ({ table, key, value: undefined }));
}

/** The caller holds the layer and its blob. */
export async function compressLayer(
  content: Content,
  layer: ImageLayer,
  compression: LayerCompression,
): Promise<CompressedLayer> {
  const mediaType = mediaTypeOf[compression.kind];
  const key = `${layer.diffId} ${compression.kind} ${compression.level ?? ''}`;
  const known = content.records.get<Compressed>(table, key);
  if (known !== undefined && content.blobs.has(known.digest)) return { ...layer, ...known, mediaType };
  const { digest, blobBytes, diffId, estargz } = await content.layers.compress(layer.digest, compression);
  const other = estargz === undefined ? {} : { diffId, annotations: estargzAnnotations(estargz) };
  const made: Compressed = { digest, sizeBytes: blobBytes, ...other };
  await content.records.commit([...staleEntries(content), { table, key, value: made }]);
  return { ...layer, ...made, mediaType };
}
