/**
 * A build: Dockerfile and context in, image out, with the classic builder's text (`Step 1/4 : FROM …`). Stages that the
 * target does not need are not built; those that do not need each other are built at the same time, and their text
 * comes out one stage after the other.
 */
import { ApiError } from '#base/errors.ts';
import { formatPlatform, hostPlatform, parsePlatform } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import { canonicalName, familiarName, parseReference, withDefaultTag } from '#base/reference.ts';
import type { ImageLayer, ImageRecord } from '#content/image-records.ts';
import type { RegistryCredential } from '#engine/engine.ts';
import type { HttpTransport } from '#content/remote.ts';
import { writeManifest } from '#content/image-writer.ts';
import type { BuildContext } from './context.ts';
import type { GraphContext } from './graph.ts';
import { buildConfigBytesMax } from './limits.ts';
import { parseError } from './dockerfile/lexer.ts';
import { parseDockerfile } from './dockerfile/parser.ts';
import type { Dockerfile, Stage } from './dockerfile/parser.ts';
import { splitWords } from './dockerfile/config.ts';
import { StageBuilder } from './dockerfile/stage.ts';
import type { BuildSettings, StageResult } from './dockerfile/stage.ts';
import { platformArgs, predefinedArgs } from './dockerfile/variables.ts';
import { expandWord } from './dockerfile/words.ts';
import { ClassicOutput } from './output.ts';
import type { BuildOutput, StageOutput } from './output.ts';

export interface BuildRequest extends BuildSettings {
  dockerfile: string;
  context: BuildContext | undefined;
  target?: string;
  /** Names of the image; undefined: it is not listed, and stays as long as the cache keeps it. */
  tags: string[] | undefined;
  platform?: Platform;
  /** For images that stages start from, by their registry. */
  credential?: (domain: string) => Promise<RegistryCredential | undefined>;
  onEvent: (event: Record<string, unknown>) => void;
  /** Takes the place of the classic text. */
  output?: BuildOutput;
}

export interface BuilderParts extends GraphContext {
  transport: HttpTransport;
  /** Finds an image here, or pulls it (`always` even when it is here). */
  pullImage: (
    reference: string,
    options: {
      always: boolean;
      platform: Platform | undefined;
      credential: BuildRequest['credential'];
      onEvent: (event: Record<string, unknown>) => void;
      signal: AbortSignal;
    },
  ) => Promise<ImageRecord>;
}

interface Plan {
  stages: Stage[];
  target: Stage;
  globalArgs: Record<string, string>;
  bases: Map<Stage, string>;
  platforms: Map<Stage, Platform | undefined>;
  total: number;
}

function findStage(file: Dockerfile, name: string, before: number): Stage | undefined {
  const candidates = file.stages.slice(0, before);
  return (
    candidates.findLast((stage) => stage.name === name.toLowerCase()) ??
    (/^\d+$/.test(name) ? candidates[Number(name)] : undefined)
  );
}

// walk image-build 3/6: stages and instructions become operations; what no stage needs is left out.
function planBuild(file: Dockerfile, request: BuildRequest, usedArgs: Set<string>): Plan {
  const platform = platformArgs(hostPlatform(), request.platform ?? hostPlatform());
  const globalArgs: Record<string, string> = {};
  const lookUp = (name: string): string | undefined => globalArgs[name] ?? platform[name];
  for (const instruction of file.globalArgs) {
    for (const word of splitWords(instruction.rest, file.escape)) {
      const equals = word.indexOf('=');
      const name = equals < 0 ? word : word.slice(0, equals);
      usedArgs.add(name);
      const value =
        request.buildArgs[name] ?? (equals < 0 ? undefined : expandWord(word.slice(equals + 1), lookUp, file.escape));
      if (value !== undefined) globalArgs[name] = value;
    }
  }
  const target =
    request.target === undefined || request.target === ''
      ? file.stages.at(-1)!
      : findStage(file, request.target, file.stages.length);
  if (target === undefined)
    throw new ApiError('BadRequest', `failed to reach build target ${request.target} in Dockerfile`);
  const bases = new Map<Stage, string>();
  const platforms = new Map<Stage, Platform | undefined>();
  for (const stage of file.stages) {
    const base = expandWord(stage.base, lookUp, file.escape);
    if (base === '') throw parseError(stage.from.line, `base name (${stage.base}) should not be blank`);
    bases.set(stage, base);
    const asked = stage.platform === undefined ? '' : expandWord(stage.platform, lookUp, file.escape);
    platforms.set(stage, asked === '' ? request.platform : parsePlatform(asked));
  }
  const needed = new Set<Stage>();
  const need = (stage: Stage): void => {
    if (needed.has(stage)) return;
    needed.add(stage);
    const base = findStage(file, bases.get(stage)!, stage.index);
    if (base !== undefined && base.name !== undefined && !/^\d+$/.test(bases.get(stage)!)) need(base);
    for (const instruction of stage.instructions) {
      const from = instruction.flags['from']?.[0];
      const other =
        from === undefined ? undefined : findStage(file, expandWord(from, lookUp, file.escape), stage.index);
      if (other !== undefined) need(other);
    }
  };
  need(target);
  const stages = file.stages.filter((stage) => needed.has(stage));
  const total = stages.reduce((sum, stage) => sum + 1 + stage.instructions.length, 0);
  return {
    stages,
    target,
    globalArgs,
    bases,
    platforms,
    total: total + (Object.keys(request.labels).length > 0 ? 1 : 0),
  };
}

class Build {
  readonly #parts: BuilderParts;
  readonly #request: BuildRequest;
  readonly #file: Dockerfile;
  readonly #plan: Plan;
  readonly #output: BuildOutput;
  #configBytes = 0;
  readonly #usedArgs = new Set<string>();
  readonly #builders: StageBuilder[] = [];
  readonly #results = new Map<Stage, Promise<StageResult>>();
  readonly #pulled = new Map<string, Promise<ImageRecord>>();

  constructor(parts: BuilderParts, request: BuildRequest) {
    this.#parts = parts;
    this.#request = request;
    this.#file = parseDockerfile(request.dockerfile);
    this.#plan = planBuild(this.#file, request, this.#usedArgs);
    this.#output = request.output ?? new ClassicOutput(this.#plan.total, request.onEvent);
  }

  async run(): Promise<StageResult> {
    // One stage's failure stops the others; all have ended before the error is told.
    const failed = new AbortController();
    const signal = AbortSignal.any([this.#request.signal, failed.signal]);
    for (const [index, stage] of this.#plan.stages.entries()) {
      const result = this.#stage(stage, index, signal);
      this.#results.set(stage, result);
      result.catch((error: unknown) => failed.abort(error));
    }
    const settled = await Promise.allSettled(this.#results.values());
    if (failed.signal.aborted) throw failed.signal.reason;
    for (const each of settled) if (each.status === 'rejected') throw each.reason;
    return this.#results.get(this.#plan.target)!;
  }

  /** Lets go of the images that the stages stand on. */
  release(): void {
    for (const builder of this.#builders) builder.release();
  }

  get usedArgs(): Set<string> {
    return this.#usedArgs;
  }

  #countConfig(bytes: number): void {
    this.#configBytes += bytes;
    if (this.#configBytes > buildConfigBytesMax)
      throw new ApiError(
        'RequestEntityTooLarge',
        `the configurations of this build's steps together are larger than ${buildConfigBytesMax} bytes`,
      );
  }

  #pull(name: string, platform: Platform | undefined, output: StageOutput, signal: AbortSignal): Promise<ImageRecord> {
    const key = `${name} ${platform === undefined ? '' : formatPlatform(platform)}`;
    let pulled = this.#pulled.get(key);
    if (pulled === undefined)
      this.#pulled.set(
        key,
        (pulled = this.#parts.pullImage(name, {
          always: this.#request.pull,
          platform,
          credential: this.#request.credential,
          onEvent: (event) => output.event(event),
          signal,
        })),
      );
    return pulled;
  }

  async #base(stage: Stage, output: StageOutput, signal: AbortSignal): Promise<ImageRecord | StageResult | undefined> {
    const name = this.#plan.bases.get(stage)!;
    if (name === 'scratch') return undefined;
    const other = this.#file.stages.slice(0, stage.index).findLast((each) => each.name === name.toLowerCase());
    if (other !== undefined) return this.#results.get(other)!;
    return this.#pull(name, this.#plan.platforms.get(stage), output, signal);
  }

  async #from(name: string, stage: Stage, output: StageOutput, signal: AbortSignal): Promise<ImageLayer[]> {
    const other = findStage(this.#file, name, stage.index);
    if (other !== undefined) return (await this.#results.get(other)!).layers;
    if (stage.name === name.toLowerCase())
      throw new ApiError('BadRequest', `circular dependency detected on stage: ${name}`);
    const later = this.#file.stages.find((each) => each.name === name.toLowerCase());
    if (later !== undefined)
      throw new ApiError('BadRequest', `invalid from flag value ${name}: stage is defined later`);
    // A number means a stage and nothing else.
    if (/^\d+$/.test(name))
      throw new ApiError(
        'BadRequest',
        `invalid from flag value ${name}: ${Number(name) === stage.index ? 'refers to current build stage' : 'index out of bounds'}`,
      );
    const record = await this.#pull(name, this.#request.platform, output, signal);
    await Promise.all(record.layers.map((layer) => this.#parts.content.layers.ensure(layer.diffId, layer.digest)));
    return record.layers;
  }

  async #stage(stage: Stage, index: number, signal: AbortSignal): Promise<StageResult> {
    const output = this.#output.stage({
      index,
      name: stage.name,
      base: this.#plan.bases.get(stage)!,
      instructions: stage.instructions,
    });
    try {
      return await this.#steps(stage, output, signal);
    } catch (error) {
      output.fail(error);
      throw error;
    } finally {
      output.finish();
    }
  }

  async #steps(stage: Stage, output: StageOutput, signal: AbortSignal): Promise<StageResult> {
    output.begin('FROM', stage.from.original);
    const base = await this.#base(stage, output, signal);
    const settings: BuildSettings = { ...this.#request, signal };
    const builder = new StageBuilder(
      {
        graph: this.#parts,
        transport: this.#parts.transport,
        context: this.#request.context,
        settings,
        escape: this.#file.escape,
        globalArgs: this.#plan.globalArgs,
        platformArgs: platformArgs(hostPlatform(), this.#plan.platforms.get(stage) ?? hostPlatform()),
        usedArgs: this.#usedArgs,
        output,
        resolveFrom: (name) => this.#from(name, stage, output, signal),
        countConfig: (bytes) => this.#countConfig(bytes),
      },
      base,
    );
    this.#builders.push(builder);
    output.end(builder.result.imageId);
    const triggers = builder.takeTriggers();
    if (triggers.length > 0) output.triggers(triggers.length);
    for (const trigger of triggers) await builder.step(trigger);
    for (const instruction of stage.instructions) {
      output.begin(instruction.keyword, instruction.original);
      await builder.step(instruction);
    }
    const labels = Object.entries(this.#request.labels);
    if (stage === this.#plan.target && labels.length > 0) {
      output.begin('LABEL', `LABEL ${labels.map(([name, value]) => `${name}=${value}`).join(' ')}`);
      await builder.label(this.#request.labels);
    }
    return builder.result;
  }
}

// walk image-build 6/6: configuration and manifest are written, and the names point at them.
/** The step becomes an image of its own: with a manifest, names, and a place in the lists. */
async function publish(parts: BuilderParts, result: StageResult, tags: string[]): Promise<ImageRecord> {
  const { images, content } = parts;
  const found = images.get(result.imageId);
  if (found === undefined) throw new ApiError('BadRequest', 'No image was generated. Is your Dockerfile empty?');
  using hold = content.hold();
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
    tags.map((tag) => images.nameChange(tag, record.id)),
  );
  return record;
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

export async function runBuild(parts: BuilderParts, request: BuildRequest): Promise<ImageRecord> {
  const tags = request.tags === undefined ? undefined : parseTags(request.tags);
  if (request.platform !== undefined && request.platform.os !== 'linux')
    throw new ApiError('BadRequest', `operating system is not supported: ${request.platform.os}`);
  const build = new Build(parts, request);
  let record: ImageRecord;
  try {
    const result = await build.run();
    if (result.imageId === '') throw new ApiError('BadRequest', 'No image was generated. Is your Dockerfile empty?');
    record = tags === undefined ? parts.images.get(result.imageId)! : await publish(parts, result, tags);
  } finally {
    build.release();
  }
  const unused = Object.keys(request.buildArgs)
    .filter((name) => !build.usedArgs.has(name) && !predefinedArgs.includes(name))
    .sort();
  if (unused.length > 0)
    request.onEvent({ stream: `[Warning] One or more build-args [${unused.join(' ')}] were not consumed\n` });
  request.onEvent({ aux: { ID: record.id } });
  request.onEvent({ stream: `Successfully built ${record.id.slice(7, 19)}\n` });
  for (const tag of tags ?? [])
    request.onEvent({ stream: `Successfully tagged ${familiarName(parseReference(tag))}\n` });
  return record;
}
