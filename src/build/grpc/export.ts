/**
 * What becomes of a build's result: an image of this engine's store, pushed where that is asked for, or files and
 * archives that go to the client.
 */
import { ApiError } from '#base/errors.ts';
import { formatPlatform } from '#base/platform.ts';
import { encodeTarFile, tarEnd } from '#base/tar-write.ts';
import type { Hold } from '#content/content.ts';
import type { ImageFile } from '#content/image-file.ts';
import { mediaTypes } from '#content/image-records.ts';
import type { ImageLayer, ImageRecord } from '#content/image-records.ts';
import { writeImage } from '#content/image-writer.ts';
import type { Descriptor } from '#content/manifest.ts';
import { packTree } from '#content/pack.ts';
import { parseTags, publish } from '../build.ts';
import { finishConfig } from '../image-config.ts';
import { layersOf } from '../llb/output.ts';
import type { StepLayer } from '../llb/output.ts';
import { Annotations } from './annotations.ts';
import { Attestations } from './attestations.ts';
import { isTrue } from './compression-options.ts';
import { sendLayout } from './content-store.ts';
import { commitIndex, writeIndex, writeOciImage } from './export-index.ts';
import type { PlatformImage, WrittenIndex } from './export-index.ts';
import { parseEpoch } from '../epoch.ts';
import { exportLayers, parseLayerOptions } from './exported-layers.ts';
import type { LayerOptions } from './exported-layers.ts';
import type { Job } from './job.ts';
import type { Line } from './progress.ts';
import { epochKey, splitResult } from './result.ts';
import type { Result } from './result.ts';
import { checkDistinct, statementFiles } from './export-files.ts';
import { sendDirectory, sendStream } from './send-files.ts';
import type { SentRoot } from './send-files.ts';
import type { Subject } from './statement.ts';
import { messagesIn, textIn, textMapIn } from '#grpc/fields.ts';
import type { Message } from '#grpc/fields.ts';

export interface Exporter {
  type: ExporterType;
  /** Its place in the request, by which the client knows it. */
  index: number;
  /** Names of the image. */
  tags: string[];
  push: boolean;
  annotations: Annotations;
  /** Media types of an image that no index names are OCI's, not docker's. */
  isOci: boolean;
  layers: LayerOptions;
  /** An archive; else a client's directory of blobs. */
  isTar: boolean;
  /** Files of each platform lie in a directory of its own; undefined: where the result has several. */
  isSplit: boolean | undefined;
  /** Stands before the names of attestations that lie beside exported files. */
  attestationPrefix: string;
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
  tar: /^(?:true|false|1|0|)$/,
  'attestation-prefix': /^[^/]*$/,
  'platform-split': /^(?:true|false|1|0|)$/,
  'prefer-image-digest': /^/,
  'danging-name-empty-only': /^/,
  mode: /^(?:copy|)$/,
  compression: /^/,
  'compression-level': /^/,
  'force-compression': /^(?:true|false|1|0|)$/,
  'rewrite-timestamp': /^(?:true|false|1|0|)$/,
  'source-date-epoch': /^/,
  buildinfo: /^/,
  'buildinfo-attrs': /^/,
  'oci-mediatypes': /^(?:true|1|false|0|)$/,
  'oci-artifact': /^(?:false|0|)$/,
  'prefer-nondist-layers': /^(?:false|0|)$/,
};

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
      if (!Annotations.isOne(name) && knownAttributes[name]?.test(value) !== true)
        throw new ApiError(
          'BadRequest',
          `exporter option ${name.slice(0, 100)}=${value.slice(0, 100)} is not carried out here`,
        );
    const names = (attributes['name'] ?? '').split(',');
    const push = isTrue(attributes['push']);
    const tags = parseTags(names);
    if (push && tags.length === 0) throw new ApiError('BadRequest', 'tag is needed when pushing to registry');
    const split = attributes['platform-split'];
    const layers = parseLayerOptions(attributes);
    const attestationPrefix = attributes['attestation-prefix'] ?? '';
    const isSplit = split === undefined || split === '' ? undefined : isTrue(split);
    return {
      type: known,
      index,
      tags,
      push,
      annotations: new Annotations(attributes),
      // Only there layers have annotations, without which nobody reads them as eStargz.
      isOci: known === 'oci' || isTrue(attributes['oci-mediatypes']) || layers.compression.kind === 'estargz',
      layers,
      isTar: attributes['tar'] === undefined || attributes['tar'] === '' || isTrue(attributes['tar']),
      isSplit,
      attestationPrefix,
    };
  });
}

/** One platform of the result, carried out. */
interface Part extends Subject {
  file: ImageFile;
  steps: readonly StepLayer[];
}

interface Finished {
  file: ImageFile;
  steps: readonly StepLayer[];
  layers: ImageLayer[];
  layerAnnotations: PlatformImage['layerAnnotations'];
}

/** What every exporter of one result works with. */
class Export {
  readonly #job: Job;
  readonly #parts: readonly Part[];
  /** The result is a map of platforms, also where it has one. */
  readonly #isMap: boolean;
  readonly #attestations: Attestations;
  /** What the result says of its time; exporters may say otherwise. */
  readonly #epochMs: number | undefined;

  constructor(job: Job, parts: readonly Part[], result: Result, attestations: Attestations) {
    this.#job = job;
    this.#parts = parts;
    this.#isMap = !result.refs.has('');
    this.#epochMs = parseEpoch(result.metadata.get(epochKey)?.toString('utf8'));
    this.#attestations = attestations;
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

  get #only(): Part {
    const [part, ...others] = this.#parts;
    if (part === undefined || others.length > 0)
      throw new ApiError('BadRequest', 'docker exporter does not currently support exporting manifest lists');
    return part;
  }

  #epochOf({ layers }: Exporter): number | undefined {
    return layers.epoch === undefined ? this.#epochMs : layers.epoch.atMs;
  }

  /** The image of a part as this exporter gives it. `isPublished`: its layers are not for this engine alone. */
  async #finish(part: Part, exporter: Exporter, hold: Hold, isPublished: boolean): Promise<Finished> {
    const { cache, builder } = this.#job;
    const epochMs = this.#epochOf(exporter);
    const { content } = builder.parts;
    const how = { content, hold, options: exporter.layers, epochMs, isPublished };
    const { steps, annotations } = await exportLayers(part.steps, how);
    const file = finishConfig(part.file, steps, epochMs);
    // Which results the layers are, is known by what they were.
    const inline = cache.isInline ? { 'moby.buildkit.cache.v0': cache.inlineRecords(layersOf(part.steps)) } : {};
    return { file: { ...file, ...inline }, steps, layers: layersOf(steps), layerAnnotations: annotations };
  }

  /** Nothing of an image without an index says for which platform it is, who made it, or has annotations. */
  async #index(exporter: Exporter, hold: Hold, isPushed: boolean, line: Line): Promise<WrittenIndex | undefined> {
    const { builder } = this.#job;
    const { annotations, tags } = exporter;
    const isNeeded = this.#isMap;
    const hasIndex = isNeeded || isPushed;
    if (!isNeeded && !this.#attestations.areAsked(this.#parts, hasIndex)) {
      if (annotations.has('index') || annotations.has('index-descriptor'))
        throw new ApiError('BadRequest', 'index annotations not supported for single platform export');
      return undefined;
    }
    const images: PlatformImage[] = [];
    // What an index names stays as it is, so it is made for others at once.
    for (const part of this.#parts) {
      const { steps, ...finished } = await this.#exported(line, () => this.#finish(part, exporter, hold, true));
      const statements = await this.#attestations.of({ ...part, steps }, hasIndex);
      images.push({ platform: part.platform, ...finished, statements });
    }
    return writeIndex(builder.parts, hold, { images, annotations, names: tags });
  }

  async #exported<T>(line: Line, work: () => Promise<T>): Promise<T> {
    line.count('exporting layers', 0);
    const made = await work();
    line.count('exporting layers', 0, true);
    return made;
  }

  async #single(exporter: Exporter, hold: Hold, line: Line): Promise<ImageRecord> {
    const { content, images } = this.#job.builder.parts;
    const { annotations, type, push, isOci } = exporter;
    const part = this.#only;
    const isPublished = push || (type === 'oci' && exporter.layers.compression.kind !== 'none');
    const finished = await this.#exported(line, () => this.#finish(part, exporter, hold, isPublished));
    const { file, layers } = finished;
    const createdAtMs = Date.parse(file.created ?? '') || 0;
    const made = await writeImage(content, images, { file, layers, createdAtMs, isIntermediate: true });
    line.count(`writing image ${made.id}`, 0, true);
    if (annotations.isEmpty && !isOci) return made;
    const image = { platform: part.platform, ...finished, statements: [] };
    const { digest, mediaType } = await writeOciImage(content, hold, image, annotations);
    const annotated = { ...made, manifestDigest: digest, manifestMediaType: mediaType };
    await images.put(annotated);
    return annotated;
  }

  async #image(exporter: Exporter): Promise<Record<string, string>> {
    const { builder } = this.#job;
    const { tags, push } = exporter;
    const response = await this.#job.shown('exporting to image', async (line) => {
      using hold = builder.parts.content.hold();
      const index = await this.#index(exporter, hold, push, line);
      let descriptor: Descriptor;
      if (index === undefined) {
        const made = await this.#single(exporter, hold, line);
        using _pin = builder.parts.images.pin(made.id);
        const record = await publish(builder.parts, made, tags);
        descriptor = this.#descriptorOf(record);
      } else {
        ({ descriptor } = index);
        for (const { digest } of index.link().index.manifests.map((each) => each.descriptor))
          line.count(`exporting manifest ${digest}`, 0, true);
        line.count(`exporting manifest list ${descriptor.digest}`, 0, true);
        await commitIndex(builder.parts, index, tags);
      }
      for (const tag of tags) line.count(`naming to ${tag}`, 0, true);
      return this.#responseOf(descriptor, index?.records[0]?.id, tags);
    });
    for (const tag of push ? tags : [])
      await this.#job.shown(`pushing ${tag}`, (line) => this.#job.push(tag, (event) => line.event(event)));
    return response;
  }

  #archive(exporter: Exporter): Promise<Record<string, string>> {
    const { builder, signal } = this.#job;
    const { type, tags, index: place } = exporter;
    return this.#job.shown(`exporting to ${type} image format`, async (line) => {
      using hold = builder.parts.content.hold();
      // Readers of docker archives know single images.
      const index = type === 'docker' && !this.#isMap ? undefined : await this.#index(exporter, hold, false, line);
      const linked = index?.link();
      const made = linked?.images[0] ?? (await this.#single(exporter, hold, line));
      using _pin = builder.parts.images.pin(made.id);
      const session = await this.#job.session(signal);
      const told = index?.descriptor ?? this.#descriptorOf(made);
      if (!exporter.isTar) {
        await sendLayout({ session, name: 'export', content: builder.parts.content }, told.digest, signal);
        return this.#responseOf(told, index?.records[0]?.id, tags);
      }
      line.count('sending tarball', 0);
      const target = { image: made, ...(linked === undefined ? {} : { index: linked.index }) };
      await sendStream(session, place, await builder.parts.saveImage(target, tags), signal);
      line.count('sending tarball', 0, true);
      return this.#responseOf(told, index?.records[0]?.id, tags);
    });
  }

  #descriptorOf({ id, manifestDigest, manifestMediaType }: ImageRecord): Descriptor {
    const { blobs } = this.#job.builder.parts.content;
    if (manifestDigest === '') return { mediaType: mediaTypes.dockerConfig, digest: id, size: blobs.size(id) ?? 0 };
    const { platform } = this.#only;
    return {
      mediaType: manifestMediaType,
      digest: manifestDigest,
      size: blobs.size(manifestDigest) ?? 0,
      annotations: { 'config.digest': id },
      platform,
    };
  }

  /** What the client is told, by BuildKit's names. */
  #responseOf(descriptor: Descriptor, imageId: string | undefined, tags: readonly string[]): Record<string, string> {
    const { annotations = {}, ...bare } = descriptor;
    const { 'config.digest': configDigest, ...others } = annotations;
    const told = { ...bare, ...(Object.keys(others).length === 0 ? {} : { annotations: others }) };
    const id = this.#parts.length > 1 ? undefined : (configDigest ?? imageId ?? descriptor.digest);
    return {
      ...(id === undefined ? {} : { 'containerimage.config.digest': id }),
      'containerimage.digest': descriptor.digest,
      'containerimage.descriptor': Buffer.from(JSON.stringify(told)).toString('base64'),
      ...(tags.length === 0 ? {} : { 'image.name': tags.join(',') }),
    };
  }

  /** Opens the files of all parts. `isSplit`: under the names of their platforms. */
  async #withRoots<T>(exporter: Exporter, isSplit: boolean, read: (roots: SentRoot[]) => Promise<T>): Promise<T> {
    const open = async (parts: readonly Part[], roots: SentRoot[]): Promise<T> => {
      const [part, ...rest] = parts;
      if (part === undefined) return read(roots);
      const { steps: _steps, ...subject } = part;
      const statements = await this.#attestations.of(subject, false);
      return this.#job.withRoot(part.steps, (directory) => {
        const platform = part.name.replaceAll('/', '_');
        const names = { prefix: exporter.attestationPrefix, suffix: this.#isMap && !isSplit ? `.${platform}` : '' };
        const files = statementFiles(directory, statements, names);
        const { startedAtMs: filesAtMs } = this.#job;
        const name = isSplit ? platform : '';
        return open(rest, [...roots, { name, directory, files, filesAtMs, mtimeMs: this.#epochOf(exporter) }]);
      });
    };
    return open(this.#parts, []);
  }

  /** Those of several platforms lie in directories of their own, whatever `platform-split` says. */
  #tar(exporter: Exporter): Promise<Record<string, string>> {
    const { signal } = this.#job;
    const isSplit = this.#parts.length > 1 || (exporter.isSplit ?? this.#isMap);
    return this.#job.shown('exporting to client tarball', (line) =>
      this.#withRoots(exporter, isSplit, async (roots) => {
        line.count('sending tarball', 0);
        await sendStream(await this.#job.session(signal), exporter.index, packRoots(roots), signal);
        line.count('sending tarball', 0, true);
        return {};
      }),
    );
  }

  /** What is not split goes one after the other into one directory, where no file may take another's place. */
  #directory(exporter: Exporter): Promise<Record<string, string>> {
    const { signal } = this.#job;
    const isSplit = exporter.isSplit ?? this.#isMap;
    return this.#job.shown('exporting to client directory', (line) =>
      this.#withRoots(exporter, isSplit, async (roots) => {
        let before = 0;
        const onSent = (bytes: number): void => line.count('copying files', before + bytes);
        onSent(0);
        if (!isSplit)
          checkDistinct(
            roots,
            this.#parts.map(({ name }) => name),
          );
        const session = await this.#job.session(signal);
        for (const sent of isSplit ? [roots] : roots.map((root) => [root]))
          before += await sendDirectory(session, { exporter: exporter.index, roots: sent, onSent }, signal);
        line.count('copying files', before, true);
        return {};
      }),
    );
  }
}

function* packRoots(roots: readonly SentRoot[]): Generator<Uint8Array> {
  for (const { name, directory, files, filesAtMs, mtimeMs } of roots) {
    const prefix = name === '' ? '' : `${name}/`;
    const filter = (path: string): boolean => !files.has(path);
    const plain = { layer: false, filter, ...(mtimeMs === undefined ? {} : { mtimeMs }) };
    yield* packTree(directory, name === '' ? { ...plain, skipRoot: true } : { ...plain, prefix });
    const file = { mode: 0o600, mtimeMs: mtimeMs ?? filesAtMs };
    for (const [path, bytes] of files) yield encodeTarFile({ path: `${prefix}${path}`, ...file }, bytes);
  }
  yield tarEnd;
}

/** Carries the result out and exports it. `attributes`: what the client asks to be attested. */
export async function exportResult(
  job: Job,
  result: Result,
  exporters: readonly Exporter[],
  attributes: Readonly<Record<string, string>>,
): Promise<Record<string, string>> {
  // A request that is no build has words for an answer, and no files.
  if (result.refs.size === 0) return {};
  const attestations = new Attestations(job, attributes);
  const split = splitResult(result);
  const steps = await job.stepsOfAll(split.map(({ edge }) => edge));
  const parts = split.map(({ id, file, platform, edge, stated }, at): Part => ({
    name: id === '' ? formatPlatform(platform) : id,
    file,
    platform,
    edge,
    stated,
    steps: steps[at] ?? [],
  }));
  const whole = new Export(job, parts, result, attestations);
  const response: Record<string, string> = {};
  for (const exporter of exporters) Object.assign(response, await whole.run(exporter));
  return Object.assign(response, await job.cache.export(parts.map((part) => part.steps)));
}
