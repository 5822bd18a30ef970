/**
 * A build that a BuildKit client asked for: files come from its session, the builder's stages carry it out, and the
 * client sees vertices. What the front end makes is kept until the client returns it as the build's result.
 */
import { posix } from 'node:path';
import { ApiError } from '#base/errors.ts';
import type { ImageRecord } from '#content/image-records.ts';
import type { RegistryCredential } from '#engine/engine.ts';
import { BuildStepError } from '../dockerfile/stage.ts';
import { parseDockerfile } from '../dockerfile/parser.ts';
import type { Builder } from '../builder.ts';
import type { BuildContext } from '../context.ts';
import { isBuiltInFrontend, parseAttributes } from './attributes.ts';
import type { FrontendRequest } from './attributes.ts';
import { readUpload, syncDirectory } from './file-sync.ts';
import type { SyncOptions } from './file-sync.ts';
import { GrpcError, code } from './grpc.ts';
import { resultsMax } from './limits.ts';
import { textIn } from './messages.ts';
import { wordFailure } from './progress.ts';
import type { Progress, Vertex } from './progress.ts';
import type { Session, Sessions } from './session.ts';

export interface JobParts {
  builder: Builder;
  sessions: Sessions;
}

/** What `Control/Solve` says of the build as a whole. */
export interface JobRequest {
  ref: string;
  sessionId: string;
  /** Names that the result gets; undefined: it stays in the cache. */
  tags: string[] | undefined;
}

const uploaded = /^http:\/\/buildkit-session\/(.*)$/;

export class Job {
  readonly request: JobRequest;
  readonly progress: Progress;
  readonly #parts: JobParts;
  readonly #results: ImageRecord[] = [];
  readonly #over = new AbortController();
  readonly #returned = Promise.withResolvers<ImageRecord | undefined>();

  constructor(parts: JobParts, request: JobRequest, progress: Progress) {
    this.#parts = parts;
    this.request = request;
    this.progress = progress;
    // It may fail before somebody waits for it.
    this.#returned.promise.catch(() => undefined);
  }

  /** Aborted when the client that asked for the build is gone. */
  get signal(): AbortSignal {
    return this.#over.signal;
  }

  /** What the client's own part of the front end gave back. */
  get returned(): Promise<ImageRecord | undefined> {
    return this.#returned.promise;
  }

  /** The place of a result under which the client names it. */
  keep(record: ImageRecord): string {
    if (this.#results.length >= resultsMax) throw new ApiError('TooManyRequests', 'a build has too many results');
    return String(this.#results.push(record) - 1);
  }

  /** Of what this build has made; undefined: its client wants nothing of it. */
  return(id: string | undefined): void {
    const record = id === undefined ? undefined : this.#results[Number(id)];
    if (id === undefined || record !== undefined) this.#returned.resolve(record);
    else this.#returned.reject(new ApiError('NotFound', `no such reference: ${id.slice(0, 100)}`));
  }

  fail(error: Error): void {
    this.#returned.reject(error);
  }

  close(): void {
    const gone = new GrpcError(code.canceled, 'context canceled');
    this.#over.abort(gone);
    this.#returned.reject(gone);
    this.progress.close();
  }

  /** The Dockerfile front end: attributes in, image out. */
  async build(attributes: Readonly<Record<string, string>>): Promise<ImageRecord> {
    const asked = parseAttributes(attributes);
    const session = await this.#session(asked, '');
    // An archive holds its Dockerfile, unless the client shares one apart.
    await using whole =
      asked.contextUrl === undefined || asked.hasOwnDockerfile
        ? undefined
        : await this.#fetched(asked, asked.contextUrl);
    const { text, ignore } = whole === undefined ? await this.#dockerfile(asked) : this.#found(asked, whole);
    const syntax = /^#\s*syntax\s*=\s*(\S+)/i.exec(text)?.[1];
    if (syntax !== undefined && !isBuiltInFrontend(syntax))
      throw new ApiError('BadRequest', `front ends in images are not run here yet: ${syntax.slice(0, 200)}`);
    const file = parseDockerfile(text);
    this.progress.stages = file.stages.length;
    const needsContext = file.stages.some((stage) =>
      stage.instructions.some(
        ({ keyword, flags }) => ['COPY', 'ADD', 'ONBUILD'].includes(keyword) && flags['from'] === undefined,
      ),
    );
    await using own = needsContext && whole === undefined ? await this.#context(asked, ignore) : undefined;
    return await this.#parts.builder
      .build({
        ...asked.build,
        dockerfile: text,
        context: whole ?? own,
        tags: this.request.tags,
        credential: (domain) => this.#credential(session, domain),
        signal: this.signal,
        onEvent: () => {},
        output: this.progress,
      })
      .catch((error: unknown) => {
        throw error instanceof BuildStepError ? new ApiError('BadRequest', wordFailure(error)) : error;
      });
  }

  #session(asked: FrontendRequest, directory: string): Promise<Session> {
    return this.#parts.sessions.get(asked.sessions.get(directory) ?? this.request.sessionId, this.signal);
  }

  async #shown<T>(name: string, work: (vertex: Vertex) => Promise<T>): Promise<T> {
    const vertex = this.progress.begin(name);
    try {
      const result = await work(vertex);
      vertex.end();
      return result;
    } catch (error) {
      vertex.end({ error });
      throw error;
    }
  }

  /** A directory of the client as a context of its own. */
  async #receive(
    asked: FrontendRequest,
    vertex: Vertex,
    options: Omit<SyncOptions, 'signal' | 'onBytes'>,
    ignore?: string,
  ): Promise<BuildContext> {
    let bytes = 0;
    const session = await this.#session(asked, options.name);
    const source = syncDirectory(session, {
      ...options,
      signal: this.signal,
      onBytes: (count) => {
        bytes += count;
        vertex.count('transferring context:', bytes);
      },
    });
    const context = await this.#parts.builder.receiveContext(source, {
      dockerfile: asked.filename,
      signal: this.signal,
      ...(ignore === undefined ? {} : { ignore }),
    });
    vertex.count('transferring context:', bytes, true);
    return context;
  }

  /** Its text, and that of the ignore file beside it. */
  async #dockerfile(asked: FrontendRequest): Promise<{ text: string; ignore: string | undefined }> {
    const { filename, dockerfileDirectory } = asked;
    return this.#shown(`[internal] load build definition from ${posix.basename(filename)}`, async (vertex) => {
      for (const warning of asked.warnings) this.progress.warn(vertex.digest, warning);
      const files = [filename, `${filename}.dockerignore`];
      const name = dockerfileDirectory;
      await using found = await this.#receive(asked, vertex, { name, include: files, follow: files }, '');
      return this.#found(asked, found);
    });
  }

  #found({ filename }: FrontendRequest, where: BuildContext): { text: string; ignore: string | undefined } {
    const text = where.text(filename);
    if (text === undefined)
      throw new ApiError('BadRequest', `failed to read dockerfile: open ${filename}: no such file or directory`);
    return { text, ignore: where.text(`${filename}.dockerignore`) };
  }

  async #context(asked: FrontendRequest, ignoreBeside: string | undefined): Promise<BuildContext> {
    const { contextUrl, contextDirectory: name } = asked;
    if (contextUrl !== undefined) return this.#fetched(asked, contextUrl);
    const ignore =
      ignoreBeside ??
      (await this.#shown('[internal] load .dockerignore', async (vertex) => {
        const files = ['.dockerignore'];
        await using found = await this.#receive(asked, vertex, { name, include: files, follow: files }, '');
        return found.text('.dockerignore') ?? '';
      }));
    const exclude = ignore
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => line.replace(/^(!?)\s*\/?(.*?)\/?$/, '$1$2'));
    return this.#shown('[internal] load build context', (vertex) =>
      this.#receive(asked, vertex, { name, exclude }, ignore),
    );
  }

  /** An archive that the client serves by its session, as `docker build - <context.tar` does. */
  async #fetched(asked: FrontendRequest, url: string): Promise<BuildContext> {
    const path = uploaded.exec(url)?.[1];
    if (path === undefined)
      throw new ApiError('BadRequest', `contexts by URL are not fetched yet: ${url.slice(0, 200)}: send the context`);
    const session = await this.#session(asked, '');
    return this.#shown('[internal] load remote build context', () =>
      this.#parts.builder.receiveContext(readUpload(session, path, this.signal), {
        dockerfile: asked.filename,
        signal: this.signal,
      }),
    );
  }

  async #credential(session: Session, domain: string): Promise<RegistryCredential | undefined> {
    const path = '/moby.filesync.v1.Auth/Credentials';
    if (!session.serves(path)) return undefined;
    const host = domain === 'docker.io' ? 'registry-1.docker.io' : domain;
    const answer = await session.client.call(path, { Host: host }, this.signal);
    const [username, secret] = [textIn(answer, 'Username'), textIn(answer, 'Secret')];
    if (secret === '') return undefined;
    return username === '' ? { identityToken: secret } : { username, password: secret };
  }
}
