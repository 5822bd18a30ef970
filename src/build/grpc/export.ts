/** What becomes of a build's result: an image of this engine's store, with the names that the client gives it. */
import { ApiError } from '#base/errors.ts';
import { hostPlatform } from '#base/platform.ts';
import { isObject } from '#base/unknown.ts';
import { isImageFile } from '#content/image-file.ts';
import type { ImageFile } from '#content/image-file.ts';
import type { ImageRecord } from '#content/image-records.ts';
import { writeImage } from '#content/image-writer.ts';
import { parseTags, publish } from '../build.ts';
import type { Builder } from '../builder.ts';
import { finishConfig } from '../image-config.ts';
import { layersOf } from '../llb/output.ts';
import type { StepLayer } from '../llb/output.ts';
import type { Job, Result } from './job.ts';
import { messagesIn, textIn, textMapIn } from './messages.ts';
import type { Message } from './messages.ts';

export interface Exporter {
  type: string;
  attributes: Readonly<Record<string, string>>;
}

/** Throws BadRequest for what is not exported here. */
export function exportersOf(request: Message): Exporter[] {
  const given = messagesIn(request, 'Exporters').map((exporter) => ({
    type: textIn(exporter, 'Type'),
    attributes: textMapIn(exporter, 'Attrs'),
  }));
  const old = textIn(request, 'ExporterDeprecated');
  const exporters =
    given.length > 0 || old === '' ? given : [{ type: old, attributes: textMapIn(request, 'ExporterAttrsDeprecated') }];
  for (const { type, attributes } of exporters) {
    if (type !== 'moby' && type !== 'image')
      throw new ApiError(
        'BadRequest',
        `exporter ${JSON.stringify(type.slice(0, 50))} could not be found: images are exported to this engine's own store, others are not written yet`,
      );
    if (attributes['push'] !== undefined && attributes['push'] !== 'false')
      throw new ApiError('BadRequest', 'the builder does not push: use docker push');
  }
  return exporters;
}

/** The configuration that the front end gave; a bare one for a result without. */
function configOf({ metadata }: Result): ImageFile {
  const bytes = metadata.get('containerimage.config');
  const { os, architecture } = hostPlatform();
  const bare: ImageFile = { os, architecture, config: {}, rootfs: { type: 'layers', diff_ids: [] } };
  if (bytes === undefined || bytes.length === 0) return bare;
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch {
    throw new ApiError('BadRequest', 'failed to parse image config for export');
  }
  const whole = isObject(value) ? { ...bare, ...value, rootfs: bare.rootfs } : undefined;
  if (!isImageFile(whole)) throw new ApiError('BadRequest', 'failed to parse image config for export');
  return whole;
}

async function makeImage(builder: Builder, result: Result, steps: readonly StepLayer[]): Promise<ImageRecord> {
  const { content, images } = builder.parts;
  const file = finishConfig(configOf(result), steps);
  return writeImage(content, images, {
    file,
    layers: layersOf(steps),
    createdAtMs: Date.parse(file.created ?? '') || 0,
    isIntermediate: true,
  });
}

/** Carries the result out and exports it. What the client is told, by BuildKit's names. */
export async function exportResult(
  { builder }: { builder: Builder },
  job: Job,
  { refs, metadata }: Result,
  exporters: readonly Exporter[],
): Promise<Record<string, string>> {
  if (refs.size > 1) throw new ApiError('BadRequest', 'images of several platforms are not made yet');
  const [edge] = refs.values();
  const steps = await job.steps(edge);
  const names = exporters.flatMap(({ attributes }) =>
    (attributes['name'] ?? '').split(',').filter((name) => name !== ''),
  );
  const tags = parseTags(names);
  if (exporters.length === 0) return {};
  return job.shown('exporting to image', async (line) => {
    const made = await makeImage(builder, { refs, metadata }, steps);
    using _pin = builder.parts.images.pin(made.id);
    const record = await publish(builder.parts, made, tags);
    line.count(`writing image ${record.id}`, 0, true);
    for (const tag of tags) line.count(`naming to ${tag}`, 0, true);
    return {
      'containerimage.config.digest': record.id,
      'containerimage.digest': record.manifestDigest === '' ? record.id : record.manifestDigest,
      ...(tags.length === 0 ? {} : { 'image.name': tags.join(',') }),
    };
  });
}
