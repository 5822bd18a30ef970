/**
 * Who may have an image under a name, in the order of asking: what this platform built or was given; the registry of
 * the platform on another node; other nodes where it was made; mirrors; the registry that the name says; other nodes
 * that pulled it once. The first one that has it is the source.
 */
import { ApiError } from '#base/errors.ts';
import { contains, formatIp, parseCidr, parseIp, subnetOf } from '#base/ip.ts';
import { canonicalName, familiarName, familiarRepository } from '#base/reference.ts';
import type { Reference } from '#base/reference.ts';
import { DigestError } from '#content/blobs.ts';
import { parseJson } from '#content/image-records.ts';
import { manifestBytesMax } from '#content/limits.ts';
import { RemoteError, RemoteRepository, UnreachableError, endpointUrlOf } from '#content/remote.ts';
import type { Endpoint, RemoteManifest } from '#content/remote.ts';
import type { RegistryCredential } from './engine.ts';
import { peersAskedMax } from './limits.ts';
import type { ImagesOptions, Peer, PullOptions } from './images-options.ts';

/**
 * What a registry holds under a name. `repository` undefined: it is the registry of this process, whose blobs are here.
 */
export interface Source {
  repository: RemoteRepository | undefined;
  manifest: RemoteManifest;
  /** Another engine of the platform has it, and gives it to everybody. */
  isPlatform?: boolean;
}

/** Where a registry may answer: one that is insecure with any certificate, and then without TLS, as in docker. */
export function endpointsOf(
  { insecureRegistries = [] }: Pick<ImagesOptions, 'insecureRegistries'>,
  domain: string,
): Endpoint[] {
  const plain = endpointUrlOf(domain);
  if (plain.startsWith('http:') || !isInsecureRegistry(insecureRegistries, domain)) return [{ url: plain }];
  return [{ url: plain, isInsecure: true }, { url: `http://${domain}` }];
}

/** A list names hosts with their ports, and ranges of addresses; names are not resolved. */
function isInsecureRegistry(list: readonly string[], domain: string): boolean {
  const host = parseIp(domain.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1'));
  return list.some((entry) => {
    const name = entry.replace(/^https?:\/\//i, '');
    const range = parseCidr(name);
    if (range === undefined || host === undefined) return name === domain;
    return range.address.family === host.family && contains(subnetOf(name), formatIp(host));
  });
}

/** The way on which a registry answers; the last one where none does, whose error is then the push's. */
export async function reachableEndpoint(
  options: ImagesOptions,
  reference: Reference,
  signal?: AbortSignal,
): Promise<Endpoint> {
  const endpoints = endpointsOf(options, reference.domain);
  for (const endpoint of endpoints.slice(0, -1))
    try {
      await new RemoteRepository(options.transport, endpoint, reference.path, 'pull').hasBlob(emptyDigest, signal);
      return endpoint;
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof UnreachableError)) return endpoint;
    }
  return endpoints.at(-1) ?? { url: endpointUrlOf(reference.domain) };
}

/** Of no bytes: a question that every registry answers. */
const emptyDigest = 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

interface PossibleSource {
  endpoint: Endpoint;
  path: string;
  isPlatform: boolean;
}

/** Everybody who may have the name, in the order of asking. */
function sourcesOf(
  options: ImagesOptions,
  reference: Reference,
  credential: RegistryCredential | undefined,
): PossibleSource[] {
  const out: PossibleSource[] = [];
  const platform = options.platformRegistry;
  if (platform !== undefined) {
    const isOwn = platform.domains.includes(reference.domain);
    out.push({
      endpoint: {
        url: platform.url,
        tls: () => platform.tls(),
        ...(isOwn ? {} : { mirrorOf: reference.domain }),
      },
      path: reference.path,
      isPlatform: true,
    });
    if (isOwn) return out;
  }
  if (reference.domain === 'docker.io')
    for (const url of options.mirrors ?? [])
      out.push({ endpoint: { url, mirrorOf: 'docker.io' }, path: reference.path, isPlatform: false });
  for (const endpoint of endpointsOf(options, reference.domain))
    out.push({
      endpoint: { ...endpoint, ...(credential === undefined ? {} : { credential }) },
      path: reference.path,
      isPlatform: false,
    });
  return out;
}

/** From the registry of this process; undefined when it is not the one that the name says, or does not have it. */
export async function ownSource(options: ImagesOptions, reference: Reference): Promise<Source | undefined> {
  const registry = options.localRegistry;
  const digest =
    registry?.owns(reference.domain) === true
      ? registry.resolve(reference.path, reference.digest ?? reference.tag ?? 'latest')
      : undefined;
  if (digest === undefined || !options.content.blobs.has(digest)) return undefined;
  const bytes = await options.content.blobs.readBytes(digest, manifestBytesMax);
  const { mediaType } = parseJson(bytes, 'manifest') as { mediaType?: unknown };
  return {
    repository: undefined,
    manifest: {
      bytes,
      mediaType: typeof mediaType === 'string' ? mediaType : (registry!.mediaType(reference.path, digest) ?? ''),
      digest,
    },
  };
}

/** Tags of a repository in the registry that its name says, for `pull --all-tags`. */
export async function listTags(
  options: ImagesOptions,
  reference: Reference,
  pull: Pick<PullOptions, 'credential' | 'signal'>,
): Promise<string[]> {
  if (options.localRegistry?.owns(reference.domain) === true) {
    const own = options.localRegistry.tags(reference.path);
    if (own.length === 0)
      throw new ApiError(
        'NotFound',
        `repository ${familiarRepository(reference)} not found: does not exist or no pull access`,
      );
    return own;
  }
  let last: unknown;
  for (const source of sourcesOf(options, reference, pull.credential)) {
    try {
      return await new RemoteRepository(options.transport, source.endpoint, source.path, 'pull').tags(pull.signal);
    } catch (error) {
      pull.signal?.throwIfAborted();
      if (!(error instanceof RemoteError || error instanceof UnreachableError)) throw error;
      last = error;
    }
  }
  throw dockerError(last, reference);
}

/**
 * What the registry that the name says, or one that stands in for it, holds under it. Throws RemoteError or
 * UnreachableError.
 */
export async function findSource(
  options: ImagesOptions,
  reference: Reference,
  pull: Pick<PullOptions, 'credential' | 'signal' | 'artifact'>,
): Promise<Source> {
  const own = await ownSource(options, reference);
  if (own !== undefined) return own;
  if (options.localRegistry?.owns(reference.domain) === true)
    throw new RemoteError(404, 'MANIFEST_UNKNOWN', 'manifest unknown: manifest unknown');
  const wanted = reference.digest ?? reference.tag ?? 'latest';
  let last: unknown;
  const sources = sourcesOf(options, reference, pull.credential);
  const [platform, others] = [true, false].map((is) => sources.filter(({ isPlatform }) => isPlatform === is));
  const ask = async ({ endpoint, path, isPlatform }: PossibleSource): Promise<Source | undefined> => {
    const artifact = pull.artifact === undefined ? {} : { artifact: pull.artifact };
    const repository = new RemoteRepository(options.transport, { ...endpoint, ...artifact }, path, 'pull');
    try {
      return { repository, manifest: await repository.manifest(wanted, pull.signal), isPlatform };
    } catch (error) {
      pull.signal?.throwIfAborted();
      if (!(error instanceof RemoteError || error instanceof UnreachableError)) throw error;
      last = error;
      return undefined;
    }
  };
  for (const source of platform ?? []) {
    const found = await ask(source);
    if (found !== undefined) return found;
  }
  const peers = options.peers?.(canonicalName(reference)) ?? [];
  const made = await fromPeers(
    peers.filter(({ isMade }) => isMade),
    reference,
    ask,
  );
  if (made !== undefined) return made;
  for (const source of others ?? []) {
    const found = await ask(source);
    if (found !== undefined) return found;
  }
  const refusal = last;
  const pulled = await fromPeers(
    peers.filter(({ isMade }) => !isMade),
    reference,
    ask,
  );
  if (pulled !== undefined) return pulled;
  throw refusal;
}

/**
 * From another node that has the name. Nodes that were given or built different images under one name do not decide
 * which one is meant: then the pull fails, with both digests.
 */
async function fromPeers(
  peers: readonly Peer[],
  reference: Reference,
  ask: (source: PossibleSource) => Promise<Source | undefined>,
): Promise<Source | undefined> {
  const answers = await Promise.all(
    peers.slice(0, peersAskedMax).map(async ({ node, url, tls }) => {
      const endpoint = { url, tls, mirrorOf: reference.domain };
      return { node, source: await ask({ endpoint, path: reference.path, isPlatform: true }) };
    }),
  );
  const found = answers.flatMap(({ node, source }) => (source === undefined ? [] : [{ node, source }]));
  const [first] = found;
  const other = found.find(({ source }) => source.manifest.digest !== first?.source.manifest.digest);
  if (first !== undefined && other !== undefined)
    throw new ApiError(
      'Conflict',
      `nodes have different images named ${familiarName(reference)}: ${first.source.manifest.digest} (${first.node}) and ${other.source.manifest.digest} (${other.node}); push the one that is meant to the platform's registry, or name it by its digest`,
    );
  return first?.source;
}

/** The texts that docker's users know. */
export function dockerError(error: unknown, reference: Reference): unknown {
  if (error instanceof RemoteError) {
    if (error.status === 404 && /MANIFEST_UNKNOWN/i.test(error.code))
      return new ApiError('NotFound', `manifest for ${familiarName(reference)} not found: ${error.message}`);
    if (error.status === 404 || error.status === 401 || error.status === 403) {
      return new ApiError(
        'NotFound',
        `pull access denied for ${familiarRepository(reference)}, repository does not exist or may require 'docker login': ${error.message}`,
      );
    }
    if (error.status === 429) return new ApiError('TooManyRequests', error.message);
    return new ApiError(
      'InternalError',
      error.status === 0 ? error.message : `received unexpected HTTP status: ${error.status}: ${error.message}`,
    );
  }
  if (error instanceof UnreachableError) return new ApiError('InternalError', error.message);
  if (error instanceof DigestError)
    return new ApiError('InternalError', `filesystem layer verification failed: ${error.message}`);
  return error;
}
