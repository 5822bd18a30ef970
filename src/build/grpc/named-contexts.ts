/**
 * Contexts by name: a client says what stands in place of an image or a stage - an image, a directory of its own, a
 * layout, a repository, a file of the web, or what it has built before.
 */
import { ApiError } from '#base/errors.ts';
import { formatPlatform } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import { familiarName, parseReference } from '#base/reference.ts';
import type { ImageFile } from '#content/image-file.ts';
import type { BuildContext } from '../context.ts';
import { canonicalOrId } from '../dockerfile/convert.ts';
import type { StageBase } from '../dockerfile/stage.ts';
import { gitSource, isGitUrl } from '../git-url.ts';
import { makeVertex } from '../llb/codec.ts';
import type { VertexOutput } from '../llb/output.ts';
import type { Edge } from '../llb/vertex.ts';
import type { FrontendRequest } from './attributes.ts';
import type { Job } from './job.ts';
import { contextRoundsMax } from './limits.ts';

/** As clients name contexts: an image's name without what is usual in it. */
function contextName(name: string): string {
  try {
    return familiarName(parseReference(name.toLowerCase())).replace(/:latest$/, '');
  } catch {
    return name.toLowerCase();
  }
}

/** A source of files as an edge. */
export function sourceEdge(identifier: string, attributes: Record<string, string>, name: string): Edge {
  return { vertex: makeVertex({ kind: 'source', identifier, attributes }, [], { name }), output: 0 };
}

/** What the front end does for all contexts. */
export interface ContextHost {
  /** A few files of a directory of the client. */
  readTexts(directory: string, files: string[], line: Pick<VertexOutput, 'count'>): Promise<BuildContext>;
  /** A directory of the client. `ignore`: text of its ignore file. */
  local(directory: string, name: string, ignore: string): Edge;
  /** `place`: as its line of progress begins; `name`: as it is written. */
  imageConfig(image: Edge, place: string, name: string): Promise<ImageFile>;
}

export class NamedContexts {
  readonly #job: Job;
  readonly #asked: FrontendRequest;
  readonly #host: ContextHost;
  readonly #namedIgnores = new Map<string, Promise<string>>();

  constructor(job: Job, asked: FrontendRequest, host: ContextHost) {
    this.#job = job;
    this.#asked = asked;
    this.#host = host;
  }

  /** undefined: the client says nothing of this name. */
  async find(name: string, platform: Platform): Promise<StageBase | undefined> {
    const { contexts } = this.#asked;
    const short = contextName(name);
    // One of a platform before one for all.
    const given = contexts.get(`${short}::${formatPlatform(platform)}`) ?? contexts.get(short);
    return given === undefined ? undefined : this.#open(name, given, platform, 0);
  }

  /** `rounds`: how often a policy has put something else in its place. */
  async #open(name: string, given: string, platform: Platform, rounds: number): Promise<StageBase | undefined> {
    if (rounds > contextRoundsMax)
      throw new ApiError(
        'BadRequest',
        `context recursion limit exceeded; this may indicate a cycle in the provided source policies: ${given.slice(0, 200)}`,
      );
    const [, scheme = '', rest = ''] = /^([a-z-]+):(?:\/\/)?(.*)$/.exec(given) ?? [];
    if (scheme === 'docker-image' && rest === 'scratch') return { edge: undefined, file: undefined };
    if (scheme === 'docker-image') {
      const identifier = `docker-image://${canonicalOrId(rest)}`;
      const taken = this.#permitted(identifier);
      return /^(?:docker-image|oci-layout):/.test(taken)
        ? this.#namedImage(name, identifier, platform)
        : this.#open(name, taken, platform, rounds + 1);
    }
    if (scheme === 'oci-layout') return this.#namedLayout(name, rest, platform);
    if (scheme === 'local') {
      const ignore = await this.#namedIgnore(rest);
      return { edge: this.#host.local(rest, `[context ${name}] load from client`, ignore), file: undefined };
    }
    if (isGitUrl(given))
      return {
        edge: {
          vertex: makeVertex(gitSource(given, this.#asked.namedGitAttributes), [], {
            name: `[context ${name}] ${given}`,
          }),
          output: 0,
        },
        file: undefined,
      };
    if (scheme === 'http' || scheme === 'https')
      return {
        edge: sourceEdge(given, { 'http.filename': 'context' }, `[context ${name}] ${given}`),
        file: undefined,
      };
    if (scheme === 'input') return this.#asked.inputs.get(rest) ?? this.#refuse(name, given);
    return this.#refuse(name, given);
  }

  #refuse(name: string, given: string): never {
    throw new ApiError('BadRequest', `unsupported context source ${given.slice(0, 200)} for ${name.slice(0, 100)}`);
  }

  /** What a context that the client shares leaves out by a file of its own. */
  #namedIgnore(directory: string): Promise<string> {
    let text = this.#namedIgnores.get(directory);
    if (text === undefined) {
      text = this.#job.shown(
        `[context ${directory}] load .dockerignore`,
        async (line) => (await this.#host.readTexts(directory, ['.dockerignore'], line)).text('.dockerignore') ?? '',
      );
      this.#namedIgnores.set(directory, text);
    }
    return text;
  }

  /** An image of a directory that the client shares: `NAME@sha256:…`. */
  async #namedLayout(name: string, reference: string, platform: Platform): Promise<StageBase> {
    const [, store = '', digest = ''] = /^(.+)@(sha256:[0-9a-f]{64})$/.exec(reference) ?? [];
    if (store === '') throw new ApiError('BadRequest', `oci-layout reference ${reference.slice(0, 200)} has no digest`);
    const op = {
      kind: 'source' as const,
      identifier: `oci-layout://${name}@${digest}`,
      // A tag of the name says nothing: the digest is what counts.
      attributes: {
        'oci.store': store.replace(/^(.*\/)?([^/:]+):[^/:]*$/, '$1$2'),
        'oci.session': this.#job.request.sessionId,
      },
    };
    const edge = {
      vertex: makeVertex(op, [], { name: `[context ${name}] OCI load from client`, platform }),
      output: 0,
    };
    return { edge, file: (await this.#job.sources.image(edge)).file };
  }

  /** What a policy makes of an image; what it denies is told when that is looked for. */
  #permitted(identifier: string): string {
    try {
      return this.#job.sources.permitted({ kind: 'source', identifier, attributes: {} }).identifier;
    } catch {
      return identifier;
    }
  }

  async #namedImage(name: string, identifier: string, platform: Platform): Promise<StageBase> {
    const about = { name: `[context ${name}] ${identifier.slice('docker-image://'.length)}`, platform };
    const edge = { vertex: makeVertex({ kind: 'source', identifier, attributes: {} }, [], about), output: 0 };
    return { edge, file: await this.#host.imageConfig(edge, `[context ${name}]`, name) };
  }
}
