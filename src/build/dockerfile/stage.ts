/**
 * One stage of a Dockerfile, executed instruction by instruction: variables are expanded, configuration changes
 * applied, and exec and file operations handed to the graph. After each instruction there is an image (a build step)
 * whose id a repeated build gives again.
 */
import { ApiError } from '#base/errors.ts';
import type { ImageLayer, ImageRecord } from '#content/image-records.ts';
import type { HistoryEntry, ImageFile, RunConfig } from '#content/image-file.ts';
import { writeImage } from '#content/image-writer.ts';
import type { HttpTransport } from '#content/remote.ts';
import { stepKey } from '../cache-keys.ts';
import type { BuildContext } from '../context.ts';
import { ExitError, solve } from '../graph.ts';
import type { GraphContext } from '../graph.ts';
import type { Operation } from '../operations.ts';
import { quotedWordMax } from '../limits.ts';
import type { StageOutput } from '../output.ts';
import type { RunRequest } from '../runner.ts';
import { applyConfig, resolveWorkingDir, splitWords, toCommand } from './config.ts';
import { copyOperation } from './copy.ts';
import { parseError } from './lexer.ts';
import { parseTrigger } from './parser.ts';
import type { Instruction } from './parser.ts';
import { getEnv, predefinedArgs } from './variables.ts';
import { expandWord } from './words.ts';

export interface BuildSettings {
  buildArgs: Record<string, string | null>;
  labels: Record<string, string>;
  noCache: boolean;
  pull: boolean;
  /**
   * Containers of failed steps are removed too, and successful ones: what `rm` and `forcerm` say is not needed, nothing
   * stays.
   */
  run: Pick<RunRequest, 'network' | 'extraHosts' | 'shmSizeBytes' | 'resources' | 'cgroupParent'>;
  /** Environment given to RUN but not to the image: proxies of the host, certificate paths. */
  hiddenEnv: string[];
  hiddenMounts: RunRequest['mounts'];
  signal: AbortSignal;
}

export interface StageParts {
  graph: GraphContext;
  transport: HttpTransport;
  context: BuildContext | undefined;
  settings: BuildSettings;
  escape: string;
  globalArgs: Record<string, string>;
  platformArgs: Record<string, string>;
  usedArgs: Set<string>;
  output: StageOutput;
  /** Layers of the stage or image with this name. */
  resolveFrom: (name: string) => Promise<ImageLayer[]>;
  /** Counts the bytes of a step's configuration; throws when the build has made too many. */
  countConfig: (bytes: number) => void;
}

export interface StageResult {
  imageId: string;
  layers: ImageLayer[];
  file: ImageFile;
  parent: string | undefined;
}

export class BuildStepError extends Error {
  readonly exitCode: number;
  /** As one line. */
  readonly command: string;
  constructor(command: string, exitCode: number) {
    super(`The command '${command}' returned a non-zero code: ${exitCode}`);
    this.name = 'BuildStepError';
    this.exitCode = exitCode;
    this.command = command;
  }
}

export class StageBuilder {
  readonly #parts: StageParts;
  #file: ImageFile;
  #layers: ImageLayer[];
  #imageId: string;
  #parent: string | undefined;
  /** ARGs declared in this stage. */
  readonly #args: Record<string, string> = {};
  #hasCommand = false;
  /** Errors of what a step did, not of how it is written. */
  readonly #carriedOut = new WeakSet<object>();
  /** Keeps the step's image from removal until the next one, or the finished build, stands for it. */
  #pin: Disposable | undefined;

  constructor(parts: StageParts, base: ImageRecord | StageResult | undefined) {
    this.#parts = parts;
    const { TARGETARCH: architecture = '', TARGETOS: os = 'linux', TARGETVARIANT: variant = '' } = parts.platformArgs;
    this.#file =
      base === undefined
        ? {
            architecture,
            os,
            ...(variant === '' ? {} : { variant }),
            config: {},
            rootfs: { type: 'layers', diff_ids: [] },
            history: [],
          }
        : structuredClone(base.file);
    delete this.#file.container_config;
    this.#layers = [...(base?.layers ?? [])];
    this.#imageId = base === undefined ? '' : 'imageId' in base ? base.imageId : base.id;
    this.#config = { ...this.#file.config };
    if (base === undefined)
      this.#config = { Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'] };
  }

  get #config(): RunConfig {
    return this.#file.config ?? {};
  }
  set #config(config: RunConfig) {
    this.#file = { ...this.#file, config };
  }
  get #scope(): { variables: (name: string) => string | undefined; escape: string } {
    return {
      escape: this.#parts.escape,
      variables: (name) => getEnv(this.#config.Env ?? [], name) ?? this.#args[name],
    };
  }

  release(): void {
    this.#pin?.[Symbol.dispose]();
    this.#pin = undefined;
  }

  get result(): StageResult {
    return { imageId: this.#imageId, layers: this.#layers, file: this.#file, parent: this.#parent };
  }

  /** Triggers that the base image left for its children. */
  takeTriggers(): Instruction[] {
    const triggers = this.#config.OnBuild ?? [];
    this.#config = { ...this.#config, OnBuild: null };
    return triggers.map(parseTrigger);
  }

  async step(instruction: Instruction): Promise<void> {
    this.#parts.settings.signal.throwIfAborted();
    try {
      await this.#step(instruction);
    } catch (error) {
      if (
        error instanceof ApiError &&
        error.reason === 'BadRequest' &&
        !this.#carriedOut.has(error) &&
        !error.message.startsWith('dockerfile parse error') &&
        !/^(COPY|ADD) failed/.test(error.message)
      ) {
        throw new ApiError('BadRequest', `dockerfile parse error on line ${instruction.line}: ${error.message}`);
      }
      throw error;
    }
    this.#parts.output.end(this.#imageId);
  }

  #step(instruction: Instruction): Promise<void> {
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

  async #configure(instruction: Instruction): Promise<void> {
    const config = applyConfig(this.#config, instruction, this.#scope)!;
    // An entrypoint set here drops a command that came with the base image.
    if (instruction.keyword === 'CMD') this.#hasCommand = true;
    if (instruction.keyword === 'ENTRYPOINT' && !this.#hasCommand) config.Cmd = null;
    const author = instruction.keyword === 'MAINTAINER' ? { author: instruction.rest } : {};
    this.#file = { ...this.#file, ...author };
    await this.#commit(describe(instruction, config), config, undefined);
  }

  async #arg(instruction: Instruction): Promise<void> {
    const { settings, globalArgs, platformArgs, usedArgs, escape } = this.#parts;
    for (const word of splitWords(instruction.rest, escape)) {
      const equals = word.indexOf('=');
      const name = expandWord(equals < 0 ? word : word.slice(0, equals), this.#scope.variables, escape);
      if (!/^[a-zA-Z_][a-zA-Z0-9_]*$/.test(name))
        throw parseError(
          instruction.line,
          `ARG names can not be blank or contain other than letters, digits and underscores: "${name}"`,
        );
      const standard = equals < 0 ? undefined : expandWord(word.slice(equals + 1), this.#scope.variables, escape);
      usedArgs.add(name);
      const given = settings.buildArgs[name] ?? undefined;
      const value = given ?? standard ?? globalArgs[name] ?? platformArgs[name];
      if (value !== undefined) this.#args[name] = value;
    }
    await this.#commit(`ARG ${instruction.rest}`, this.#config, undefined);
  }

  /** ARGs in force, for RUN: environment wins, proxies are hidden. */
  #runEnv(): { env: string[]; argsText: string; hidden: string[] } {
    const { settings } = this.#parts;
    const env = this.#config.Env ?? [];
    const declared = Object.entries(this.#args)
      .filter(([name]) => getEnv(env, name) === undefined && !predefinedArgs.includes(name))
      .sort(([a], [b]) => (a < b ? -1 : 1));
    const proxies = predefinedArgs.flatMap((name) => {
      const value = settings.buildArgs[name];
      if (value !== undefined && value !== null) this.#parts.usedArgs.add(name);
      return value === undefined || value === null || getEnv(env, name) !== undefined ? [] : [`${name}=${value}`];
    });
    const hidden = [
      ...settings.hiddenEnv.filter((each) => {
        const name = each.slice(0, each.indexOf('='));
        return getEnv(env, name) === undefined && !proxies.some((proxy) => proxy.startsWith(`${name}=`));
      }),
      ...proxies,
    ];
    return {
      env: [...env, ...declared.map(([name, value]) => `${name}=${value}`)],
      argsText:
        declared.length === 0
          ? ''
          : `|${declared.length} ${declared.map(([name, value]) => `${name}=${value}`).join(' ')} `,
      hidden,
    };
  }

  #command(instruction: Instruction): string[] {
    const shell = this.#config.Shell ?? ['/bin/sh', '-c'];
    const { heredocs, rest } = instruction;
    if (heredocs.length === 0) {
      const command = toCommand(instruction, shell);
      if (command.length === 0) throw parseError(instruction.line, 'RUN requires at least one argument');
      return command;
    }
    const first = heredocs[0]!;
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

  async #run(instruction: Instruction): Promise<void> {
    const { settings } = this.#parts;
    const command = this.#command(instruction);
    const { env, argsText, hidden } = this.#runEnv();
    const network = instruction.flags['network']?.[0] ?? settings.run.network;
    if (instruction.flags['network'] !== undefined && !['default', 'none', 'host'].includes(network))
      throw parseError(instruction.line, `unsupported network mode ${JSON.stringify(network.slice(0, quotedWordMax))}`);
    if (![undefined, 'sandbox'].includes(instruction.flags['security']?.[0]))
      throw new ApiError(
        'BadRequest',
        'the --security option with insecure mode requires BuildKit and an entitlement: steps run in a sandbox here',
      );
    if (instruction.flags['device'] !== undefined)
      throw new ApiError('BadRequest', 'the --device option requires BuildKit and an entitlement');
    const mounts = await this.#mounts(instruction);
    const config = this.#config;
    const op: Operation = {
      kind: 'exec',
      hiddenEnv: hidden,
      hiddenMounts: settings.hiddenMounts,
      request: {
        ...settings.run,
        command,
        env,
        user: config.User ?? '',
        workingDir: config.WorkingDir === undefined || config.WorkingDir === '' ? '/' : config.WorkingDir,
        network,
        mounts,
      },
    };
    const about = `RUN ${argsText}${command.join(' ')}`;
    try {
      await this.#commit(about, config, op);
    } catch (error) {
      if (!(error instanceof ExitError)) throw error;
      const shown = command.join(' ');
      throw new BuildStepError(shown, error.exitCode);
    }
  }

  /** `--mount=type=tmpfs`; caches and secrets are named as not there rather than ignored. */
  async #mounts(instruction: Instruction): Promise<RunRequest['mounts']> {
    const out: RunRequest['mounts'] = [];
    for (const text of instruction.flags['mount'] ?? []) {
      const options = Object.fromEntries(
        text.split(',').map((part) => {
          const equals = part.indexOf('=');
          return equals < 0 ? [part, 'true'] : [part.slice(0, equals), part.slice(equals + 1)];
        }),
      );
      const target = options['target'] ?? options['dst'] ?? options['destination'];
      const type = options['type'] ?? 'bind';
      if (target === undefined) throw parseError(instruction.line, 'invalid mount: target is required');
      // A cache that is empty each time gives the same result, only slower.
      if (type === 'tmpfs' || type === 'cache')
        out.push({
          type: 'tmpfs',
          source: '',
          target: expandWord(target, this.#scope.variables, this.#scope.escape),
          readOnly: false,
        });
      else
        throw new ApiError(
          'BadRequest',
          `the --mount option with type=${type} requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to learn how to build images with BuildKit enabled`,
        );
    }
    return out;
  }

  async #copy(instruction: Instruction): Promise<void> {
    const { graph, transport, context, settings, resolveFrom } = this.#parts;
    const from = instruction.flags['from']?.[0];
    if (instruction.flags['keep-git-dir'] !== undefined)
      throw new ApiError(
        'BadRequest',
        'the --keep-git-dir option requires BuildKit: git repositories are not fetched here',
      );
    const op = await copyOperation(
      {
        graph,
        transport,
        context,
        from:
          from === undefined
            ? undefined
            : await resolveFrom(expandWord(from, this.#scope.variables, this.#scope.escape)),
        layers: this.#layers,
        workingDir: this.#config.WorkingDir ?? '',
        scope: this.#scope,
        createdAtMs: graph.clock.now(),
        signal: settings.signal,
      },
      instruction,
    );
    await this.#commit(`${instruction.keyword} ${instruction.rest.split('\n')[0]}`.toWellFormed(), this.#config, op);
  }

  async #workdir(instruction: Instruction): Promise<void> {
    const path = expandWord(instruction.rest, this.#scope.variables, this.#scope.escape);
    const workingDir = resolveWorkingDir(this.#config.WorkingDir, path);
    const op: Operation = {
      kind: 'file',
      isLinked: false,
      key: { makeDirectory: workingDir },
      prepare: async () => ({ actions: [{ kind: 'makeDirectory', target: workingDir }], release: async () => {} }),
    };
    await this.#commit(`WORKDIR ${workingDir}`, { ...this.#config, WorkingDir: workingDir }, op);
  }

  /** Labels of the request, as a last step. */
  async label(labels: Record<string, string>): Promise<void> {
    await this.#commit(
      `LABEL ${Object.entries(labels)
        .map(([name, value]) => `${name}=${value}`)
        .join(' ')}`,
      { ...this.#config, Labels: { ...this.#config.Labels, ...labels } },
      undefined,
    );
    this.#parts.output.end(this.#imageId);
  }

  /** Makes the step's image, or finds it in the cache. */
  async #commit(createdBy: string, config: RunConfig, op: Operation | undefined): Promise<void> {
    const { graph, settings, output } = this.#parts;
    // What starts from nothing starts from a platform.
    const { os, architecture, variant = '' } = this.#file;
    const parent = this.#imageId === '' ? [os, architecture, variant] : this.#imageId;
    const key = stepKey(parent, createdBy, config, op);
    const known = settings.noCache ? undefined : graph.cache.step(key);
    if (known !== undefined) {
      const record = graph.images.get(known)!;
      output.cached();
      this.#take(record);
      return;
    }
    using hold = graph.content.hold();
    for (const layer of this.#layers) {
      hold.addBlob(layer.digest);
      hold.addLayer(layer.diffId);
    }
    let layer: ImageLayer | null = null;
    if (op !== undefined) {
      const solved = await solve(graph, this.#layers, op, {
        noCache: settings.noCache,
        signal: settings.signal,
        about: createdBy,
        onOutput: (bytes) => output.log(bytes),
        onStart: (id) => output.started(id),
        onEnd: (id) => output.ended(id),
      }).catch((error: unknown) => {
        if (op.kind === 'exec' && error instanceof Error) this.#carriedOut.add(error);
        throw error;
      });
      ({ layer } = solved);
      if (solved.isCached) output.cached();
      if (layer !== null) {
        hold.addBlob(layer.digest);
        hold.addLayer(layer.diffId);
        await graph.content.layers.ensure(layer.diffId, layer.digest);
      }
    }
    await this.#write(createdBy, config, layer, key);
  }

  async #write(createdBy: string, config: RunConfig, layer: ImageLayer | null, key: string): Promise<void> {
    const { graph } = this.#parts;
    const createdAtMs = graph.clock.now();
    const created = new Date(createdAtMs).toISOString();
    const layers = layer === null ? this.#layers : [...this.#layers, layer];
    const entry: HistoryEntry = { created, created_by: createdBy, ...(layer === null ? { empty_layer: true } : {}) };
    const file: ImageFile = {
      ...this.#file,
      created,
      config,
      rootfs: { type: 'layers', diff_ids: layers.map((each) => each.diffId) },
      history: [...(this.#file.history ?? []), entry],
    };
    const record = await writeImage(graph.content, graph.images, {
      file,
      layers,
      createdAtMs,
      isIntermediate: true,
      ...(this.#imageId === '' ? {} : { parent: this.#imageId }),
    });
    this.#parts.countConfig(graph.content.blobs.size(record.id) ?? 0);
    await graph.images.commit([graph.cache.putStep(key, record.id, createdBy)]);
    this.#take(record);
  }

  #take(record: ImageRecord): void {
    const pin = this.#parts.graph.images.pin(record.id);
    this.release();
    this.#pin = pin;
    this.#parent = record.parent;
    this.#imageId = record.id;
    this.#layers = record.layers;
    this.#file = record.file;
  }
}

/** The text that `docker history` shows. */
function describe(instruction: Instruction, config: RunConfig): string {
  const { keyword } = instruction;
  if (keyword === 'CMD') return `CMD ${JSON.stringify(config.Cmd ?? [])}`;
  if (keyword === 'ENTRYPOINT') return `ENTRYPOINT ${JSON.stringify(config.Entrypoint ?? [])}`;
  return `${keyword} ${instruction.rest}`;
}
