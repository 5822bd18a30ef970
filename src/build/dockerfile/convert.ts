/**
 * A Dockerfile as a graph: the stages that the target needs, each a chain of vertices and a configuration. Bases that
 * are images are asked for, since their configuration says what a stage begins with; nothing else is carried out.
 */
import { ApiError } from '#base/errors.ts';
import { formatPlatform, hostPlatform, parsePlatform } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import { canonicalName, parseReference, withDefaultTag } from '#base/reference.ts';
import { messageOf } from '#base/thrown.ts';
import type { ImageFile } from '#content/image-file.ts';
import { isEpoch, parseEpoch } from '../epoch.ts';
import { makeVertex } from '../llb/codec.ts';
import { noteLocation } from '../llb/location.ts';
import type { SourceLocation, SourceText } from '../llb/location.ts';
import type { Edge } from '../llb/vertex.ts';
import type { IgnoreRules } from '../patterns.ts';
import { splitWords } from './config.ts';
import { parseError } from './lexer.ts';
import { lintFile, lintFrom } from './lint-file.ts';
import { StageLint } from './lint-stage.ts';
import type { Lint } from './lint.ts';
import { describeArg } from './outline.ts';
import type { ArgInfo } from './outline.ts';
import { stageName } from './parser.ts';
import type { Dockerfile, Instruction, Stage } from './parser.ts';
import { nearest } from './nearest.ts';
import { checkEpochStage } from './epoch-stage.ts';
import { StageConverter } from './stage.ts';
import type { StageBase, StageSettings } from './stage.ts';
import { platformArgs } from './variables.ts';
import { expandWord } from './words.ts';

export interface ConvertRequest extends Omit<StageSettings, 'createdAtMs'> {
  labels: Readonly<Record<string, string>>;
  /** '' or undefined: the last stage. */
  target?: string;
  platform?: Platform;
  /** It is built for several, which its steps' names tell. */
  isMultiPlatform?: boolean;
  /** The Dockerfile's text, where clients are to be shown places in it. */
  source?: SourceText;
  /** Stages that are built anew, by name; undefined: as `noCache` says. */
  noCacheStages?: readonly string[];
  /** Where checks tell what they find. */
  lint?: Lint;
}

/** Where images and contexts come from. */
export interface ConvertEnvironment {
  /** What stands under this name in place of an image or a stage; undefined: nothing. */
  named(name: string, platform: Platform): Promise<StageBase | undefined>;
  /** Configuration of the image that a vertex stands for. */
  /** `name`: as the Dockerfile has it. */
  imageConfig(image: Edge, stage: Stage, name: string): Promise<ImageFile>;
  /** The build context; undefined: there is none. */
  context(): Promise<Edge | undefined>;
  /** What of the build context is left out; undefined: nothing, or it cannot be told. */
  ignored?(): Promise<{ rules: IgnoreRules; patterns: readonly string[] } | undefined>;
  /**
   * From when the one source is that the edge stands on; undefined: nothing says it. `isRemote`: throws BadRequest
   * unless it is a repository or of the web. Absent: `SOURCE_DATE_EPOCH` means nothing.
   */
  timeOf?(edge: Edge | undefined, isRemote: boolean): Promise<number | undefined>;
}

export interface BuiltStage {
  stage: Stage;
  /** What it starts from; `stage` where that is one of the file. */
  base: StageBase & { stage?: Stage };
  converter: StageConverter;
  triggers: number;
}

const epochName = 'SOURCE_DATE_EPOCH';

function findStage(file: Dockerfile, name: string, before: number): Stage | undefined {
  const candidates = file.stages.slice(0, before);
  return (
    candidates.findLast((stage) => stage.name === name.toLowerCase()) ??
    (/^\d+$/.test(name) ? candidates[Number(name)] : undefined)
  );
}

/** Names that `--from` and `RUN --mount=from=` give. */
function fromNames({ flags }: Instruction): string[] {
  const mounts = (flags['mount'] ?? []).flatMap((text) => /(?:^|,)from=([^,]*)/i.exec(text)?.[1] ?? []);
  return [...(flags['from'] ?? []).slice(0, 1), ...mounts];
}

// walk image-build 3/6: stages and instructions become vertices; what no stage needs is left out.
export class Conversion {
  readonly file: Dockerfile;
  readonly target: Stage;
  /** Those that the target needs, in the order of the file. */
  readonly stages: readonly Stage[];
  readonly usedArgs = new Set<string>();
  /** Nothing of the image is to be later: `settleEpoch`. */
  createdAtMs: number | undefined;
  #request: ConvertRequest;
  readonly #environment: ConvertEnvironment;
  readonly #globalArgs: Record<string, string> = {};
  /** As they are where the client gives none; undefined: one of them cannot be told. */
  #defaultArgs: Record<string, string> | undefined = {};
  readonly #globalInfo = new Map<string, ArgInfo>();
  /** Global arguments that the stage's FROM names. */
  readonly #fromArgs = new Map<Stage, Set<string>>();
  readonly #bases = new Map<Stage, string>();
  readonly #platforms = new Map<Stage, Platform>();
  readonly #built = new Map<Stage, Promise<BuiltStage>>();
  readonly #sources = new Map<string, Edge>();

  constructor(file: Dockerfile, request: ConvertRequest, environment: ConvertEnvironment) {
    this.#request = request;
    this.#environment = environment;
    this.file = file;
    this.#readGlobalArgs();
    this.target = this.#findTarget();
    const { lint } = request;
    if (lint !== undefined) lintFile(lint, file, this.#defaultArgs);
    for (const stage of this.file.stages) {
      const names = [...this.usedArgs, ...Object.keys(this.#platformArgs)];
      if (lint !== undefined) lintFrom(lint, stage, { lookUp: this.#lookUp, names, escape: file.escape });
      this.#readFrom(stage);
    }
    this.stages = this.#needed();
  }

  /** Instructions of the stages that are built, FROM among them, and the labels of the request as one more. */
  get stepCount(): number {
    const labels = Object.keys(this.#request.labels).length > 0 ? 1 : 0;
    return this.stages.reduce((sum, stage) => sum + 1 + stage.instructions.length, labels);
  }

  /** What the build is for, whatever a stage itself runs on. */
  get #platformArgs(): Record<string, string> {
    const target = this.#request.target ?? '';
    return {
      ...platformArgs(hostPlatform(), this.#request.platform ?? hostPlatform()),
      TARGETSTAGE: target === '' ? (this.file.stages.at(-1)?.name ?? 'default') : target,
    };
  }

  get #lookUp(): (name: string) => string | undefined {
    const platform = this.#platformArgs;
    return (name) => this.#globalArgs[name] ?? platform[name];
  }

  #readGlobalArgs(): void {
    const { escape, globalArgs } = this.file;
    for (const instruction of globalArgs) {
      for (const word of splitWords(instruction.rest, escape)) {
        const equals = word.indexOf('=');
        const name = equals < 0 ? word : word.slice(0, equals);
        this.usedArgs.add(name);
        const text = equals < 0 ? undefined : word.slice(equals + 1);
        const needs = new Set<string>();
        const lookUp = this.#lookUp;
        const noting = (each: string): string | undefined => {
          const found = lookUp(each);
          if (found !== undefined) needs.add(each);
          return found;
        };
        // A default that is not taken may be one that fails.
        const given = this.#request.buildArgs[name] ?? undefined;
        const value = given ?? (text === undefined ? undefined : expandWord(text, noting, escape));
        if (value !== undefined) this.#globalArgs[name] = value;
        // One that stands on itself stands on what it stood on.
        if (needs.delete(name)) for (const each of this.#globalInfo.get(name)?.needs ?? []) needs.add(each);
        this.#globalInfo.set(name, { ...describeArg(name, value, instruction), needs });
        this.#noteDefault(name, text);
      }
    }
  }

  #noteDefault(name: string, text: string | undefined): void {
    const known = this.#defaultArgs;
    if (known === undefined || text === undefined) return;
    const platform = this.#platformArgs;
    try {
      known[name] = expandWord(text, (each) => known[each] ?? platform[each], this.file.escape);
    } catch {
      this.#defaultArgs = undefined;
    }
  }

  #findTarget(): Stage {
    const { target = '' } = this.#request;
    const { stages } = this.file;
    const found = target === '' ? stages.at(-1) : findStage(this.file, target, stages.length);
    if (found === undefined) {
      if (this.#request.isClassic)
        throw new ApiError('BadRequest', `failed to reach build target ${target} in Dockerfile`);
      const near = nearest(
        target,
        stages.flatMap(({ name }) => name ?? []),
      );
      const hint = near === undefined ? '' : ` (did you mean ${near}?)`;
      throw new ApiError('BadRequest', `target stage ${JSON.stringify(target)} could not be found${hint}`);
    }
    return found;
  }

  #readFrom(stage: Stage): void {
    const { escape } = this.file;
    const lookUp = this.#lookUp;
    const used = new Set<string>();
    const unknown: string[] = [];
    const noting = (name: string): string | undefined => {
      const value = lookUp(name);
      if (value === undefined) unknown.push(name);
      else used.add(name);
      return value;
    };
    this.#fromArgs.set(stage, used);
    const base = expandWord(stage.base, noting, escape);
    if (base === '') throw parseError(stage.from.line, `base name (${stage.base}) should not be blank`);
    this.#bases.set(stage, base);
    unknown.length = 0;
    const asked = stage.platform === undefined ? undefined : expandWord(stage.platform, noting, escape);
    if (asked === undefined) {
      this.#platforms.set(stage, this.#request.platform ?? hostPlatform());
      return;
    }
    try {
      if (asked === '') throw new ApiError('BadRequest', `empty platform value from expression ${stage.platform}`);
      this.#platforms.set(stage, parsePlatform(asked));
    } catch (error) {
      const names = [...Object.keys(this.#globalArgs), ...Object.keys(this.#platformArgs)];
      const near = unknown.map((name) => nearest(name, names)).find((name) => name !== undefined);
      const why =
        (asked === '' ? messageOf(error) : `failed to parse platform ${stage.platform}: ${messageOf(error)}`) +
        (near === undefined ? '' : ` (did you mean ${near}?)`);
      const told = new ApiError('BadRequest', why);
      noteLocation(told, this.#locationOf(stage.from));
      throw told;
    }
  }

  /**
   * Before stages are built: `SOURCE_DATE_EPOCH`, of the client or else of the file, is a time, or names what has one -
   * `context`, a context by name, or a stage that is one source. Its value becomes that time.
   */
  async settleEpoch(): Promise<void> {
    const { buildArgs } = this.#request;
    const given = buildArgs[epochName] ?? undefined;
    const text = given ?? this.#globalArgs[epochName] ?? '';
    if (text === '' || this.#environment.timeOf === undefined) return;
    this.createdAtMs = isEpoch(text) ? parseEpoch(text) : await this.#timeNamed(text, this.#environment.timeOf);
    const value = this.createdAtMs === undefined ? '' : String(Math.floor(this.createdAtMs / 1000));
    if (given !== undefined) this.#request = { ...this.#request, buildArgs: { ...buildArgs, [epochName]: value } };
    if (this.#globalArgs[epochName] !== undefined) this.#globalArgs[epochName] = value;
  }

  async #timeNamed(name: string, timeOf: NonNullable<ConvertEnvironment['timeOf']>): Promise<number | undefined> {
    if (name === 'context') return timeOf.call(this.#environment, await this.#environment.context(), false);
    const named = await this.#environment.named(name, hostPlatform());
    if (named !== undefined) return timeOf.call(this.#environment, named.edge, false);
    const stage = this.file.stages.find((each) => each.name === name.toLowerCase());
    if (stage === undefined) return parseEpoch(name);
    try {
      checkEpochStage(stage, this.baseOf(stage));
      const { converter } = await this.#convert(stage);
      return await timeOf.call(this.#environment, converter.edge, true);
    } catch (error) {
      noteLocation(error, this.#locationOf(stage.from));
      throw error;
    }
  }

  baseOf(stage: Stage): string {
    return this.#bases.get(stage) ?? stage.base;
  }

  #needed(): Stage[] {
    const needed = new Set<Stage>();
    const need = (stage: Stage): void => {
      if (needed.has(stage)) return;
      needed.add(stage);
      const base = this.#baseStage(stage);
      if (base !== undefined) need(base);
      for (const name of stage.instructions.flatMap(fromNames)) {
        const other = findStage(this.file, expandWord(name, this.#lookUp, this.file.escape), stage.index);
        if (other !== undefined) need(other);
      }
    };
    need(this.target);
    return this.file.stages.filter((stage) => needed.has(stage));
  }

  /** FROM names stages by name alone. */
  #baseStage(stage: Stage): Stage | undefined {
    const name = this.baseOf(stage).toLowerCase();
    return this.file.stages.slice(0, stage.index).findLast((each) => each.name === name);
  }

  build(stage: Stage): Promise<BuiltStage> {
    let built = this.#built.get(stage);
    if (built === undefined) {
      built = this.#convert(stage);
      // Whoever waits for it hears of it.
      built.catch(() => undefined);
      this.#built.set(stage, built);
    }
    return built;
  }

  /** `[linux/arm64 builder 2/5] `, as the client's display shows the step's place. */
  #names(stage: Stage): (text: string) => string {
    const isShown = ({ keyword }: Instruction): boolean => ['RUN', 'COPY', 'ADD', 'WORKDIR'].includes(keyword);
    // An image is a step; nothing, and another stage, are none.
    const hasImage = this.baseOf(stage) !== 'scratch' && this.#baseStage(stage) === undefined;
    const total = (hasImage ? 1 : 0) + stage.instructions.filter(isShown).length;
    const label = this.file.stages.length > 1 ? stageName(stage) : (stage.name ?? '');
    const { isMultiPlatform, platform } = this.#request;
    const start = [isMultiPlatform === true && platform !== undefined ? formatPlatform(platform) : '', label];
    let number = 0;
    return (text) => `[${[...start, `${Math.min(++number, total)}/${total}`].filter(Boolean).join(' ')}] ${text}`;
  }

  /** `at`: where it is asked for first. */
  #image(
    { name, platform, at }: { name: string; platform: Platform; at: Instruction },
    nameOf: (text: string) => string,
  ): Edge {
    const key = `${name} ${formatPlatform(platform)}`;
    const known = this.#sources.get(key);
    if (known !== undefined) {
      // It counts in this stage, too.
      nameOf('');
      return known;
    }
    const canonical = canonicalOrId(name);
    const identifier = `docker-image://${canonical}`;
    const vertex = makeVertex({ kind: 'source', identifier, attributes: {} }, [], {
      name: nameOf(`FROM ${canonical}`),
      platform,
      location: this.#locationOf(at),
    });
    const edge = { vertex, output: 0 };
    this.#sources.set(key, edge);
    return edge;
  }

  #locationOf({ line, endLine }: Instruction): SourceLocation | undefined {
    const { source } = this.#request;
    return source === undefined ? undefined : { text: source, ranges: [{ start: line, end: endLine }] };
  }

  async #base(stage: Stage, nameOf: (text: string) => string): Promise<BuiltStage['base']> {
    const name = this.baseOf(stage);
    const platform = this.#platforms.get(stage) ?? hostPlatform();
    const other = this.#baseStage(stage);
    if (other !== undefined) {
      const { converter } = await this.build(other);
      return { edge: converter.edge, file: converter.file, stage: other };
    }
    const named = await this.#environment.named(name, platform);
    if (named !== undefined && name !== 'scratch') nameOf('');
    if (named !== undefined) return named;
    if (name === 'scratch') return { edge: undefined, file: undefined };
    const edge = this.#image({ name, platform, at: stage.from }, nameOf);
    const file = await this.#environment.imageConfig(edge, stage, name);
    if (file.os !== platform.os || file.architecture !== platform.architecture) {
      const [found, wanted] = [file, platform].map(({ os, architecture, variant }) =>
        JSON.stringify(formatPlatform({ os, architecture, ...(variant === undefined ? {} : { variant }) })),
      );
      this.#request.lint?.warn(
        'InvalidBaseImagePlatform',
        `Base image ${name} was pulled with platform ${found}, expected ${wanted} for current build`,
        stage.from,
      );
    }
    return { edge, file };
  }

  /** Stages that a stage stands on or takes files from. */
  dependencies(stage: Stage): Stage[] {
    const base = this.#baseStage(stage);
    const others = stage.instructions.flatMap(fromNames).map((name) => findStage(this.file, name, stage.index));
    return [base, ...others].filter((each) => each !== undefined);
  }

  async #from(name: string | undefined, stage: Stage, at: Instruction): Promise<Edge | undefined> {
    if (name === undefined) return this.#environment.context();
    const other = findStage(this.file, name, stage.index);
    if (other !== undefined) return (await this.build(other)).converter.edge;
    const platform = this.#request.platform ?? hostPlatform();
    const named = await this.#environment.named(name, platform);
    if (named !== undefined) return named.edge;
    if (stage.name === name.toLowerCase())
      throw new ApiError('BadRequest', `circular dependency detected on stage: ${name}`);
    if (this.file.stages.some((each) => each.name === name.toLowerCase()))
      throw new ApiError(
        'BadRequest',
        `cannot copy from stage ${JSON.stringify(name)}, it needs to be defined before current stage ${JSON.stringify(stage.name ?? '')}`,
      );
    // A number means a stage and nothing else.
    if (/^\d+$/.test(name))
      throw new ApiError(
        'BadRequest',
        `invalid from flag value ${name}: ${Number(name) === stage.index ? 'refers to current build stage' : 'index out of bounds'}`,
      );
    if (name === 'scratch') return undefined;
    const edge = this.#image({ name, platform, at }, (text) => text);
    await this.#environment.imageConfig(edge, stage, name);
    return edge;
  }

  async #convert(stage: Stage): Promise<BuiltStage> {
    const nameOf = this.#names(stage);
    const platform = this.#platforms.get(stage) ?? hostPlatform();
    // A context with the stage's name stands in its place.
    const given = stage.name === undefined ? undefined : await this.#environment.named(stage.name, platform);
    const base: BuiltStage['base'] = given ?? (await this.#base(stage, nameOf));
    const { noCacheStages, labels, lint } = this.#request;
    const noCache = noCacheStages?.includes(stage.name ?? String(stage.index)) ?? this.#request.noCache;
    const below = base.stage !== undefined ? await this.build(base.stage) : undefined;
    const converter = new StageConverter(
      {
        settings: { ...this.#request, noCache, createdAtMs: this.createdAtMs },
        escape: this.file.escape,
        globalArgs: this.#globalArgs,
        platformArgs: this.#platformArgs,
        platform,
        usedArgs: this.usedArgs,
        nameOf,
        locationOf: (instruction) => this.#locationOf(instruction),
        resolveFrom: (name, instruction) => this.#from(name, stage, instruction),
        ...(lint === undefined
          ? {}
          : { lint: new StageLint(lint, this.file.escape, below?.converter.hasWorkingDir ?? false) }),
        ...(below === undefined ? {} : { below: below.converter }),
        ignored: async () => this.#environment.ignored?.(),
        outline: { args: new Map(this.#globalInfo), used: this.#fromArgs.get(stage) ?? new Set() },
      },
      base,
    );
    if (given !== undefined) return { stage, base, converter, triggers: 0 };
    const triggers = converter.takeTriggers();
    // What the base image left stands where the image is named.
    const { line, endLine } = stage.from;
    for (const trigger of triggers) await converter.take({ ...trigger, line, endLine }, true);
    for (const instruction of stage.instructions) await converter.take(instruction, false);
    if (stage === this.target && Object.keys(labels).length > 0) converter.label(labels);
    return { stage, base, converter, triggers: triggers.length };
  }
}

/** A name in its whole form; an id stays as it is. */
export function canonicalOrId(name: string): string {
  return /^(?:sha256:)?[0-9a-f]{12,64}$/.test(name) ? name : canonicalName(withDefaultTag(parseReference(name)));
}
