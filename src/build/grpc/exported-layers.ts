/**
 * The layers of a result as an exporter gives them away: no file of the build's own is newer than it is to be, and they
 * are compressed as was asked for.
 *
 * Source: BuildKit, its pages on reproducible builds and on the options of exporters.
 */
import type { Content, Hold } from '#content/content.ts';
import type { ImageLayer } from '#content/image-records.ts';
import { toImageLayer } from '#content/image-writer.ts';
import { compressLayer, isPlainLayer } from '#content/layer-compression.ts';
import { parseEpoch } from '../epoch.ts';
import type { StepLayer } from '../llb/output.ts';
import { isTrue, parseCompression } from './compression-options.ts';
import type { CompressionOptions } from './compression-options.ts';

export interface LayerOptions extends CompressionOptions {
  /** Compression was asked for. */
  isExplicit: boolean;
  rewritesTimestamps: boolean;
  /** Of the exporter alone: a time, or that there is none; undefined: as the result says. */
  epoch: { atMs: number | undefined } | undefined;
}

export function parseLayerOptions(attributes: Readonly<Record<string, string>>): LayerOptions {
  return {
    ...parseCompression(attributes),
    isExplicit: ['compression', 'compression-level', 'force-compression'].some((name) => attributes[name]),
    rewritesTimestamps: isTrue(attributes['rewrite-timestamp']),
    epoch:
      attributes['source-date-epoch'] === undefined ? undefined : { atMs: parseEpoch(attributes['source-date-epoch']) },
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

export interface ExportedLayers {
  steps: StepLayer[];
  /** What a manifest says of layers, by diff id. */
  annotations: ReadonlyMap<string, Record<string, string>>;
}

/** What came with the base image keeps its times. */
export async function exportLayers(steps: readonly StepLayer[], how: LayerExport): Promise<ExportedLayers> {
  const { content, hold, options, epochMs, isPublished } = how;
  const out: StepLayer[] = [];
  const annotations = new Map<string, Record<string, string>>();
  for (const step of steps) {
    let { layer } = step;
    let said: Record<string, string> = {};
    if (layer !== null && options.rewritesTimestamps && epochMs !== undefined && step.createdAtMs !== undefined) {
      layer = await rewriteTimes(how, layer, epochMs);
      said = { 'buildkit/rewritten-timestamp': String(Math.floor(epochMs / 1000)) };
    }
    if (layer !== null && (options.isExplicit || isPublished)) {
      const isKept = isPlainLayer(layer) ? options.compression.kind === 'none' : !options.isForced;
      if (!isKept) {
        const { annotations: ofCompression = {}, ...compressed } = await compressLayer(
          content,
          layer,
          options.compression,
        );
        layer = compressed;
        said = { ...said, ...ofCompression };
      }
      hold.addBlob(layer.digest);
    }
    if (layer !== null && Object.keys(said).length > 0) annotations.set(layer.diffId, said);
    out.push({ ...step, layer });
  }
  return { steps: out, annotations };
}
