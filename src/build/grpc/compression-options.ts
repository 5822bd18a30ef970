/** How layers are compressed where they leave: options that exporters of images and of caches share. */
import { ApiError } from '#base/errors.ts';
import type { LayerCompression } from '#content/compression.ts';

export interface CompressionOptions {
  compression: LayerCompression;
  /** Layers that have another compression are given this one. */
  isForced: boolean;
}

const kinds: Readonly<Record<string, LayerCompression['kind']>> = {
  uncompressed: 'none',
  gzip: 'gzip',
  zstd: 'zstd',
  estargz: 'estargz',
};

export const isTrue = (text: string | undefined): boolean => text === 'true' || text === '1';

/** Throws BadRequest, in BuildKit's words. */
export function parseCompression(attributes: Readonly<Record<string, string>>): CompressionOptions {
  const { compression = '', 'compression-level': level } = attributes;
  const kind = kinds[compression === '' ? 'gzip' : compression];
  if (kind === undefined) throw new ApiError('BadRequest', `unsupported compression type ${compression.slice(0, 50)}`);
  if (level !== undefined && !/^\d{1,2}$/.test(level))
    throw new ApiError('BadRequest', `non-integer value ${level.slice(0, 50)} specified for compression-level`);
  const number = level === undefined ? {} : { level: Math.min(Number(level), kind === 'zstd' ? 22 : 9) };
  return { compression: { kind, ...number }, isForced: isTrue(attributes['force-compression']) };
}
