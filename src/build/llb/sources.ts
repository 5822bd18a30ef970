/**
 * Where a build's files come from: images, directories of the client, the web. Each source is fetched once in a build,
 * whoever of its vertices asks, and shown as one line of its progress.
 */
import type { JsonObject } from '#base/unknown.ts';
import { posix } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { decodeQueryName } from '#base/file-names.ts';
import type { Platform } from '#base/platform.ts';
import { messageOf } from '#base/thrown.ts';
import type { Content, Hold } from '#content/content.ts';
import type { ImageRecord } from '#content/image-records.ts';
import type { HttpTransport } from '#content/remote.ts';
import type { RegistryCredential } from '#engine/engine.ts';
import type { Clock } from '#os/clock.ts';
import type { Processes } from '#os/processes.ts';
import { digestOf } from '../cache-keys.ts';
import { addedUrlBytesMax } from '../limits.ts';
import type { BuildContext } from '../context.ts';
import { Downloads } from './download.ts';
import type { Downloaded } from './download.ts';
import { describeRepository, openRepository } from './git.ts';
import type { RepositoryMetadata } from './git.ts';
import { copyToLayer } from './file.ts';
import { noteLocation } from './location.ts';
import type { Output, StepLayer, VertexOutput } from './output.ts';
import type { SecretSource } from './secrets.ts';
import type { SolverContext } from './work.ts';
import type { Edge, SourceOp, Vertex } from './vertex.ts';

/** Finds an image here, or pulls it (`always`: even when it is here). */
export type PullImage = (
  reference: string,
  options: {
    always: boolean;
    platform: Platform | undefined;
    credential: ((domain: string) => Promise<RegistryCredential | undefined>) | undefined;
    onEvent: (event: JsonObject) => void;
    signal: AbortSignal;
  },
) => Promise<ImageRecord>;

export interface SourceRequest {
  content: Content;
  hold: Hold;
  processes: Processes;
  transport: HttpTransport;
  clock: Pick<Clock, 'now'>;
  pullImage: PullImage;
  /** Whether images are looked for at their registry although they are here. */
  pull: boolean;
  credential: ((domain: string) => Promise<RegistryCredential | undefined>) | undefined;
  /** A directory that the client shares. The caller of `Sources` disposes of it. */
  local(name: string, op: SourceOp, output: VertexOutput, signal: AbortSignal): Promise<BuildContext>;
  /** A file that the client sends. */
  upload?(id: string, signal: AbortSignal): AsyncIterable<Uint8Array>;
  /** An image of a directory that the client shares. */
  layout?(vertex: Vertex, op: SourceOp, signal: AbortSignal): Promise<ImageRecord>;
  /** What is taken in place of a source; throws when it is denied. */
  policy?: ((op: SourceOp) => SourceOp) | undefined;
  begin(vertex: Vertex): VertexOutput;
  signal: AbortSignal;
}

/** How the refusal of an image begins that a policy denies. */
export const deniedImage = 'could not resolve image due to policy';

const imagePrefix = 'docker-image://';
/** What clients name as a URL and send themselves. */
const uploaded = /^http:\/\/buildkit-session\/(.+)$/;
const layoutPrefix = 'oci-layout://';
const localPrefix = 'local://';

/** What is shown from its first word on. */
function lateOutput(begin: () => VertexOutput): { output: VertexOutput; isShown: () => boolean } {
  let shown: VertexOutput | undefined;
  const at = (): VertexOutput => (shown ??= begin());
  const output: VertexOutput = {
    cached: () => at().cached(),
    started: (id) => at().started(id),
    ended: (id) => at().ended(id),
    log: (bytes) => at().log(bytes),
    count: (name, current, isDone) => at().count(name, current, isDone),
    event: (event) => at().event(event),
    end: (error) => at().end(error),
  };
  return { output, isShown: () => shown !== undefined };
}

/** What a file of the web is called: as its source says, else as its server does, else as its address ends. */
export function downloadedName({ identifier, attributes }: SourceOp, { name }: Downloaded): string {
  const given = attributes['http.filename'];
  if (given !== undefined && given !== '') return given;
  if (name !== undefined) return name;
  const last = decodeQueryName(URL.parse(identifier)?.pathname.split('/').pop()?.replaceAll('+', '%2B') ?? '') ?? '';
  return last === '' || last === '.' || last === '..' || /[/\0]/.test(last) ? 'download' : last;
}

export class Sources {
  readonly #request: SourceRequest;
  readonly #outputs = new Map<string, Promise<Output>>();
  readonly #images = new Map<string, Promise<ImageRecord>>();
  /** Vertices of images that are known, and of which nothing was shown yet. */
  readonly #resolved = new Map<string, VertexOutput>();
  /** Files of the web, by where they are and what they have to be. */
  readonly #downloads = new Map<string, Promise<Downloaded>>();
  /** Which commits were taken, by the identifiers of their sources. */
  readonly #commits = new Map<string, string>();

  constructor(request: SourceRequest) {
    this.#request = request;
  }

  /** Shows the work as the vertex's own. */
  async #shown<T>(vertex: Vertex, signal: AbortSignal, work: (output: VertexOutput) => Promise<T>): Promise<T> {
    const output = this.#request.begin(vertex);
    try {
      const made = await work(output);
      output.end();
      return made;
    } catch (error) {
      if (!signal.aborted) noteLocation(error, vertex.location);
      output.end(signal.aborted ? new ApiError('BadRequest', 'context canceled') : error);
      throw error;
    }
  }

  /**
   * The image that an edge stands for. `resolve`: something else is shown while it is looked for; the vertex is only
   * where its layers are fetched or used.
   */
  image({ vertex }: Edge, shows: 'fetch' | 'resolve' = 'fetch'): Promise<ImageRecord> {
    let image = this.#images.get(vertex.digest);
    if (image === undefined) {
      const { signal } = this.#request;
      image =
        shows === 'fetch'
          ? this.#shown(vertex, signal, (output) => this.#pull(vertex, output))
          : this.#resolve(vertex, signal);
      this.#images.set(vertex.digest, image);
      // Whoever waits for it hears of it.
      image.catch(() => undefined);
    }
    return image;
  }

  async #resolve(vertex: Vertex, signal: AbortSignal): Promise<ImageRecord> {
    const late = lateOutput(() => this.#request.begin(vertex));
    try {
      const image = await this.#pull(vertex, late.output);
      if (late.isShown()) late.output.end();
      else this.#resolved.set(vertex.digest, late.output);
      return image;
    } catch (error) {
      if (!signal.aborted) noteLocation(error, vertex.location);
      if (late.isShown()) late.output.end(signal.aborted ? new ApiError('BadRequest', 'context canceled') : error);
      throw error;
    }
  }

  #pull(vertex: Vertex, output: VertexOutput): Promise<ImageRecord> {
    const { pullImage, pull, credential, signal, layout } = this.#request;
    if (vertex.op.kind !== 'source') throw new ApiError('BadRequest', `${vertex.name} is no image`);
    const op = this.permitted(vertex.op, deniedImage);
    const { identifier, attributes } = op;
    if (layout !== undefined && identifier.startsWith(layoutPrefix)) return layout({ ...vertex, op }, op, signal);
    if (!identifier.startsWith(imagePrefix)) throw new ApiError('BadRequest', `${vertex.name} is no image`);
    return pullImage(identifier.slice(imagePrefix.length), {
      always: pull || attributes['image.resolvemode'] === 'pull',
      platform: vertex.platform,
      credential,
      onEvent: (event) => output.event(event),
      signal,
    });
  }

  /** What the policy makes of a source. Throws BadRequest, beginning with `why`, when it is denied. */
  permitted(op: SourceOp, why = 'error evaluating the source policy'): SourceOp {
    try {
      return this.#request.policy?.(op) ?? op;
    } catch (error) {
      throw new ApiError('BadRequest', `${why}: ${messageOf(error)}`);
    }
  }

  /** What the remote says of a repository. */
  repository(op: SourceOp, secrets: SecretSource, returnsObjects: boolean): Promise<RepositoryMetadata> {
    return describeRepository({ ...this.#request, secrets }, this.permitted(op), returnsObjects);
  }

  /** The commit that this build took of a repository; undefined: it took none. */
  commitOf(op: SourceOp): string | undefined {
    return this.#commits.get(this.permitted(op).identifier);
  }

  /** What a file of the web is; `needsFile`: and the file, in the store. Asked for once in a build. */
  download(op: SourceOp, needsFile: boolean): Promise<Downloaded> {
    const { identifier, attributes } = this.permitted(op);
    const checksum = attributes['http.checksum'];
    const key = `${checksum ?? ''} ${needsFile} ${identifier}`;
    let made = this.#downloads.get(key);
    if (made === undefined) {
      made = this.#download(identifier, checksum, needsFile);
      this.#downloads.set(key, made);
      // Whoever waits for it hears of it.
      made.catch(() => undefined);
    }
    return made;
  }

  async #download(url: string, checksum: string | undefined, needsFile: boolean): Promise<Downloaded> {
    const { content, transport, clock, signal, hold, upload } = this.#request;
    const sent = uploaded.exec(url)?.[1];
    if (sent !== undefined && upload !== undefined) {
      const { digest } = await content.blobs.write(upload(sent, signal), {}, addedUrlBytesMax);
      hold.addBlob(digest);
      return { digest, modifiedAtMs: undefined, name: undefined };
    }
    const found = await new Downloads({ content, transport, clock }).fetch(url, { checksum, needsFile, signal });
    hold.addBlob(found.digest);
    return found;
  }

  open(context: SolverContext, op: SourceOp, vertex: Vertex): Promise<Output> {
    let output = this.#outputs.get(vertex.digest);
    if (output === undefined) {
      output = this.#open(context, op, vertex);
      this.#outputs.set(vertex.digest, output);
      // Whoever waits for it hears of it.
      output.catch(() => undefined);
    }
    return output;
  }

  async #open(context: SolverContext, given: SourceOp, vertex: Vertex): Promise<Output> {
    const isImage = given.identifier.startsWith(imagePrefix);
    const op = isImage ? given : this.permitted(given);
    const { identifier } = op;
    if (isImage || identifier.startsWith(layoutPrefix)) {
      const { layers } = await this.image({ vertex, output: 0 });
      this.#resolved.get(vertex.digest)?.end();
      this.#resolved.delete(vertex.digest);
      await Promise.all(layers.map((layer) => context.content.layers.ensure(layer.diffId, layer.digest)));
      return {
        kind: 'layers',
        steps: layers.map((layer): StepLayer => ({ layer, createdAtMs: undefined, about: '' })),
      };
    }
    return this.#shown(vertex, context.signal, async (output): Promise<Output> => {
      if (identifier.startsWith(localPrefix)) {
        const name = identifier.slice(localPrefix.length);
        return { kind: 'tree', tree: await this.#request.local(name, op, output, context.signal) };
      }
      if (/^https?:\/\//.test(identifier)) return this.#web(context, op, output);
      if (identifier.startsWith('git://')) {
        const { made, commit } = await openRepository(context, this.#request.processes, op, output);
        this.#commits.set(identifier, commit);
        return made;
      }
      throw new ApiError('BadRequest', `sources of this kind are not fetched here: ${identifier.slice(0, 200)}`);
    });
  }

  /** One file at the root. */
  async #web(context: SolverContext, op: SourceOp, output: VertexOutput): Promise<Output> {
    const { content, cache, clock } = context;
    let found = await this.download(op, false);
    const { identifier, attributes } = op;
    const mode = Number.parseInt(attributes['http.perm'] ?? '600', 8);
    const [uid, gid] = [Number(attributes['http.uid'] ?? 0), Number(attributes['http.gid'] ?? 0)];
    const keyOf = (one: Downloaded): string =>
      digestOf('http', one.digest, one.modifiedAtMs ?? 0, downloadedName(op, one), mode, uid, gid);
    let known = cache.get(keyOf(found));
    if (known === undefined && !content.blobs.has(found.digest)) {
      // It was fetched before, and what was made of it is gone. It may be another one by now.
      found = await this.download(op, true);
      known = cache.get(keyOf(found));
    }
    const { digest, modifiedAtMs = 0 } = found;
    const name = downloadedName(op, found);
    const key = keyOf(found);
    if (known !== undefined) output.cached();
    const atMs = known?.atMs ?? clock.now();
    const about = known?.about ?? identifier;
    let layers = known?.layers;
    if (layers === undefined) {
      const path = content.blobs.path(digest);
      const layer = await copyToLayer(context, [], ({ finish }) =>
        finish([
          {
            kind: 'copy',
            sourceRoot: posix.dirname(path),
            sources: [posix.basename(path)],
            target: `/${name}`,
            isDirectory: false,
            mode,
            owner: { uid, gid },
            mtimeMs: modifiedAtMs,
          },
        ]),
      );
      layers = [layer];
      await cache.put(key, { layers, atMs, about });
    }
    return { kind: 'layers', steps: layers.map((layer) => ({ layer, createdAtMs: atMs, about })) };
  }
}
