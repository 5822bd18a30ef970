/**
 * Commands. The mount at `/` is the root of a container of owner `build`; others are bound below it: views of other
 * outputs, caches, a client's directory, secrets and agents. What the command wrote becomes layers, without the empty
 * files and directories that were made only to mount over them.
 */
import { chmodSync, chownSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { ApiError } from '#base/errors.ts';
import type { Content } from '#content/content.ts';
import type { StagedCopy } from '#content/copy.ts';
import type { ImageLayer } from '#content/image-records.ts';
import { toImageLayer, writeImage } from '#content/image-writer.ts';
import { findMountPoints } from '#content/mount-points.ts';
import { RootedDirectory, pathParts } from '#content/safe-path.ts';
import { execKey, layersKey } from '../cache-keys.ts';
import type { RunRequest } from '../runner.ts';
import { listenForAgent } from './secrets.ts';
import { layersOf } from './output.ts';
import { newContainerId, openView } from './view.ts';
import type { Output, StepLayer, VertexOutput } from './output.ts';
import type { SolverContext, Work } from './work.ts';
import type { ExecMount, ExecOp, ProxyEnv, Vertex } from './vertex.ts';

/** A command that ended otherwise than it should. */
export class ExitError extends ApiError {
  readonly exitCode: number;
  readonly command: string;
  constructor(command: readonly string[], exitCode: number) {
    const text = command.join(' ');
    super('BadRequest', `process ${JSON.stringify(text)} did not complete successfully: exit code: ${exitCode}`);
    this.name = 'ExitError';
    this.command = text;
    this.exitCode = exitCode;
  }
}

/** Where secrets are while a command runs: in memory, below the data directory. */
export function secretsDirectory(content: Content): string {
  return join(content.root, 'build-secrets');
}

function stepsOf(
  context: SolverContext,
  input: number | undefined,
  inputs: readonly Output[],
): Promise<readonly StepLayer[]> {
  const found = input === undefined ? undefined : inputs[input];
  if (found === undefined) return Promise.resolve([]);
  return context.toSteps(found);
}

/** What of a mount's files decides the result. */
function mountKey(mount: ExecMount, inputs: readonly Output[]): object {
  const input = mount.input === undefined ? undefined : inputs[mount.input];
  const { kind, selector, target, output, isReadOnly, id, isOptional } = mount;
  const about = { kind, selector, target, output, isReadOnly, id, isOptional };
  if (input === undefined) return about;
  if (input.kind === 'tree') return { ...about, tree: input.tree.digest([selector.replace(/^\/+/, '')]) };
  return { ...about, layers: layersKey(layersOf(input.steps)) };
}

/** Its files are shown, at a path, and what becomes of them is nobody's. */
function showsPath({ output, selector }: ExecMount, input: Output | undefined): boolean {
  return output === undefined && input?.kind === 'layers' && pathParts(selector).length > 0;
}

/** As `mountKey`, by the files at the mount's path in place of the layers that they lie in. */
async function mountContentKey(context: SolverContext, mount: ExecMount, inputs: readonly Output[]): Promise<object> {
  const input = mount.input === undefined ? undefined : inputs[mount.input];
  if (input?.kind !== 'layers' || !showsPath(mount, input)) return mountKey(mount, inputs);
  const { root, release } = await openView(context, layersOf(input.steps));
  try {
    const path = pathParts(mount.selector).join('/');
    const files = await context.content.layers.digestFiles(root, [path], [], context.signal);
    return { ...mountKey(mount, []), files };
  } finally {
    await release();
  }
}

/** Refused before anything runs. */
function checkExec(op: ExecOp): void {
  if (op.isInsecure) throw new ApiError('BadRequest', 'security.insecure is not allowed');
  if (op.devices.length > 0)
    throw new ApiError('BadRequest', `devices are not given to build steps: ${op.devices.join(', ').slice(0, 200)}`);
  if (op.args.length === 0) throw new ApiError('BadRequest', 'a command has no arguments');
  for (const mount of op.mounts)
    if (!posix.isAbsolute(mount.target))
      throw new ApiError('BadRequest', `mount target ${mount.target.slice(0, 200)} is not absolute`);
}

export async function execWork(context: SolverContext, vertex: Vertex, op: ExecOp, inputs: Output[]): Promise<Work> {
  checkExec(op);
  const outputs = op.mounts.filter((mount) => mount.output !== undefined);
  const count = Math.max(0, ...outputs.map((mount) => (mount.output ?? 0) + 1));
  const below: (readonly StepLayer[])[] = [];
  for (let index = 0; index < count; index++)
    below.push(await stepsOf(context, outputs.find((mount) => mount.output === index)?.input, inputs));
  const keyOf = (mounts: object[]): string => execKey(op, context.build.exec.network, mounts);
  const contentKey = async (): Promise<string | undefined> => {
    const keys: object[] = [];
    try {
      for (const mount of op.mounts) keys.push(await mountContentKey(context, mount, inputs));
    } catch {
      // What is missing is told by the command itself.
      context.signal.throwIfAborted();
      return undefined;
    }
    return keyOf(keys);
  };
  const showsPaths = op.mounts.some((mount) => showsPath(mount, inputs[mount.input ?? -1]));
  return {
    key: keyOf(op.mounts.map((mount) => mountKey(mount, inputs))),
    ...(showsPaths ? { contentKey } : {}),
    about: vertex.name,
    outputs: count,
    below,
    run: (output) => new Exec(context, op, inputs, { output, beginsAnew: vertex.ignoresCache }).run(count),
  };
}

const proxyVariables: readonly (keyof ProxyEnv)[] = ['http_proxy', 'https_proxy', 'ftp_proxy', 'no_proxy', 'all_proxy'];

/** Variables that the command sees and that are in no key, unless its own environment says otherwise. */
function hiddenEnv(op: ExecOp, given: readonly string[]): string[] {
  const nameOf = (each: string): string => each.slice(0, each.indexOf('='));
  const proxies = proxyVariables.flatMap((name) => {
    const value = op.proxyEnv[name];
    return value === undefined ? [] : [`${name.toUpperCase()}=${value}`, `${name}=${value}`];
  });
  const taken = new Set(op.env.map(nameOf));
  const free = proxies.filter((each) => !taken.has(nameOf(each)));
  for (const each of free) taken.add(nameOf(each));
  return [...free, ...given.filter((each) => !taken.has(nameOf(each)))];
}

/** With whom a command talks, and until when. */
export interface CommandRequest {
  output: VertexOutput;
  io: NonNullable<RunRequest['io']>;
  signal: AbortSignal;
}

/** Runs a command for what it says, not for what it writes. */
export async function runCommand(
  context: SolverContext,
  op: ExecOp,
  root: Output,
  { signal, ...tell }: CommandRequest,
): Promise<void> {
  checkExec(op);
  const isOver = AbortSignal.any([context.signal, signal]);
  await new Exec({ ...context, signal: isOver }, op, [root], tell).run(0);
}

/** One run of a command: what was mounted for it is taken away again, however it ends. */
class Exec {
  readonly #context: SolverContext;
  readonly #op: ExecOp;
  readonly #inputs: readonly Output[];
  readonly #output: VertexOutput;
  readonly #io: RunRequest['io'];
  /** Nothing that was known before counts. */
  readonly #beginsAnew: boolean;
  readonly #undo: (() => Promise<void>)[] = [];
  /** Writable views, by the output that they become. */
  readonly #views = new Map<number, { id: string; layers: ImageLayer[] }>();
  #tmpfs: string | undefined;

  constructor(
    context: SolverContext,
    op: ExecOp,
    inputs: readonly Output[],
    tell: { output: VertexOutput; io?: NonNullable<RunRequest['io']>; beginsAnew?: boolean },
  ) {
    this.#context = context;
    this.#op = op;
    this.#inputs = inputs;
    this.#output = tell.output;
    this.#io = tell.io;
    this.#beginsAnew = tell.beginsAnew === true;
  }

  async run(outputs: number): Promise<(ImageLayer | null)[]> {
    const id = newContainerId(this.#context.random);
    try {
      return await this.#run(id, outputs);
    } finally {
      for (const undo of this.#undo.reverse()) await undo();
    }
  }

  // walk image-build 5/6: RUN is a container of owner `build`; its upper directory becomes a layer, without a blob.
  async #run(id: string, outputs: number): Promise<(ImageLayer | null)[]> {
    const { runner, snapshots, build, signal } = this.#context;
    const op = this.#op;
    const root = op.mounts.find((mount) => posix.normalize(mount.target) === '/');
    const layers = layersOf(await stepsOf(this.#context, root?.input, this.#inputs));
    const image = await this.#rootImage(layers);
    const others = op.mounts.filter((mount) => mount !== root);
    const mounts: RunRequest['mounts'] = [];
    const env: string[] = [];
    for (const [index, mount] of others.entries()) {
      const made = await this.#mount(mount, index);
      if (made === undefined) continue;
      mounts.push(made.mount);
      env.push(...(made.env ?? []));
    }
    const { network, hiddenMounts, hiddenEnv: given, ...bounds } = build.exec;
    this.#output.started(id);
    this.#undo.push(async () => {
      await runner.remove(id);
      await snapshots.removeContainerRoot(id);
      this.#output.ended(id);
    });
    const { exitCode } = await runner.run({
      ...bounds,
      ...(op.ulimits.length === 0 ? {} : { resources: { ...bounds.resources, ulimits: op.ulimits } }),
      ...(op.cgroupParent === '' ? {} : { cgroupParent: op.cgroupParent }),
      command: op.args,
      env: [...op.env, ...env, ...(await this.#secretEnv()), ...hiddenEnv(op, given)],
      user: op.user,
      workingDir: op.cwd === '' ? '/' : op.cwd,
      network: op.network === 'sandbox' ? network : op.network,
      extraHosts: op.extraHosts,
      hostname: op.hostname,
      mounts: [...mounts, ...hiddenMounts],
      id,
      imageId: image,
      onOutput: (bytes) => this.#output.log(bytes),
      ...(this.#io === undefined ? {} : { io: this.#io }),
      signal,
    });
    signal.throwIfAborted();
    const valid = op.validExitCodes.length === 0 ? [0] : op.validExitCodes;
    if (!valid.includes(exitCode)) throw new ExitError(op.args, exitCode);
    if (root?.output !== undefined) this.#views.set(root.output, { id, layers });
    const targets = others.map((mount) => mount.target);
    const made: (ImageLayer | null)[] = [];
    for (let index = 0; index < outputs; index++) {
      const view = this.#views.get(index);
      made.push(view === undefined ? null : await takeLayer(this.#context, view, view.id === id ? targets : []));
    }
    return made;
  }

  /** The image that the container stands on, for as long as it runs. Its configuration says nothing. */
  async #rootImage(layers: ImageLayer[]): Promise<string> {
    const { content, images, clock } = this.#context;
    const image = await writeImage(content, images, {
      file: {
        architecture: process.arch === 'x64' ? 'amd64' : process.arch,
        os: 'linux',
        config: {},
        rootfs: { type: 'layers', diff_ids: layersKey(layers) },
      },
      layers,
      createdAtMs: clock.now(),
      isIntermediate: true,
    });
    const pin = images.pin(image.id);
    this.#undo.push(async () => {
      pin[Symbol.dispose]();
      if (images.get(image.id)?.isIntermediate === true && images.leasesOf(image.id).length === 0)
        await images.commit([{ table: 'images', key: image.id, value: undefined }]);
    });
    // Another build that ran over the same layers may just have removed its own.
    if (images.get(image.id) === undefined) await images.put(image);
    return image.id;
  }

  async #mount(
    mount: ExecMount,
    index: number,
  ): Promise<{ mount: RunRequest['mounts'][number]; env?: string[] } | undefined> {
    const { target, isReadOnly } = mount;
    const bind = (source: string, readOnly: boolean): RunRequest['mounts'][number] => ({
      type: 'bind',
      source,
      target,
      readOnly,
    });
    switch (mount.kind) {
      case 'tmpfs':
        return { mount: { type: 'tmpfs', source: '', target, readOnly: false, ...sizeOf(mount) } };
      case 'secret': {
        const file = await this.#secretFile(mount, index);
        return file === undefined ? undefined : { mount: bind(file, true) };
      }
      case 'ssh': {
        const socket = await this.#agent(mount, index);
        return socket === undefined ? undefined : { mount: bind(socket, false), env: [`SSH_AUTH_SOCK=${target}`] };
      }
      case 'cache':
        return { mount: bind(await this.#cache(mount), isReadOnly) };
      default:
        return { mount: bind(await this.#view(mount), isReadOnly) };
    }
  }

  /** Files of another output below the mount's path. */
  async #view(mount: ExecMount): Promise<string> {
    const input = mount.input === undefined ? undefined : this.#inputs[mount.input];
    if (input?.kind === 'tree' && mount.isReadOnly) return select(await input.tree.directory(), mount.selector);
    const layers = layersOf(await stepsOf(this.#context, mount.input, this.#inputs));
    const { id, root, release } = await openView(this.#context, layers);
    this.#undo.push(release);
    if (mount.output !== undefined) this.#views.set(mount.output, { id, layers });
    return select(root, mount.selector);
  }

  async #cache(mount: ExecMount): Promise<string> {
    const { cacheMounts, signal } = this.#context;
    const input = mount.input === undefined ? undefined : this.#inputs[mount.input];
    const files = input?.kind === 'tree' ? input.tree.digest([mount.selector.replace(/^\/+/, '')]) : undefined;
    const layers = input?.kind === 'layers' ? layersKey(layersOf(input.steps)) : undefined;
    const beginning = { files: files ?? layers, beginsAnew: this.#beginsAnew };
    const cache = await cacheMounts.open(mount, beginning, signal, async () => {
      if (input === undefined) return undefined;
      if (input.kind === 'tree')
        return { root: select(await input.tree.directory(), mount.selector), release: async () => {} };
      const { root, release } = await openView(this.#context, layersOf(input.steps));
      try {
        return { root: select(root, mount.selector), release };
      } catch (error) {
        await release();
        throw error;
      }
    });
    this.#undo.push(cache.close);
    return cache.directory;
  }

  /** A directory that is never on a disk. */
  async #memory(): Promise<string> {
    if (this.#tmpfs !== undefined) return this.#tmpfs;
    const { content, mounts, random } = this.#context;
    const directory = join(secretsDirectory(content), newContainerId(random));
    mkdirSync(directory, { recursive: true, mode: 0o711 });
    await mounts.mountTmpfs(directory, { mode: 0o711 });
    this.#undo.push(async () => {
      await mounts.unmount(directory);
      await rm(directory, { recursive: true, force: true });
    });
    return (this.#tmpfs = directory);
  }

  async #secretFile({ id, isOptional, owner, mode }: ExecMount, index: number): Promise<string | undefined> {
    const value = await this.#secret(id, isOptional);
    if (value === undefined) return undefined;
    const path = join(await this.#memory(), `secret-${index}`);
    writeFileSync(path, value, { mode: 0o600 });
    chownSync(path, owner.uid, owner.gid);
    chmodSync(path, mode === 0 ? 0o400 : mode);
    return path;
  }

  async #secret(id: string, isOptional: boolean): Promise<Uint8Array | undefined> {
    const { build, signal } = this.#context;
    const value = await build.secrets.get(id, signal);
    if (value === undefined && !isOptional) throw new ApiError('NotFound', `secret ${id.slice(0, 200)}: not found`);
    return value;
  }

  /** A socket on which the client's agent answers. */
  async #agent({ id, isOptional, owner, mode }: ExecMount, index: number): Promise<string | undefined> {
    const { build, signal } = this.#context;
    const why = await build.secrets.whyNoAgent(id, signal);
    if (why !== undefined) {
      if (isOptional) return undefined;
      throw new ApiError('BadRequest', why);
    }
    const path = join(await this.#memory(), `agent-${index}`);
    this.#undo.push(await listenForAgent(path, (socket) => build.secrets.forwardAgent(id, socket, signal)));
    chownSync(path, owner.uid, owner.gid);
    chmodSync(path, mode === 0 ? 0o600 : mode);
    return path;
  }

  async #secretEnv(): Promise<string[]> {
    const out: string[] = [];
    for (const { id, name, isOptional } of this.#op.secretEnv) {
      const value = await this.#secret(id, isOptional);
      if (value !== undefined) out.push(`${name}=${Buffer.from(value).toString('utf8')}`);
    }
    return out;
  }
}

function sizeOf({ sizeBytes }: ExecMount): { sizeBytes?: number } {
  return sizeBytes > 0 ? { sizeBytes } : {};
}

/** The path inside the root, whatever symlinks it goes through. Throws BadRequest when it is not there. */
function select(root: string, selector: string): string {
  const parts = pathParts(selector);
  if (parts.length === 0) return root;
  const found = new RootedDirectory(root).resolve(parts);
  if (found === undefined)
    throw new ApiError(
      'BadRequest',
      `failed to compute cache key: ${JSON.stringify(`/${parts.join('/')}`)}: not found`,
    );
  return found;
}

/** What was written in a view as a layer; null when it is nothing. `targets`: what was mounted below it. */
export async function takeLayer(
  { content, snapshots }: SolverContext,
  { id, layers, staged }: { id: string; layers: readonly ImageLayer[]; staged?: StagedCopy[] },
  targets: readonly string[],
): Promise<ImageLayer | null> {
  const upper = await snapshots.detachUpper(id);
  for (const path of findMountPoints(content, upper, layers, targets)) rmSync(join(upper, path), { recursive: true });
  const packed = await content.layers.commitUpper(upper, staged);
  return packed.isEmpty ? null : toImageLayer(packed);
}
