/**
 * A build that a BuildKit client asked for. Front ends give references: edges of the graph, carried out when somebody
 * wants to see what they stand for. The one that the client returns is the build's result and is exported.
 */
import { ApiError } from '#base/errors.ts';
import { parseReference } from '#base/reference.ts';
import type { JsonObject } from '#base/unknown.ts';
import type { Hold } from '#content/content.ts';
import type { ImageRecord } from '#content/image-records.ts';
import type { RegistryCredential } from '#engine/engine.ts';
import { splitNetwork } from '../build.ts';
import type { Builder } from '../builder.ts';
import type { BuildContext } from '../context.ts';
import type { CommandRequest } from '../llb/exec.ts';
import type { RepositoryMetadata } from '../llb/git.ts';
import { layersOf } from '../llb/output.ts';
import type { StepLayer, VertexOutput } from '../llb/output.ts';
import { Solver } from '../llb/solver.ts';
import type { SecretSource } from '../llb/secrets.ts';
import { openView } from '../llb/view.ts';
import type { ExecSettings } from '../llb/work.ts';
import { Sources } from '../llb/sources.ts';
import type { Edge, ExecOp, SourceOp, Vertex } from '../llb/vertex.ts';
import { GrpcError, code } from '#grpc/errors.ts';
import { resultsMax } from './limits.ts';
import { textIn } from '#grpc/fields.ts';
import type { Message } from '#grpc/fields.ts';
import type { Line, Progress } from './progress.ts';
import { readUpload } from './file-sync.ts';
import { receiveLocal } from './local-source.ts';
import { sessionSecrets } from './session-secrets.ts';
import { receiveSharedImage } from './shared-image.ts';
import { JobCache } from './travelling-cache.ts';
import type { CacheEntry } from './travelling-cache.ts';
import type { Result } from './result.ts';
import type { Session, Sessions } from './session.ts';
import type { SourcePolicy } from './source-policy.ts';

export interface JobParts {
  builder: Builder;
  sessions: Sessions;
  worker: Message;
}

/** What `Control/Solve` says of the build as a whole. */
export interface JobRequest {
  ref: string;
  sessionId: string;
  /** Definitions that the client gives to its front end, by name. */
  inputs: Message;
  policy: SourcePolicy | undefined;
  cacheExports: readonly CacheEntry[];
  cacheImports: readonly CacheEntry[];
}

/** How a front end gives its result. */
export interface Returned {
  resolve(result: Result | undefined): void;
  reject(error: unknown): void;
}

export class Job {
  readonly request: JobRequest;
  readonly progress: Progress;
  readonly #parts: JobParts;
  readonly #references: (Edge | undefined)[] = [];
  readonly #contexts: BuildContext[] = [];
  /** By the digest of the result's vertex. */
  readonly #scanned = new Map<string, ReadonlyMap<string, Edge | undefined>>();
  readonly #over = new AbortController();
  readonly #returned = Promise.withResolvers<Result | undefined>();
  readonly #hold: Hold;
  readonly #sources: Sources;
  readonly startedAtMs: number;
  /** The front end that made the result, and what it was asked. */
  frontend: { name: string; options: Readonly<Record<string, string>> } | undefined;
  /** Directories of the client that the build or its front end took. */
  readonly locals = new Set<string>();
  /** Of other builders. */
  readonly cache: JobCache;
  /** Images are looked for at their registry although they are here. */
  pull = false;
  /** What the front end's attributes say of all commands. */
  exec: Omit<ExecSettings, 'hiddenEnv' | 'hiddenMounts'> = { network: 'default' };

  constructor(parts: JobParts, request: JobRequest, progress: Progress) {
    this.#parts = parts;
    this.request = request;
    this.progress = progress;
    this.startedAtMs = parts.builder.parts.clock.now();
    this.cache = new JobCache(this, request.cacheExports, request.cacheImports);
    this.#hold = parts.builder.parts.content.hold();
    this.#sources = new Sources({
      ...parts.builder.parts,
      hold: this.#hold,
      pullImage: (reference, options) =>
        parts.builder.parts.pullImage(reference, { ...options, always: options.always || this.pull }),
      pull: false,
      credential: (domain) => this.credential(domain),
      local: (name, op, output, signal) => this.#local(name, op, output, signal),
      upload: (id, signal) => this.#upload(id, signal),
      layout: (vertex, op, signal) => this.#layout(vertex, op, signal),
      policy: request.policy,
      begin: (vertex) => progress.beginVertex(vertex),
      signal: this.signal,
    });
    // It may fail before somebody waits for it.
    this.#returned.promise.catch(() => undefined);
  }

  get builder(): Builder {
    return this.#parts.builder;
  }

  get sources(): Sources {
    return this.#sources;
  }

  get hold(): Hold {
    return this.#hold;
  }

  /** What carries the build out, as the protocol describes it. */
  get worker(): Message {
    return this.#parts.worker;
  }

  /** Aborted when the client that asked for the build is gone. */
  get signal(): AbortSignal {
    return this.#over.signal;
  }

  /** What the client's own part of the front end gave back. */
  get returned(): Promise<Result | undefined> {
    return this.#returned.promise;
  }

  /** The place of a reference under which the client names it; '' for one to nothing. */
  keep(edge: Edge | undefined): string {
    if (edge === undefined) return '';
    if (this.#references.length >= resultsMax) throw new ApiError('TooManyRequests', 'a build has too many results');
    return String(this.#references.push(edge) - 1);
  }

  /** What a scanner is to see beside a result, by name. */
  noteScanned(edge: Edge | undefined, scanned: ReadonlyMap<string, Edge | undefined>): void {
    if (scanned.size > 0) this.#scanned.set(edge?.vertex.digest ?? '', scanned);
  }

  scannedBeside(edge: Edge | undefined): ReadonlyMap<string, Edge | undefined> {
    return this.#scanned.get(edge?.vertex.digest ?? '') ?? new Map<string, Edge | undefined>();
  }

  /** Throws NotFound. */
  reference(id: string): Edge | undefined {
    if (id === '') return undefined;
    const found = this.#references[Number(id)];
    if (found === undefined) throw new ApiError('NotFound', `no such reference: ${id.slice(0, 100)}`);
    return found;
  }

  /** undefined: its client wants nothing of it. */
  return(result: Result | undefined): void {
    this.#returned.resolve(result);
  }

  fail(error: unknown): void {
    this.#returned.reject(error);
  }

  async close(): Promise<void> {
    const gone = new GrpcError(code.canceled, 'context canceled');
    this.#over.abort(gone);
    this.#returned.reject(gone);
    this.progress.close();
    this.#hold[Symbol.dispose]();
    for (const context of this.#contexts.splice(0)) await context[Symbol.asyncDispose]();
  }

  get #secrets(): SecretSource {
    return sessionSecrets((signal) => this.session(signal));
  }

  get #solver(): Solver {
    const { builder } = this.#parts;
    const { network, shmSizeBytes, resources, cgroupParent } = this.exec;
    return new Solver(builder.parts, {
      sources: this.#sources,
      secrets: this.#secrets,
      exec: {
        network: splitNetwork(network).sandbox,
        ...(shmSizeBytes === undefined ? {} : { shmSizeBytes }),
        ...(resources === undefined ? {} : { resources }),
        ...(cgroupParent === undefined ? {} : { cgroupParent }),
        ...builder.hidden,
      },
      hold: this.#hold,
      begin: (vertex: Vertex): VertexOutput => this.progress.beginVertex(vertex),
      travelling: this.cache,
      signal: this.signal,
    });
  }

  /** Carries out what the edge stands on. */
  async steps(edge: Edge | undefined): Promise<readonly StepLayer[]> {
    const [steps = []] = await this.stepsOfAll([edge]);
    return steps;
  }

  /** Side by side, and once what several stand on. */
  stepsOfAll(edges: readonly (Edge | undefined)[]): Promise<(readonly StepLayer[])[]> {
    return this.#parts.builder.admit(() => {
      const solver = this.#solver;
      return Promise.all(edges.map((edge) => solver.solveSteps(edge)));
    });
  }

  /** What the remote says of a repository. */
  repository(op: SourceOp, returnsObjects: boolean): Promise<RepositoryMetadata> {
    return this.#sources.repository(op, this.#secrets, returnsObjects);
  }

  /** Runs a program of the build's own, a front end; what it says of errors is shown. */
  command(op: ExecOp, edge: Edge, request: Omit<CommandRequest, 'output'>): Promise<void> {
    return this.shown(`[internal] front end ${op.args.join(' ').slice(0, 100)}`, (output) =>
      this.#solver.command(op, edge, { output, ...request }),
    );
  }

  /** Looks into the files that the edge stands for, which it carries out. */
  async look<T>(edge: Edge | undefined, read: (root: string) => Promise<T>): Promise<T> {
    const { builder } = this.#parts;
    const output = await builder.admit(() => this.#solver.solve(edge));
    if (output.kind === 'tree') return read(await output.tree.directory());
    return this.withRoot(output.steps, read);
  }

  async withRoot<T>(steps: readonly StepLayer[], read: (root: string) => Promise<T>): Promise<T> {
    const { root, release } = await openView(this.#parts.builder.parts, layersOf(steps));
    try {
      return await read(root);
    } finally {
      await release();
    }
  }

  /** Pushes a name of this engine's store, as who the client is to its registry. */
  async push(name: string, onEvent: (event: JsonObject) => void): Promise<void> {
    const credential = await this.credential(parseReference(name).domain);
    await this.#parts.builder.parts.pushImage(name, { credential, onEvent, signal: this.signal });
  }

  session(signal: AbortSignal, id = this.request.sessionId): Promise<Session> {
    return this.#parts.sessions.get(id, signal);
  }

  /** Shows work that is no vertex. */
  async shown<T>(name: string, work: (line: Line) => Promise<T>): Promise<T> {
    const line = this.progress.begin(name);
    try {
      const result = await work(line);
      line.end();
      return result;
    } catch (error) {
      line.end(error);
      throw error;
    }
  }

  /** A directory that is disposed of with the build. */
  adopt(context: BuildContext): BuildContext {
    this.#contexts.push(context);
    return context;
  }

  async #local(name: string, op: SourceOp, output: VertexOutput, signal: AbortSignal): Promise<BuildContext> {
    const { builder } = this.#parts;
    this.locals.add(name);
    const session = await this.session(signal, op.attributes['local.session'] ?? this.request.sessionId);
    return this.adopt(await receiveLocal({ builder, session, name, attributes: op.attributes, output, signal }));
  }

  async *#upload(id: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    yield* readUpload(await this.session(signal), id, signal);
  }

  async #layout(vertex: Vertex, op: SourceOp, signal: AbortSignal): Promise<ImageRecord> {
    const { 'oci.session': id = '', 'oci.store': name = '' } = op.attributes;
    const digest = /@(sha256:[0-9a-f]{64})$/.exec(op.identifier)?.[1];
    if (digest === undefined) throw new ApiError('BadRequest', `${op.identifier.slice(0, 200)} has no digest`);
    const session = await this.session(signal, id === '' ? this.request.sessionId : id);
    const { content } = this.builder.parts;
    const store = { session, name: `oci:${name}`, content };
    return receiveSharedImage({ store, digest, platform: vertex.platform, hold: this.#hold, signal });
  }

  /** Who the client is to a registry. */
  async credential(domain: string): Promise<RegistryCredential | undefined> {
    const session = await this.session(this.signal);
    const path = '/moby.filesync.v1.Auth/Credentials';
    if (!session.serves(path)) return undefined;
    const host = domain === 'docker.io' ? 'registry-1.docker.io' : domain;
    const answer = await session.client.call(path, { Host: host }, this.signal);
    const [username, secret] = [textIn(answer, 'Username'), textIn(answer, 'Secret')];
    if (secret === '') return undefined;
    return username === '' ? { identityToken: secret } : { username, password: secret };
  }
}
