/**
 * One stage of a Dockerfile as vertices: variables are expanded, and each instruction becomes an edge of the graph, a
 * change of the configuration, or both. Nothing is carried out here.
 */
import { ApiError } from '#base/errors.ts';
import type { Platform } from '#base/platform.ts';
import type { HistoryEntry, ImageFile, RunConfig } from '#content/image-file.ts';
import { makeVertex } from '../llb/codec.ts';
import type { VertexOptions } from '../llb/codec.ts';
import type { SourceLocation } from '../llb/location.ts';
import type { Edge, ExecOp, FileAction, ProxyEnv } from '../llb/vertex.ts';
import { rootMount } from '../llb/vertex-parts.ts';
import { quotedWordMax } from '../limits.ts';
import { applyConfig, resolveWorkingDir, shellOf, splitWords, toCommand } from './config.ts';
import type { Scope } from './config.ts';
import type { IgnoreRules } from '../patterns.ts';
import { copySources, copyVertex, parseOwner } from './copy.ts';
import { describeConfig, describeCopy } from './history.ts';
import { parseError } from './lexer.ts';
import type { StageLint } from './lint-stage.ts';
import { describeArg } from './outline.ts';
import type { StageOutline } from './outline.ts';
import { parseTrigger, stageName } from './parser.ts';
import type { Instruction, Keyword, Stage } from './parser.ts';
import { execMounts, parseRunMount } from './run-mounts.ts';
import { getEnv, predefinedArgs } from './variables.ts';
import { expandWord, showVariables } from './words.ts';

/** What the request says of all stages. */
export interface StageSettings {
  buildArgs: Readonly<Record<string, string | null>>;
  noCache: boolean;
  /** Of steps that do not say another. */
  network: ExecOp['network'];
  extraHosts: string[];
  ulimits: ExecOp['ulimits'];
  hostname: string;
  /** The classic builder's rules: no secrets, a pattern that matches nothing is an error. */
  isClassic: boolean;
  cacheNamespace: string;
  /** What git advises while it fetches is printed. */
  hasGitAdvice?: boolean;
  createdAtMs?: number | undefined;
}

export interface StageParts {
  settings: StageSettings;
  escape: string;
  globalArgs: Readonly<Record<string, string>>;
  platformArgs: Readonly<Record<string, string>>;
  platform: Platform;
  usedArgs: Set<string>;
  /** The vertex's name in progress, of a step that has one. */
  nameOf: (text: string) => string;
  /** Where the instruction stands, for clients that are shown it. */
  locationOf: (instruction: Instruction) => SourceLocation | undefined;
  /** Files of the stage, image or context with this name; of the build context without one. */
  resolveFrom: (name: string | undefined, instruction: Instruction) => Promise<Edge | undefined>;
  lint?: StageLint;
  /** The stage that it stands on, whose ARGs are this one's too. */
  below?: StageConverter;
  /** What of the build context is left out. */
  ignored: () => Promise<{ rules: IgnoreRules; patterns: readonly string[] } | undefined>;
  /** Global arguments, and those that the stage's FROM names. */
  outline: Pick<StageOutline, 'args' | 'used'>;
}

/** An instruction that was taken: the stage's files and configuration after it. */
export interface Step {
  keyword: Keyword;
  /** As it is written. */
  text: string;
  isTrigger: boolean;
  edge: Edge | undefined;
  /** Without layers: they are known when the edge was carried out. */
  file: ImageFile;
}

export interface StageBase {
  edge: Edge | undefined;
  file: ImageFile | undefined;
}

const unixPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** They are for the builder and in no environment. */
type ScanArg = 'BUILDKIT_SBOM_SCAN_CONTEXT' | 'BUILDKIT_SBOM_SCAN_STAGE';
const scanArgs: readonly ScanArg[] = ['BUILDKIT_SBOM_SCAN_CONTEXT', 'BUILDKIT_SBOM_SCAN_STAGE'];
const isScanArg = (name: string): boolean => scanArgs.some((each) => each === name);

const comment = 'buildkit.dockerfile.v0';

export class StageConverter {
  readonly #parts: StageParts;
  readonly steps: Step[] = [];
  #edge: Edge | undefined;
  #file: ImageFile;
  /** ARGs declared in this stage. */
  readonly #args: Record<string, string> = {};
  /** Those and the ones without a value. */
  readonly #declared = new Set<string>();
  readonly outline: StageOutline;
  /** The instruction that is taken. */
  #current: Instruction | undefined;
  #hasCommand = false;

  constructor(parts: StageParts, base: StageBase) {
    this.#parts = parts;
    this.outline = { ...parts.outline, secrets: new Map(), agents: new Map() };
    this.#edge = base.edge;
    // The classic builder forgets them.
    if (parts.below !== undefined && !parts.settings.isClassic) {
      Object.assign(this.#args, parts.below.#args);
      for (const name of parts.below.#declared) this.#declared.add(name);
    }
    const { os, architecture, variant, 'os.version': version = '' } = parts.platform;
    this.#file =
      base.file === undefined
        ? {
            architecture,
            os,
            ...(variant === undefined || variant === '' ? {} : { variant }),
            ...(version === '' ? {} : { 'os.version': version }),
            config: os === 'windows' ? {} : { Env: [`PATH=${unixPath}`] },
            rootfs: { type: 'layers', diff_ids: [] },
            history: [],
          }
        : structuredClone(base.file);
    delete this.#file.container_config;
    delete this.#file.created;
  }

  get #config(): RunConfig {
    return this.#file.config ?? {};
  }
  get #scope(): { variables: (name: string) => string | undefined; escape: string } {
    return {
      escape: this.#parts.escape,
      variables: (name) => {
        const value = getEnv(this.#config.Env ?? [], name) ?? this.#args[name];
        if (value === undefined) this.#noteUndefined(name);
        return value;
      },
    };
  }

  #noteUndefined(name: string): void {
    const { lint } = this.#parts;
    const instruction = this.#current;
    if (lint === undefined || instruction === undefined || this.#declared.has(name)) return;
    if (instruction.keyword === 'EXPOSE' || isScanArg(name)) return;
    const known = (this.#config.Env ?? []).map((each) => each.slice(0, each.indexOf('=')));
    lint.undefinedVariable(instruction, name, [...known, ...Object.keys(this.#args)]);
  }

  get edge(): Edge | undefined {
    return this.#edge;
  }
  get file(): ImageFile {
    return this.#file;
  }

  /** Whether this file has said where it works; asked by checks. */
  get hasWorkingDir(): boolean {
    return this.#parts.lint?.hasWorkingDir ?? false;
  }

  /** Whether the argument, of the stage or of the file, says yes, or names the stage among others. */
  isScanned(argument: ScanArg, stage: Stage): boolean {
    const value = this.#args[argument] ?? this.#parts.globalArgs[argument] ?? '';
    if (/^(?:1|t|true)$/i.test(value)) return true;
    return !/^(?:0|f|false)$/i.test(value) && value.split(',').includes(stageName(stage));
  }

  /** Triggers that the base image left for its children. */
  takeTriggers(): Instruction[] {
    const triggers = this.#config.OnBuild ?? [];
    this.#file = { ...this.#file, config: { ...this.#config, OnBuild: null } };
    return triggers.map(parseTrigger);
  }

  /** Throws BadRequest with the line. */
  async take(instruction: Instruction, isTrigger: boolean): Promise<void> {
    try {
      await this.#take(instruction, isTrigger);
    } catch (error) {
      if (
        !(error instanceof ApiError) ||
        error.reason !== 'BadRequest' ||
        error.message.startsWith('dockerfile parse error') ||
        /^(COPY|ADD) failed/.test(error.message)
      )
        throw error;
      throw new ApiError('BadRequest', `dockerfile parse error on line ${instruction.line}: ${error.message}`);
    }
  }

  async #take(instruction: Instruction, isTrigger: boolean): Promise<void> {
    const { keyword, original } = instruction;
    this.#current = instruction;
    this.#parts.lint?.take(instruction, this.#config);
    await this.#apply(instruction);
    this.#current = undefined;
    this.steps.push({ keyword, text: original, isTrigger, edge: this.#edge, file: this.#file });
  }

  #apply(instruction: Instruction): Promise<void> | void {
    switch (instruction.keyword) {
      case 'ARG':
        return this.#arg(instruction);
      case 'RUN':
        return this.#run(instruction);
      case 'COPY':
      case 'ADD':
        return this.#copy(instruction);
      case 'WORKDIR':
        return this.#workdir(instruction);
      default:
        return this.#configure(instruction);
    }
  }

  /** `edge` undefined: the instruction changes words only. */
  #commit(createdBy: string, config: RunConfig, edge: Edge | undefined): void {
    const entry: HistoryEntry = {
      created_by: createdBy.toWellFormed(),
      comment,
      ...(edge === undefined ? { empty_layer: true } : {}),
    };
    this.#file = { ...this.#file, config, history: [...(this.#file.history ?? []), entry] };
    if (edge !== undefined) this.#edge = edge;
  }

  /** `shown`: variables that its name shows in place of what is written. */
  #about(instruction: Instruction, shown: Scope['variables'] = () => undefined): VertexOptions {
    const { nameOf, platform, settings, locationOf } = this.#parts;
    const { original } = instruction;
    const name = nameOf(showVariables(original, shown));
    return { name, platform, ignoresCache: settings.noCache, location: locationOf(instruction) };
  }

  #configure(instruction: Instruction): void {
    const config = applyConfig(this.#config, instruction, { ...this.#scope, os: this.#file.os });
    if (config === undefined) throw parseError(instruction.line, `unknown instruction: ${instruction.keyword}`);
    // An entrypoint set here drops a command that came with the base image.
    if (instruction.keyword === 'CMD') this.#hasCommand = true;
    if (instruction.keyword === 'ENTRYPOINT' && !this.#hasCommand) config.Cmd = null;
    if (instruction.keyword === 'MAINTAINER') this.#file = { ...this.#file, author: instruction.rest };
    if (instruction.keyword === 'ONBUILD') this.#file = { ...this.#file, config };
    else this.#commit(describeConfig(instruction, config, this.#scope), config, undefined);
  }

  #arg(instruction: Instruction): void {
    const { settings, globalArgs, platformArgs, usedArgs, escape } = this.#parts;
    const shown: string[] = [];
    for (const word of splitWords(instruction.rest, escape)) {
      const equals = word.indexOf('=');
      const name = expandWord(equals < 0 ? word : word.slice(0, equals), this.#scope.variables, escape);
      if (!/^[a-zA-Z_][a-zA-Z0-9_]*$/.test(name))
        throw parseError(
          instruction.line,
          `ARG names can not be blank or contain other than letters, digits and underscores: "${name}"`,
        );
      usedArgs.add(name);
      // A default that is not taken may be one that fails.
      const given = settings.buildArgs[name] ?? undefined;
      const standard =
        equals < 0 || given !== undefined
          ? undefined
          : expandWord(word.slice(equals + 1), this.#scope.variables, escape);
      const value = given ?? standard ?? globalArgs[name] ?? platformArgs[name];
      this.#declared.add(name);
      const isInherited = given === undefined && standard === undefined && value !== undefined;
      if (!isInherited) this.outline.args.set(name, describeArg(name, value, instruction));
      this.outline.used.add(name);
      if (value !== undefined) this.#args[name] = value;
      shown.push(value === undefined ? name : `${name}=${value}`);
    }
    this.#commit(`ARG ${shown.join(' ')}`, this.#config, undefined);
  }

  /** ARGs in force, for RUN: environment wins, proxies are hidden. */
  #runEnv(): { env: string[]; argsText: string; proxyEnv: Partial<ProxyEnv> } {
    const { settings, usedArgs } = this.#parts;
    const env = this.#config.Env ?? [];
    const declared = Object.entries(this.#args).filter(
      ([name]) => getEnv(env, name) === undefined && !predefinedArgs.includes(name) && !isScanArg(name),
    );
    // The classic builder's order; BuildKit's is that of the file.
    if (settings.isClassic) declared.sort(([a], [b]) => (a < b ? -1 : 1));
    const proxyEnv: Record<string, string> = {};
    for (const name of predefinedArgs) {
      const value = settings.buildArgs[name];
      if (value === undefined || value === null) continue;
      usedArgs.add(name);
      proxyEnv[name.toLowerCase()] = value;
    }
    const pairs = declared.map(([name, value]) => `${name}=${value}`);
    return {
      env: [...env, ...pairs],
      argsText: pairs.length === 0 ? '' : `|${pairs.length} ${pairs.join(' ')} `,
      proxyEnv,
    };
  }

  #command(instruction: Instruction): string[] {
    const shell = shellOf(this.#config, this.#file.os);
    const { heredocs, rest } = instruction;
    const [first] = heredocs;
    if (first === undefined) {
      const command = toCommand(instruction, shell);
      if (command.length === 0) throw parseError(instruction.line, 'RUN requires at least one argument');
      return command;
    }
    if (heredocs.length > 1 || !/^<<-?\s*(["']?)[^\s"']+\1$/.test(rest))
      return [...shell, [rest, ...heredocs.flatMap((each) => [each.content + each.name])].join('\n')];
    const interpreter = /^#!\s*(\S.*)\n/.exec(first.content)?.[1];
    if (interpreter === undefined) return [...shell, first.content];
    // A script with an interpreter of its own: handed over through a file, because it may read its standard input.
    const mark = 'TIPHYS_END_OF_SCRIPT';
    return [
      '/bin/sh',
      '-c',
      `cat > /dev/shm/script <<'${mark}'\n${first.content}${mark}\n${interpreter} /dev/shm/script`,
    ];
  }

  #network(instruction: Instruction): ExecOp['network'] {
    const asked = instruction.flags['network']?.[0];
    if (asked === undefined) return this.#parts.settings.network;
    if (asked === 'default') return 'sandbox';
    if (asked === 'none' || asked === 'host') return asked;
    throw parseError(instruction.line, `unsupported network mode ${JSON.stringify(asked.slice(0, quotedWordMax))}`);
  }

  async #run(instruction: Instruction): Promise<void> {
    const { settings, resolveFrom } = this.#parts;
    const { flags, line } = instruction;
    const command = this.#command(instruction);
    const { env, argsText, proxyEnv } = this.#runEnv();
    if (![undefined, 'sandbox'].includes(flags['security']?.[0]))
      throw new ApiError('BadRequest', 'security.insecure is not allowed: steps run in a sandbox here');
    if (flags['device'] !== undefined)
      throw new ApiError('BadRequest', 'the --device option needs an entitlement: devices are not given to steps here');
    const expand = (word: string): string => expandWord(word, this.#scope.variables, this.#scope.escape);
    const wanted = (flags['mount'] ?? []).map((text) => parseRunMount(text, line, expand));
    const refused = wanted.find(({ kind }) => kind === 'secret' || kind === 'ssh');
    if (settings.isClassic && refused !== undefined)
      throw new ApiError(
        'BadRequest',
        `the --mount option with type=${refused.kind} requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to learn how to build images with BuildKit enabled`,
      );
    for (const { kind, id, isOptional } of wanted) {
      const about = { isRequired: !isOptional, at: instruction };
      if (kind === 'secret') this.outline.secrets.set(id, about);
      if (kind === 'ssh') this.outline.agents.set(id, about);
    }
    const config = this.#config;
    const workingDir = config.WorkingDir === undefined || config.WorkingDir === '' ? '/' : config.WorkingDir;
    const inputs: Edge[] = this.#edge === undefined ? [] : [this.#edge];
    const inputOf = (edge: Edge): number => {
      const at = inputs.findIndex((each) => each.vertex === edge.vertex && each.output === edge.output);
      return at >= 0 ? at : inputs.push(edge) - 1;
    };
    const { mounts, secretEnv } = await execMounts(wanted, {
      workingDir,
      cacheNamespace: settings.cacheNamespace,
      inputOf,
      resolveFrom: (name) => resolveFrom(name, instruction),
    });
    const op: ExecOp = {
      kind: 'exec',
      args: command,
      env,
      cwd: workingDir,
      user: config.User ?? '',
      proxyEnv,
      extraHosts: settings.extraHosts,
      hostname: settings.hostname,
      ulimits: settings.ulimits,
      cgroupParent: '',
      validExitCodes: [],
      mounts: [{ ...rootMount, ...(this.#edge === undefined ? {} : { input: 0 }) }, ...mounts],
      network: this.#network(instruction),
      isInsecure: false,
      secretEnv,
      devices: [],
    };
    const masked = new Map(secretEnv.map(({ name }) => [name, '****']));
    const about = this.#about(
      instruction,
      (name) => masked.get(name) ?? getEnv(config.Env ?? [], name) ?? this.#args[name],
    );
    const vertex = makeVertex(op, inputs, about);
    this.#commit(`RUN ${argsText}${command.join(' ')} # buildkit`, config, { vertex, output: 0 });
  }

  async #copy(instruction: Instruction): Promise<void> {
    const { settings, resolveFrom } = this.#parts;
    const from = instruction.flags['from']?.[0];
    const ofContext = from === undefined ? copySources(instruction, this.#scope) : [];
    if (this.#parts.lint !== undefined && ofContext.length > 0) {
      const ignored = await this.#parts.ignored();
      if (ignored?.rules.hasExclusions === false)
        for (const source of ofContext)
          this.#parts.lint.copySource(instruction, source, ignored.rules, ignored.patterns);
    }
    // Which stages there are to be is known before any of them has variables.
    if (from !== undefined && expandWord(from, () => undefined, this.#scope.escape) !== from)
      throw new ApiError(
        'BadRequest',
        'variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround',
      );
    const edge = await copyVertex(
      {
        base: this.#edge,
        from: () => resolveFrom(from, instruction),
        workingDir: this.#config.WorkingDir ?? '',
        scope: this.#scope,
        vertex: this.#about(instruction),
        isStrict: settings.isClassic,
        hasGitAdvice: settings.hasGitAdvice === true,
        createdAtMs: settings.createdAtMs,
      },
      instruction,
    );
    this.#commit(`${describeCopy(instruction, this.#scope)} # buildkit`, this.#config, edge);
  }

  #workdir(instruction: Instruction): void {
    const path = expandWord(instruction.rest, this.#scope.variables, this.#scope.escape);
    const workingDir = resolveWorkingDir(this.#config.WorkingDir, path);
    const input = this.#edge === undefined ? {} : { input: 0 };
    // What is missing is the user's; the classic builder makes it for root.
    const user = this.#parts.settings.isClassic || this.#config.User === '' ? undefined : this.#config.User;
    const owner = parseOwner(user);
    const { createdAtMs } = this.#parts.settings;
    const action: FileAction = {
      kind: 'makeDirectory',
      path: workingDir,
      mode: 0o755,
      makesParents: true,
      output: 0,
      ...input,
      ...(owner === undefined ? {} : { owner }),
      ...(createdAtMs === undefined ? {} : { timestampNs: createdAtMs * 1e6 }),
    };
    const vertex = makeVertex(
      { kind: 'file', actions: [action] },
      this.#edge === undefined ? [] : [this.#edge],
      this.#about(instruction),
    );
    this.#commit(`WORKDIR ${workingDir}`, { ...this.#config, WorkingDir: workingDir }, { vertex, output: 0 });
  }

  /**
   * Labels of the request, which clients send in any order. The classic builder has them as a last step; BuildKit puts
   * them into the configuration alone.
   */
  label(labels: Readonly<Record<string, string>>): void {
    const sorted = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
    const config = { ...this.#config, Labels: { ...this.#config.Labels, ...Object.fromEntries(sorted) } };
    if (!this.#parts.settings.isClassic) {
      this.#file = { ...this.#file, config };
      return;
    }
    const text = `LABEL ${sorted.map(([name, value]) => `${name}=${value}`).join(' ')}`;
    this.#commit(text, config, undefined);
    this.steps.push({ keyword: 'LABEL', text, isTrigger: false, edge: this.#edge, file: this.#file });
  }
}
