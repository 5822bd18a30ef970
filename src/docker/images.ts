/** Images of the Engine API: list, inspect, history, create (pull, import), push, tag, remove, save, load, prune. */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ApiError } from '#base/errors.ts';
import { parsePlatform } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import { familiarName, parseReference } from '#base/reference.ts';
import { textOf } from '#base/unknown.ts';
import { applyChanges } from '#build/dockerfile/changes.ts';
import type { ImageLayer, ImageRecord, ImageTarget } from '#content/image-records.ts';
import { redirectsMax } from '#content/limits.ts';
import type { RegistryCredential } from '#engine/engine.ts';
import type { ImageStore } from '#engine/images.ts';
import { listTags } from '#engine/images-sources.ts';
import { lacksLabels, matchesLabels, parseFilters, parseTime, flagFilter } from './filters.ts';
import { compileGlob } from './image-filters.ts';
import { listAttestations } from './image-attestations.ts';
import { archivePlatforms, descriptorOf, platformOfQuery, platformsOf, showManifests } from './image-manifests.ts';
import type { ManifestSummary } from './image-manifests.ts';
import { searchImages } from './search.ts';
import { streamJson } from './json-stream.ts';
import type { JsonStream } from './json-stream.ts';
import { queryFlag, reply } from './route.ts';
import type { Route, RouteContext } from './route.ts';

export interface ImageParts {
  images: ImageStore;
}

/** `X-Registry-Auth`: base64url of JSON. A malformed one counts as none, as in docker. */
export function credentialOf(context: RouteContext): RegistryCredential | undefined {
  const header = context.request.headers['x-registry-auth'];
  if (typeof header !== 'string' || header === '') return undefined;
  try {
    const value: unknown = JSON.parse(Buffer.from(header, 'base64url').toString('utf8'));
    const [username, password, identityToken] = ['username', 'password', 'identitytoken'].map((key) =>
      textOf(value, key),
    );
    if (!username && !identityToken) return undefined;
    return {
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
      ...(identityToken ? { identityToken } : {}),
    };
  } catch {
    return undefined;
  }
}

/** `platform=linux/arm64`. */
function platformOf(query: URLSearchParams): Platform | undefined {
  const text = query.get('platform') ?? '';
  return text === '' ? undefined : parsePlatform(text);
}

export function isoNano(ms: number): string {
  return new Date(ms).toISOString().replace(/Z$/, '000000Z');
}

const listFilters = ['dangling', 'label', 'label!', 'before', 'since', 'reference', 'until'];

/** Bytes of an image's layers that other images in the list have too. */
function sharedSizes(images: ImageStore): (record: ImageRecord) => number {
  const { records, content } = images.options;
  const uses = new Map<string, number>();
  for (const record of records.listShown())
    for (const diffId of new Set(record.layers.map((layer) => layer.diffId)))
      uses.set(diffId, (uses.get(diffId) ?? 0) + 1);
  const sizeOf = (layer: ImageLayer): number =>
    content.layers.has(layer.diffId) ? content.layers.sizeBytes(layer.diffId) : layer.sizeBytes;
  return (record) =>
    record.layers.reduce((sum, layer) => sum + ((uses.get(layer.diffId) ?? 0) > 1 ? sizeOf(layer) : 0), 0);
}

/** The indexes of which the image is the default, and itself where a name stands for it alone, or none does. */
function targetsOf({ options: { records } }: ImageStore, image: ImageRecord): ImageTarget[] {
  const indexes = records.indexesOf(image.id).filter((index) => records.imagesOf(index)[0]?.id === image.id);
  const targets: ImageTarget[] = indexes.map((index) => ({ image, index }));
  return targets.length === 0 || records.hasOwnName(image.id) ? [{ image }, ...targets] : targets;
}

interface Row {
  target: ImageTarget;
  names: string[];
  digests: string[];
  manifests?: ManifestSummary[];
}

/** A row for each image; with manifests one for each thing that its names stand for. */
function rowsOf(images: ImageStore, record: ImageRecord, wantsManifests: boolean): Row[] {
  const { records } = images.options;
  const { names, digests } = images.summarize(record);
  const targets = targetsOf(images, record);
  const [first = { image: record }] = targets;
  if (!wantsManifests) return [{ target: first, names, digests }];
  return targets.map((target) => {
    const isFor = (name: string): boolean => records.findTarget(name)?.index?.digest === target.index?.digest;
    const manifests = showManifests(images, target);
    return { target, names: names.filter(isFor), digests: digests.filter(isFor), manifests };
  });
}

/** Of the image, and of the others of an index that it stands for. */
function countContainers({ options }: ImageStore, { image, index }: ImageTarget): number {
  const ids = new Set([image.id, ...(index === undefined ? [] : options.records.imagesOf(index).map(({ id }) => id))]);
  return [...ids].reduce((sum, id) => sum + (options.containersOf?.(id) ?? []).length, 0);
}

function listImages(parts: ImageParts, context: RouteContext): unknown {
  const { images } = parts;
  const { records, clock } = images.options;
  const filters = parseFilters(context.query, listFilters);
  const showsAll = queryFlag(context.query, 'all');
  const timeOf = (name: string): number | undefined => {
    const value = filters.get(name)?.[0];
    return value === undefined ? undefined : images.record(value).createdAtMs;
  };
  const [before, since] = [timeOf('before'), timeOf('since')];
  const until = filters.get('until')?.[0];
  const untilMs = until === undefined ? undefined : parseTime(until, clock.now());
  const dangling = flagFilter(filters, 'dangling');
  const patterns = filters.get('reference')?.map(compileGlob);
  const sharedBytes = queryFlag(context.query, 'shared-size') ? sharedSizes(images) : undefined;
  // Who asks by whom an image is trusted is shown its manifests, too.
  const flags = [...(context.version[1] < 47 ? [] : ['manifests']), ...(context.version[1] < 54 ? [] : ['identity'])];
  const wantsManifests = flags.filter((name) => queryFlag(context.query, name)).length > 0;
  const steps = showsAll ? records.list().filter((one) => one.isIntermediate === true && one.isHidden !== true) : [];
  const rows = [...records.listShown(), ...steps].flatMap((record) => rowsOf(images, record, wantsManifests));
  const out = rows.flatMap((row) => {
    const { image: record } = row.target;
    const summary = images.summarize(record);
    const isDangling = summary.names.length === 0;
    if (dangling !== undefined && (dangling !== isDangling || (isDangling && record.isIntermediate === true)))
      return [];
    if (!matchesLabels(filters, summary.config.labels) || !lacksLabels(filters, summary.config.labels)) return [];
    if (
      (before !== undefined && record.createdAtMs >= before) ||
      (since !== undefined && record.createdAtMs <= since) ||
      (untilMs !== undefined && record.createdAtMs >= untilMs)
    )
      return [];
    const names =
      patterns === undefined ? row.names : row.names.filter((name) => patterns.some((matches) => matches(name)));
    const digests =
      patterns === undefined ? row.digests : row.digests.filter((name) => patterns.some((matches) => matches(name)));
    if (patterns !== undefined && names.length === 0 && digests.length === 0) return [];
    const old = context.version[1] < 43;
    const { manifests, target } = row;
    const sizeBytes = manifests?.reduce((sum, each) => sum + each.Size.Total, 0) ?? summary.sizeBytes;
    return [
      {
        Containers: context.version[1] < 51 ? -1 : countContainers(images, row.target),
        Created: Math.floor(record.createdAtMs / 1000),
        Id: record.id,
        Labels: Object.keys(summary.config.labels).length === 0 ? null : summary.config.labels,
        ParentId: record.parent ?? '',
        RepoDigests: digests.length === 0 && isDangling && old ? ['<none>@<none>'] : digests,
        RepoTags: names.length === 0 && old ? ['<none>:<none>'] : names,
        SharedSize: sharedBytes?.(record) ?? -1,
        Size: sizeBytes,
        ...(context.version[1] < 48 ? {} : { Descriptor: descriptorOf(images, target) }),
        ...(manifests === undefined ? {} : { Manifests: manifests }),
        ...(context.version[1] < 44 ? { VirtualSize: summary.sizeBytes } : {}),
      },
    ];
  });
  return out.sort((a, b) => b.Created - a.Created);
}

/**
 * Where an image's layers are unpacked: the topmost alone, those below it joined. Null of an image without layers, and
 * of one that nobody has needed yet.
 */
function layerDirectories(images: ImageStore, record: ImageRecord): Record<string, string> | null {
  const { content } = images.options;
  if (!record.layers.every((layer) => content.layers.has(layer.diffId))) return null;
  const [top, ...below] = record.layers
    .map((layer) => `${content.root}/${content.layers.directory(layer.diffId)}`)
    .reverse();
  return top === undefined ? null : { ...(below.length === 0 ? {} : { LowerDir: below.join(':') }), UpperDir: top };
}

/** An image that has no name of its own is shown with an index that it is the default of, as in the list. */
function targetOf(images: ImageStore, target: ImageTarget): ImageTarget {
  return target.index === undefined ? (targetsOf(images, target.image)[0] ?? target) : target;
}

/** What only containers have: in an image's configuration before version 1.50, and empty. */
const containerFields = {
  Hostname: '',
  Domainname: '',
  AttachStdin: false,
  AttachStdout: false,
  AttachStderr: false,
  Tty: false,
  OpenStdin: false,
  StdinOnce: false,
  Image: '',
};

/** As Go's `omitempty` has it. */
function withoutEmpty(fields: object): object {
  const isGiven = (value: unknown): boolean =>
    value !== null && value !== '' && (typeof value !== 'object' || Object.keys(value).length > 0);
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => isGiven(value)));
}

function inspectImage({ images }: ImageParts, context: RouteContext): unknown {
  const { version, query } = context;
  const name = context.params['name']!;
  const wantsManifests = version[1] >= 48 && queryFlag(query, 'manifests');
  const platform = platformOfQuery(context, 49);
  if (wantsManifests && platform !== undefined)
    throw new ApiError('BadRequest', 'conflicting options: manifests and platform options cannot both be set');
  const found = images.target(name);
  const record = images.record(name, platform);
  // Names of the index are those of all its images.
  const target = platform === undefined ? targetOf(images, found) : { image: record };
  const named = found.index === undefined ? record : found.image;
  const { names, digests } = images.summarize(named);
  const summary = images.summarize(record);
  const config = record.file.config ?? {};
  // What is not set is left out since version 1.52.
  const given = (fields: object): object => (version[1] < 52 ? fields : withoutEmpty(fields));
  return {
    Id: record.id,
    RepoTags: names,
    RepoDigests: digests,
    ...given({
      Parent: record.parent ?? '',
      Comment: record.file.comment ?? '',
      DockerVersion: record.file.docker_version ?? '',
      Author: record.file.author ?? '',
    }),
    Created: record.file.created ?? isoNano(record.createdAtMs),
    Config: {
      ...(version[1] < 50 ? containerFields : {}),
      ...given({
        User: config.User ?? '',
        Env: config.Env ?? [],
        Cmd: config.Cmd ?? null,
        Volumes: config.Volumes ?? null,
        WorkingDir: config.WorkingDir ?? '',
        Entrypoint: config.Entrypoint ?? null,
        OnBuild: config.OnBuild ?? null,
        Labels: config.Labels ?? null,
      }),
      ...(config.ExposedPorts ? { ExposedPorts: config.ExposedPorts } : {}),
      ...(config.Healthcheck === undefined ? {} : { Healthcheck: config.Healthcheck }),
      ...(config.StopSignal ? { StopSignal: config.StopSignal } : {}),
      ...(config.Shell ? { Shell: config.Shell } : {}),
    },
    Architecture: record.file.architecture,
    ...(record.file.variant ? { Variant: record.file.variant } : {}),
    Os: record.file.os,
    Size: summary.sizeBytes,
    ...(version[1] < 44 ? { VirtualSize: summary.sizeBytes } : {}),
    GraphDriver: { Data: layerDirectories(images, record), Name: 'overlay2' },
    RootFS: { Type: 'layers', Layers: record.layers.map((layer) => layer.diffId) },
    ...(version[1] < 48 ? {} : { Descriptor: descriptorOf(images, target) }),
    ...(wantsManifests ? { Manifests: showManifests(images, target) } : {}),
    Metadata: {
      LastTagTime: isoNano(record.tagTimeMs ?? 0)
        .replace(/^1970-01-01T00:00:00\.000/, '0001-01-01T00:00:00')
        .replace(/^0001-01-01T00:00:00000000Z$/, '0001-01-01T00:00:00Z'),
    },
  };
}

async function createImage(parts: ImageParts, context: RouteContext): Promise<void> {
  const { query, request, response, signal } = context;
  const { images } = parts;
  const fromSource = query.get('fromSrc');
  if (fromSource !== null && fromSource !== '') {
    const repo = query.get('repo') ?? '';
    const name = repo === '' ? '' : `${repo}${query.get('tag') ? `:${query.get('tag')}` : ''}`;
    if (name !== '') parseReference(name);
    const platform = platformOf(query);
    await streamJson(response, async (stream) => {
      const source =
        fromSource === '-' ? (request as AsyncIterable<Uint8Array>) : await download(images, fromSource, signal);
      if (fromSource !== '-') stream.write({ status: `Downloading from ${fromSource}` });
      const record = await images.import(source, {
        name,
        message: query.get('message') ?? '',
        changes: applyChanges({}, query.getAll('changes')),
        ...(platform === undefined ? {} : { platform }),
      });
      stream.write({ status: record.id });
    });
    return;
  }
  const image = query.get('fromImage') ?? '';
  if (image === '') throw new ApiError('BadRequest', 'invalid reference format');
  const tag = query.get('tag') ?? '';
  const reference = parseReference(
    tag === '' ? image : /^[a-z0-9]+:/.test(tag) ? `${image}@${tag}` : `${image}:${tag}`,
  );
  const platform = platformOf(query);
  const credential = credentialOf(context);
  await streamJson(response, async (stream) => {
    const options = {
      onProgress: (event: Record<string, unknown>): void => stream.write(event),
      signal,
      ...(platform === undefined ? {} : { platform }),
      ...(credential === undefined ? {} : { credential }),
    };
    // Neither tag nor digest: all of the repository's tags, as docker has it.
    const tags =
      reference.tag === undefined && reference.digest === undefined
        ? await listTags(images.options, reference, options)
        : [undefined];
    for (const each of tags)
      await images.pull(familiarName(each === undefined ? reference : { ...reference, tag: each }), options);
  });
}

export async function download(
  images: ImageStore,
  url: string,
  signal: AbortSignal,
): Promise<AsyncIterable<Uint8Array>> {
  let target: URL;
  try {
    target = new URL(/^[a-z]+:\/\//i.test(url) ? url : `http://${url}`);
  } catch {
    throw new ApiError('BadRequest', `invalid url: ${url}`);
  }
  if (target.protocol !== 'http:' && target.protocol !== 'https:')
    throw new ApiError('BadRequest', `unsupported protocol scheme: ${target.protocol}`);
  let answer = await images.options.transport.call({ method: 'GET', url: target, signal });
  for (
    let hops = 0;
    hops < redirectsMax &&
    [301, 302, 303, 307, 308].includes(answer.statusCode ?? 0) &&
    answer.headers.location !== undefined;
    hops++
  ) {
    answer.resume();
    try {
      target = new URL(answer.headers.location, target);
    } catch {
      throw new ApiError('BadRequest', `invalid url: ${answer.headers.location}`);
    }
    if (target.protocol !== 'http:' && target.protocol !== 'https:')
      throw new ApiError('BadRequest', `unsupported protocol scheme: ${target.protocol}`);
    answer = await images.options.transport.call({ method: 'GET', url: target, signal });
  }
  if (answer.statusCode !== 200) {
    answer.resume();
    throw new ApiError(
      answer.statusCode === 404 ? 'NotFound' : 'InternalError',
      `Got HTTP status code >= 400: ${answer.statusCode} ${answer.statusMessage ?? ''}`,
    );
  }
  return answer;
}

async function loadImages(images: ImageStore, context: RouteContext, stream: JsonStream): Promise<void> {
  const platforms = archivePlatforms(context);
  const isQuiet = queryFlag(context.query, 'quiet');
  await images.load(
    context.request as AsyncIterable<Uint8Array>,
    (event) => {
      if ('stream' in event || !isQuiet) stream.write(event);
    },
    platforms,
  );
}

async function sendArchive(parts: ImageParts, context: RouteContext, names: string[]): Promise<void> {
  if (names.length === 0) throw new ApiError('BadRequest', 'no images named');
  const archive = await parts.images.save(names, archivePlatforms(context));
  context.response.writeHead(200, { 'Content-Type': 'application/x-tar' });
  await pipeline(Readable.from(archive, { objectMode: false }), context.response);
}

async function removeImage(parts: ImageParts, context: RouteContext): Promise<unknown> {
  const { untagged, deleted } = await parts.images.remove(context.params['name']!, {
    force: queryFlag(context.query, 'force'),
    keepsParents: queryFlag(context.query, 'noprune'),
    owner: 'docker',
    platforms: platformsOf(context, 50),
  });
  return [...untagged.map((name) => ({ Untagged: name })), ...deleted.map((id) => ({ Deleted: id }))];
}

async function pruneImages(parts: ImageParts, context: RouteContext): Promise<unknown> {
  const filters = parseFilters(context.query, ['dangling', 'label', 'label!', 'until']);
  const until = filters.get('until')?.[0];
  const onlyDangling = flagFilter(filters, 'dangling') ?? true;
  const { deleted, freedBytes } = await parts.images.prune({
    all: !onlyDangling,
    labels: (labels) => matchesLabels(filters, labels) && lacksLabels(filters, labels),
    ...(until === undefined ? {} : { untilMs: parseTime(until, parts.images.options.clock.now()) }),
  });
  return {
    ImagesDeleted:
      deleted.length === 0
        ? null
        : deleted.map((item) => ({
            ...(item.untagged === undefined ? {} : { Untagged: item.untagged }),
            ...(item.deleted === undefined ? {} : { Deleted: item.deleted }),
          })),
    SpaceReclaimed: freedBytes,
  };
}

export function imageRoutes(parts: ImageParts): Route[] {
  const { images } = parts;
  return [
    { method: 'GET', path: '/images/json', handle: async (context) => listImages(parts, context) },
    { method: 'GET', path: '/images/search', handle: (context) => searchImages(parts.images, context) },
    {
      method: 'GET',
      path: '/images/get',
      handle: (context) => sendArchive(parts, context, context.query.getAll('names')),
    },
    {
      method: 'GET',
      path: '/images/{name*}/get',
      handle: (context) => sendArchive(parts, context, [context.params['name']!]),
    },
    {
      method: 'GET',
      path: '/images/{name*}/json',
      handle: async (context) => inspectImage(parts, context),
    },
    {
      method: 'GET',
      path: '/images/{name*}/attestations',
      handle: (context) => listAttestations(images, context),
    },
    {
      method: 'GET',
      path: '/images/{name*}/history',
      handle: async (context) => images.history(context.params['name']!, platformOfQuery(context, 48)),
    },
    { method: 'POST', path: '/images/create', handle: (context) => createImage(parts, context) },
    {
      method: 'POST',
      path: '/images/load',
      handle: (context) => streamJson(context.response, (stream) => loadImages(images, context, stream)),
    },
    { method: 'POST', path: '/images/prune', handle: (context) => pruneImages(parts, context) },
    {
      method: 'POST',
      path: '/images/{name*}/push',
      handle: (context) => {
        const tag = context.query.get('tag') ?? '';
        const credential = credentialOf(context);
        const reference = parseReference(`${context.params['name']!}${tag === '' ? '' : `:${tag}`}`);
        const platform = platformOfQuery(context, 46);
        return streamJson(context.response, (stream) =>
          images.push(familiarName(reference), {
            onProgress: (event) => stream.write(event),
            signal: context.signal,
            ...(platform === undefined ? {} : { platform }),
            ...(credential === undefined ? {} : { credential }),
          }),
        );
      },
    },
    {
      method: 'POST',
      path: '/images/{name*}/tag',
      handle: async (context) => {
        const tag = context.query.get('tag') ?? '';
        await images.tag(context.params['name']!, `${context.query.get('repo') ?? ''}${tag === '' ? '' : `:${tag}`}`);
        return reply(201);
      },
    },
    { method: 'DELETE', path: '/images/{name*}', handle: (context) => removeImage(parts, context) },
  ];
}
