/**
 * A build by the classic API: Dockerfile and context in, image out, with the classic builder's text (`Step 1/4 : FROM
 * …`). The graph is the same as for every client (`dockerfile/convert.ts`); here it is carried out step by step, so
 * that each step has an image of its own that can be looked into. Stages that do not need each other are built at the
 * same time, and their text comes out one stage after the other.
 */
import { ApiError } from '#base/errors.ts';
import type { Platform } from '#base/platform.ts';
import { canonicalName, familiarName, parseReference, withDefaultTag } from '#base/reference.ts';
import type { Reference } from '#base/reference.ts';
import type { JsonObject } from '#base/unknown.ts';
import type { Hold } from '#content/content.ts';
import type { ImageRecord, ImageTarget } from '#content/image-records.ts';
import { imageIdOf, writeImage, writeManifest } from '#content/image-writer.ts';
import type { HttpTransport } from '#content/remote.ts';
import type { Processes } from '#os/processes.ts';
import type { RegistryCredential } from '#engine/engine.ts';
import type { BlobPlace } from '#engine/images-repository.ts';
import { ClassicOutput } from './classic-output.ts';
import type { StageOutput } from './classic-output.ts';
import type { BuildContext } from './context.ts';
import { Conversion } from './dockerfile/convert.ts';
import type { BuiltStage, ConvertEnvironment } from './dockerfile/convert.ts';
import { parseDockerfile } from './dockerfile/parser.ts';
import type { Stage } from './dockerfile/parser.ts';
import type { Step } from './dockerfile/stage.ts';
import { predefinedArgs } from './dockerfile/variables.ts';
import { finishConfig } from './image-config.ts';
import { buildConfigBytesMax } from './limits.ts';
import { makeVertex } from './llb/codec.ts';
import { SourceMissing } from './llb/copy-source.ts';
import { FetchError } from './llb/download.ts';
import { ExitError } from './llb/exec.ts';
import { layersOf, silentOutput } from './llb/output.ts';
import type { StepLayer, VertexOutput } from './llb/output.ts';
import { noSecrets } from './llb/secrets.ts';
import { Solver } from './llb/solver.ts';
import type { SolverParts } from './llb/work.ts';
import { Sources } from './llb/sources.ts';
import type { PullImage } from './llb/sources.ts';
import type { ExecOp, Vertex } from './llb/vertex.ts';
import type { RunRequest } from './runner.ts';

export interface BuildRequest {
  dockerfile: string;
  context: BuildContext | undefined;
  buildArgs: Record<string, string | null>;
  labels: Record<string, string>;
  noCache: boolean;
  /** Images are looked for at their registry although they are here. */
  pull: boolean;
  /**
   * Containers of failed steps are removed too, and successful ones: what `rm` and `forcerm` say is not needed, nothing
   * stays.
   */
  run: Pick<RunRequest, 'network' | 'extraHosts' | 'shmSizeBytes' | 'resources' | 'cgroupParent'>;
  target?: string;
  /** Names of the image. */
  tags: string[];
  platform?: Platform;
  /** For images that stages start from, by their registry. */
  credential?: (domain: string) => Promise<RegistryCredential | undefined>;
  /** Environment given to RUN but not to the image: proxies of the host, certificate paths. */
  hiddenEnv: string[];
  hiddenMounts: RunRequest['mounts'];
  signal: AbortSignal;
  onEvent: (event: Record<string, unknown>) => void;
}

export interface BuilderParts extends SolverParts {
  /** Starts `git`. */
  processes: Processes;
  transport: HttpTransport;
  pullImage: PullImage;
  /** An image was made, and has these names. */
  onBuilt(id: string, names: readonly string[]): void;
  /** An archive that `docker load` and readers of OCI layouts take. */
  saveImage(target: ImageTarget, names: readonly string[]): Promise<AsyncIterable<Uint8Array>>;
  /** A name in a registry as a place of blobs. */
  openPlace(reference: Reference, credential: RegistryCredential | undefined): BlobPlace;
  pushImage(
    name: string,
    options: {
      credential: RegistryCredential | undefined;
      onEvent: (event: JsonObject) => void;
      signal: AbortSignal;
    },
  ): Promise<void>;
}

class BuildStepError extends Error {
  readonly exitCode: number;
  constructor({ command, exitCode }: ExitError) {
    super(`The command '${command}' returned a non-zero code: ${exitCode}`);
    this.name = 'BuildStepError';
    this.exitCode = exitCode;
  }
}

/** A command's network: in the graph where it says so, else that of the daemon's settings. */
export function splitNetwork(network: string): { network: ExecOp['network']; sandbox: string } {
  if (network === 'host' || network === 'none') return { network, sandbox: 'default' };
  return { network: 'sandbox', sandbox: network };
}

/** Where a stage stands. */
interface Made {
  imageId: string;
  steps: readonly StepLayer[];
}

class Build implements Disposable {
  readonly #parts: BuilderParts;
  readonly #request: BuildRequest;
  readonly #conversion: Conversion;
  readonly #solver: Solver;
  readonly #sources: Sources;
  readonly #hold: Hold;
  readonly #outputs = new Map<Stage, StageOutput>();
  /** The stage in whose text a vertex is shown. */
  readonly #shownIn = new Map<string, StageOutput>();
  /** Keep the images of steps from removal until the finished build stands for them. */
  readonly #pins: Disposable[] = [];
  readonly #made = new Map<Stage, Promise<Made>>();
  readonly #failed = new AbortController();
  #configBytes = 0;

  constructor(parts: BuilderParts, request: BuildRequest) {
    this.#parts = parts;
    this.#request = request;
    const { network, sandbox } = splitNetwork(request.run.network);
    const { extraHosts, network: _network, ...bounds } = request.run;
    const { hiddenEnv, hiddenMounts, pull, credential } = request;
    this.#conversion = new Conversion(
      parseDockerfile(request.dockerfile),
      {
        ...request,
        network,
        extraHosts,
        ulimits: [],
        hostname: '',
        isClassic: true,
        cacheNamespace: '',
      },
      this.#environment(),
    );
    const text = new ClassicOutput(this.#conversion.stepCount, request.onEvent);
    for (const stage of this.#conversion.stages) this.#outputs.set(stage, text.stage(stage.instructions.length));
    const signal = AbortSignal.any([request.signal, this.#failed.signal]);
    const begin = ({ digest }: Vertex): VertexOutput => this.#shownIn.get(digest)?.vertex ?? silentOutput;
    const local = async (): Promise<BuildContext> => this.#context();
    this.#hold = parts.content.hold();
    this.#sources = new Sources({ ...parts, hold: this.#hold, pull, credential, local, begin, signal });
    this.#solver = new Solver(parts, {
      sources: this.#sources,
      secrets: noSecrets,
      exec: { ...bounds, network: sandbox, hiddenEnv, hiddenMounts },
      hold: this.#hold,
      begin,
      signal,
    });
  }

  get usedArgs(): ReadonlySet<string> {
    return this.#conversion.usedArgs;
  }

  #environment(): ConvertEnvironment {
    const context = makeVertex({ kind: 'source', identifier: 'local://context', attributes: {} }, [], {
      name: 'context',
    });
    return {
      named: async () => undefined,
      imageConfig: async (image, stage) => {
        const output = this.#outputs.get(stage);
        if (output !== undefined) this.#shownIn.set(image.vertex.digest, output);
        return (await this.#sources.image(image)).file;
      },
      context: async () => (this.#request.context === undefined ? undefined : { vertex: context, output: 0 }),
    };
  }

  #context(): BuildContext {
    const { context } = this.#request;
    if (context === undefined) throw new ApiError('BadRequest', 'no build context');
    return context;
  }

  /** The last step of the target, which has an image. */
  async run(): Promise<ImageRecord> {
    // One stage's failure stops the others; all have ended before the error is told.
    for (const stage of this.#conversion.stages) {
      const result = this.#stage(stage);
      this.#made.set(stage, result);
      result.catch((error: unknown) => this.#failed.abort(error));
    }
    await Promise.allSettled(this.#made.values());
    if (this.#failed.signal.aborted) throw this.#failed.signal.reason;
    const target = await this.#made.get(this.#conversion.target);
    const record = target === undefined ? undefined : this.#parts.images.get(target.imageId);
    if (record === undefined) throw new ApiError('BadRequest', 'No image was generated. Is your Dockerfile empty?');
    return record;
  }

  [Symbol.dispose](): void {
    for (const pin of this.#pins) pin[Symbol.dispose]();
    this.#hold[Symbol.dispose]();
  }

  async #stage(stage: Stage): Promise<Made> {
    const output = this.#outputs.get(stage);
    try {
      output?.begin(stage.from.original);
      return await this.#steps(await this.#conversion.build(stage), output);
    } finally {
      output?.finish();
    }
  }

  async #steps({ base, converter, triggers }: BuiltStage, output: StageOutput | undefined): Promise<Made> {
    let made: Made = { imageId: await this.#baseId(base), steps: await this.#solver.solveSteps(base.edge) };
    output?.end(made.imageId);
    if (triggers > 0) output?.triggers(triggers);
    for (const step of converter.steps) {
      if (!step.isTrigger) output?.begin(step.text);
      made = await this.#step(step, made, output);
      output?.end(made.imageId);
    }
    return made;
  }

  /** The image that a stage starts from; '' when it starts from nothing. */
  async #baseId({ edge, stage }: BuiltStage['base']): Promise<string> {
    if (stage !== undefined) return (await this.#made.get(stage))?.imageId ?? '';
    return edge === undefined ? '' : (await this.#sources.image(edge)).id;
  }

  async #step(step: Step, before: Made, output: StageOutput | undefined): Promise<Made> {
    const { content, images } = this.#parts;
    if (step.edge !== undefined && output !== undefined && !this.#shownIn.has(step.edge.vertex.digest))
      this.#shownIn.set(step.edge.vertex.digest, output);
    const steps = await this.#solver.solveSteps(step.edge).catch((error: unknown) => {
      throw inClassicWords(error, step);
    });
    const file = finishConfig(step.file, steps);
    const isSame = step.edge === undefined || steps.length === before.steps.length;
    if (isSame && !this.#request.noCache && images.get(imageIdOf(file)) !== undefined) output?.cached();
    const record = await writeImage(content, images, {
      file,
      layers: layersOf(steps),
      createdAtMs: Date.parse(file.created ?? '') || 0,
      isIntermediate: true,
      ...(before.imageId === '' ? {} : { parent: before.imageId }),
    });
    this.#pins.push(images.pin(record.id));
    this.#countConfig(content.blobs.size(record.id) ?? 0);
    return { imageId: record.id, steps };
  }

  #countConfig(bytes: number): void {
    this.#configBytes += bytes;
    if (this.#configBytes > buildConfigBytesMax)
      throw new ApiError(
        'RequestEntityTooLarge',
        `the configurations of this build's steps together are larger than ${buildConfigBytesMax} bytes`,
      );
  }
}

function inClassicWords(error: unknown, { keyword }: Step): unknown {
  if (error instanceof ExitError) return new BuildStepError(error);
  if (error instanceof FetchError) return new ApiError('BadRequest', error.classic);
  if (!(error instanceof SourceMissing)) return error;
  return new ApiError(
    'BadRequest',
    error.isPattern
      ? `${keyword} failed: no source files were specified`
      : `${keyword} failed: file not found in build context or excluded by .dockerignore: stat ${error.path}: file does not exist`,
  );
}

/** Names are checked before anything is built. */
export function parseTags(tags: string[]): string[] {
  return tags
    .filter((tag) => tag !== '')
    .map((tag) => {
      const reference = parseReference(tag);
      if (reference.digest !== undefined) throw new ApiError('BadRequest', 'build tag cannot contain a digest');
      return canonicalName(withDefaultTag(reference));
    });
}

// walk image-build 6/6: configuration and manifest are written, and the names point at them.
/** The image gets a manifest, names, and a place in the lists. */
export async function publish(parts: BuilderParts, found: ImageRecord, tags: readonly string[]): Promise<ImageRecord> {
  const { images, content } = parts;
  using hold = content.hold();
  await content.layers.settle();
  const record: ImageRecord = { ...found, tagTimeMs: parts.clock.now() };
  delete record.isIntermediate;
  delete record.isHidden;
  if (record.manifestDigest === '') {
    const manifest = await writeManifest(content, record, hold);
    record.manifestDigest = manifest.digest;
    record.manifestMediaType = manifest.mediaType;
  }
  await images.put(
    record,
    tags.map((tag) => images.nameChange(tag, { imageId: record.id })),
  );
  parts.onBuilt(record.id, tags);
  return record;
}

export async function runBuild(parts: BuilderParts, request: BuildRequest): Promise<ImageRecord> {
  const tags = parseTags(request.tags);
  if (request.platform !== undefined && request.platform.os !== 'linux')
    throw new ApiError('BadRequest', `operating system is not supported: ${request.platform.os}`);
  using build = new Build(parts, request);
  const record = await publish(parts, await build.run(), tags);
  const unused = Object.keys(request.buildArgs)
    .filter((name) => !build.usedArgs.has(name) && !predefinedArgs.includes(name))
    .sort();
  if (unused.length > 0)
    request.onEvent({ stream: `[Warning] One or more build-args [${unused.join(' ')}] were not consumed\n` });
  request.onEvent({ aux: { ID: record.id } });
  request.onEvent({ stream: `Successfully built ${record.id.slice(7, 19)}\n` });
  for (const tag of tags) request.onEvent({ stream: `Successfully tagged ${familiarName(parseReference(tag))}\n` });
  return record;
}
