/**
 * The layers of a result as an exporter gives them away: no file of the build's own is newer than it is to be, and they
 * are compressed as was asked for.
 *
 * Source: BuildKit, its pages on reproducible builds and on the options of exporters.
 */
import { ApiError } from '#base/errors.ts';
import type { Content, Hold } from '#content/content.ts';
import type { ImageLayer } from '#content/image-records.ts';
import { toImageLayer } from '#content/image-writer.ts';
import { compressLayer, isPlainLayer } from '#content/layer-compression.ts';
import type { StepLayer } from '../llb/output.ts';
import { isTrue, parseCompression } from './compression-options.ts';
import type { CompressionOptions } from './compression-options.ts';

export interface LayerOptions extends CompressionOptions {
  /** Compression was asked for. */
  isExplicit: boolean;
  rewritesTimestamps: boolean;
  /** Of the exporter alone. */
  epochMs: number | undefined;
}

/** Seconds since 1970; undefined where nothing is said. Throws BadRequest. */
export function parseEpoch(text: string | undefined): number | undefined {
  if (text === undefined || text === '') return undefined;
  const seconds = /^-?\d{1,12}$/.test(text) ? Number(text) : undefined;
  if (seconds === undefined) throw new ApiError('BadRequest', `invalid SOURCE_DATE_EPOCH: ${text.slice(0, 100)}`);
  return seconds * 1000;
}

export function parseLayerOptions(attributes: Readonly<Record<string, string>>): LayerOptions {
  return {
    ...parseCompression(attributes),
    isExplicit: ['compression', 'compression-level', 'force-compression'].some((name) => attributes[name]),
    rewritesTimestamps: isTrue(attributes['rewrite-timestamp']),
    epochMs: parseEpoch(attributes['source-date-epoch']),
  };
}

export interface LayerExport {
  content: Content;
  hold: Hold;
  options: LayerOptions;
  epochMs: number | undefined;
  /** Others will fetch the layers: they are compressed though nobody asked for it. */
  isPublished: boolean;
}

async function rewriteTimes({ content, hold }: LayerExport, layer: ImageLayer, epochMs: number): Promise<ImageLayer> {
  await content.layers.ensure(layer.diffId, layer.digest);
  const made = toImageLayer(await content.layers.packClamped(layer.diffId, epochMs));
  hold.addBlob(made.digest);
  return made;
}

/** What came with the base image keeps its times. */
export async function exportLayers(steps: readonly StepLayer[], how: LayerExport): Promise<StepLayer[]> {
  const { content, hold, options, epochMs, isPublished } = how;
  const out: StepLayer[] = [];
  for (const step of steps) {
    let { layer } = step;
    if (layer !== null && options.rewritesTimestamps && epochMs !== undefined && step.createdAtMs !== undefined)
      layer = await rewriteTimes(how, layer, epochMs);
    if (layer !== null && (options.isExplicit || isPublished)) {
      const isKept = isPlainLayer(layer) ? options.compression.kind === 'none' : !options.isForced;
      if (!isKept) layer = await compressLayer(content, layer, options.compression);
      hold.addBlob(layer.digest);
    }
    out.push({ ...step, layer });
  }
  return out;
}
