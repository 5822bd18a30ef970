/**
 * What becomes of a build's result: an image of this engine's store, pushed where that is asked for, or files and
 * archives that go to the client.
 */
import { ApiError } from '#base/errors.ts';
import { hostPlatform } from '#base/platform.ts';
import { isObject } from '#base/unknown.ts';
import { isImageFile } from '#content/image-file.ts';
import type { ImageFile } from '#content/image-file.ts';
import type { ImageRecord } from '#content/image-records.ts';
import { writeImage } from '#content/image-writer.ts';
import { packTar } from '#content/pack.ts';
import { parseTags, publish } from '../build.ts';
import { finishConfig } from '../image-config.ts';
import { layersOf } from '../llb/output.ts';
import type { StepLayer } from '../llb/output.ts';
import type { Job, Result } from './job.ts';
import { sendDirectory, sendStream } from './send-files.ts';
import { messagesIn, textIn, textMapIn } from './messages.ts';
import type { Message } from './messages.ts';

export interface Exporter {
  type: ExporterType;
  /** Its place in the request, by which the client knows it. */
  index: number;
  /** Names of the image. */
  tags: string[];
  push: boolean;
}

type ExporterType = 'image' | 'docker' | 'oci' | 'tar' | 'local';

const types: Readonly<Record<string, ExporterType>> = {
  moby: 'image',
  image: 'image',
  docker: 'docker',
  oci: 'oci',
  tar: 'tar',
  local: 'local',
};

/** Attributes that are carried out, or change nothing here (`unpack`: images are), by the value that they may have. */
const knownAttributes: Readonly<Record<string, RegExp>> = {
  name: /^/,
  push: /^(?:true|false|1|0|)$/,
  'name-canonical': /^/,
  'dangling-name-prefix': /^/,
  unpack: /^/,
  store: /^/,
  tar: /^(?:true|1|)$/,
  'platform-split': /^/,
  mode: /^(?:copy|)$/,
  compression: /^(?:gzip|)$/,
  'force-compression': /^(?:false|0|)$/,
  'oci-mediatypes': /^(?:false|0|)$/,
  'oci-artifact': /^(?:false|0|)$/,
  'prefer-nondist-layers': /^(?:false|0|)$/,
};

const isTrue = (text: string | undefined): boolean => text === 'true' || text === '1';

/** Throws BadRequest for what is not exported here. */
export function exportersOf(request: Message): Exporter[] {
  const given = messagesIn(request, 'Exporters').map((exporter) => ({
    type: textIn(exporter, 'Type'),
    attributes: textMapIn(exporter, 'Attrs'),
  }));
  const old = textIn(request, 'ExporterDeprecated');
  const exporters =
    given.length > 0 || old === '' ? given : [{ type: old, attributes: textMapIn(request, 'ExporterAttrsDeprecated') }];
  return exporters.map(({ type, attributes }, index) => {
    const known = types[type];
    if (known === undefined)
      throw new ApiError('BadRequest', `exporter ${JSON.stringify(type.slice(0, 50))} could not be found`);
    for (const [name, value] of Object.entries(attributes))
      if (knownAttributes[name]?.test(value) !== true)
        throw new ApiError(
          'BadRequest',
          `exporter option ${name.slice(0, 100)}=${value.slice(0, 100)} is not carried out here`,
        );
    const names = (attributes['name'] ?? '').split(',');
    const push = isTrue(attributes['push']);
    const tags = parseTags(names);
    if (push && tags.length === 0) throw new ApiError('BadRequest', 'tag is needed when pushing to registry');
    return { type: known, index, tags, push };
  });
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

async function makeImage(job: Job, result: Result, steps: readonly StepLayer[]): Promise<ImageRecord> {
  const { content, images } = job.builder.parts;
  const plain = finishConfig(configOf(result), steps);
  const file: ImageFile = job.cache.isInline
    ? { ...plain, 'moby.buildkit.cache.v0': job.cache.inlineRecords(layersOf(steps)) }
    : plain;
  return writeImage(content, images, {
    file,
    layers: layersOf(steps),
    createdAtMs: Date.parse(file.created ?? '') || 0,
    isIntermediate: true,
  });
}

/** What every exporter of one result works with. */
class Export {
  readonly #job: Job;
  readonly #result: Result;
  readonly #steps: readonly StepLayer[];

  constructor(job: Job, result: Result, steps: readonly StepLayer[]) {
    this.#job = job;
    this.#result = result;
    this.#steps = steps;
  }

  run(exporter: Exporter): Promise<Record<string, string>> {
    switch (exporter.type) {
      case 'image':
        return this.#image(exporter);
      case 'docker':
      case 'oci':
        return this.#archive(exporter);
      case 'tar':
        return this.#tar(exporter);
      default:
        return this.#directory(exporter);
    }
  }

  async #image({ tags, push }: Exporter): Promise<Record<string, string>> {
    const { builder } = this.#job;
    const response = await this.#job.shown('exporting to image', async (line) => {
      const made = await makeImage(this.#job, this.#result, this.#steps);
      using _pin = builder.parts.images.pin(made.id);
      const record = await publish(builder.parts, made, tags);
      line.count(`writing image ${record.id}`, 0, true);
      for (const tag of tags) line.count(`naming to ${tag}`, 0, true);
      return responseOf(record, tags);
    });
    for (const tag of push ? tags : [])
      await this.#job.shown(`pushing ${tag}`, (line) => this.#job.push(tag, (event) => line.event(event)));
    return response;
  }

  #archive({ type, tags, index }: Exporter): Promise<Record<string, string>> {
    const { builder, signal } = this.#job;
    return this.#job.shown(`exporting to ${type} image format`, async (line) => {
      const made = await makeImage(this.#job, this.#result, this.#steps);
      using _pin = builder.parts.images.pin(made.id);
      const session = await this.#job.session(signal);
      line.count('sending tarball', 0);
      await sendStream(session, index, await builder.parts.saveImage(made, tags), signal);
      line.count('sending tarball', 0, true);
      return responseOf(made, tags);
    });
  }

  #tar({ index }: Exporter): Promise<Record<string, string>> {
    const { signal } = this.#job;
    return this.#job.shown('exporting to client tarball', (line) =>
      this.#job.withRoot(this.#steps, async (root) => {
        line.count('sending tarball', 0);
        await sendStream(
          await this.#job.session(signal),
          index,
          packTar(root, { layer: false, skipRoot: true }),
          signal,
        );
        line.count('sending tarball', 0, true);
        return {};
      }),
    );
  }

  #directory({ index }: Exporter): Promise<Record<string, string>> {
    const { signal } = this.#job;
    return this.#job.shown('exporting to client directory', (line) =>
      this.#job.withRoot(this.#steps, async (root) => {
        line.count('copying files', 0);
        await sendDirectory(await this.#job.session(signal), index, root, signal);
        line.count('copying files', 0, true);
        return {};
      }),
    );
  }
}

function responseOf(record: ImageRecord, tags: readonly string[]): Record<string, string> {
  return {
    'containerimage.config.digest': record.id,
    'containerimage.digest': record.manifestDigest === '' ? record.id : record.manifestDigest,
    ...(tags.length === 0 ? {} : { 'image.name': tags.join(',') }),
  };
}

/** Carries the result out and exports it. What the client is told, by BuildKit's names. */
export async function exportResult(
  job: Job,
  result: Result,
  exporters: readonly Exporter[],
): Promise<Record<string, string>> {
  if (result.refs.size > 1) throw new ApiError('BadRequest', 'images of several platforms are not made yet');
  // A request that is no build has words for an answer, and no files.
  if (result.refs.size === 0) return {};
  const [edge] = result.refs.values();
  const steps = await job.steps(edge);
  const whole = new Export(job, result, steps);
  const response: Record<string, string> = {};
  for (const exporter of exporters) Object.assign(response, await whole.run(exporter));
  return Object.assign(response, await job.cache.export(steps));
}
