/** `POST /build` of the classic builder, and `/build/prune`. */
import { ApiError } from '#base/errors.ts';
import { looksLikeTar } from '#base/tar-header.ts';
import { encodeTarFile, tarEnd } from '#base/tar-write.ts';
import { fileSystemAt } from '#os/files.ts';
import type { Builder } from '#build/builder.ts';
import type { CacheItem } from '#build/cache-store.ts';
import { cleanContextPath } from '#build/context.ts';
import { dockerfileBytesMax } from '#build/limits.ts';
import { detectCompression, peek } from '#content/compression.ts';
import { readAll } from '#content/remote.ts';
import type { ImageStore } from '#engine/images.ts';
import { parseBuildRequest } from './build-request.ts';
import { parseFilters, parseTime } from './filters.ts';
import { download } from './images.ts';
import { streamJson } from './json-stream.ts';
import { queryFlag, queryNumber, reply } from './route.ts';
import type { Route, RouteContext } from './route.ts';

export interface BuildRouteParts {
  builder: Builder;
  images: ImageStore;
}

/** A context that the engine is to fetch: an archive, or one file that is the Dockerfile. */
async function fetchContext(
  parts: BuildRouteParts,
  url: string,
  signal: AbortSignal,
): Promise<AsyncIterable<Uint8Array>> {
  if (/^(?:git|ssh):\/\/|^git@|^github\.com\/|\.git(?:#.*)?$/i.test(url))
    throw new ApiError(
      'BadRequest',
      "git repositories are not fetched by this engine: docker's client clones them itself, or send the context as the body",
    );
  const { head, whole } = await peek(await download(parts.images, url, signal), 512);
  if (detectCompression(head) !== 'none' || looksLikeTar(head)) return whole;
  const text = await readAll(whole, dockerfileBytesMax);
  return (async function* () {
    yield Buffer.concat([encodeTarFile({ path: 'Dockerfile' }, text), tarEnd]);
  })();
}

// walk image-build 1/6: `POST /build`: parameters and the tar stream.
async function build(
  parts: BuildRouteParts,
  context: RouteContext,
  running: Map<string, AbortController>,
): Promise<void> {
  const { request, response } = context;
  const { dockerfile, remote, isQuiet, buildId, warnings, request: asked } = parseBuildRequest(context);
  const cancel = new AbortController();
  const signal = AbortSignal.any([context.signal, cancel.signal]);
  if (buildId !== '') {
    if (running.has(buildId)) throw new ApiError('Conflict', `a build with the ID ${buildId.slice(0, 100)} is running`);
    running.set(buildId, cancel);
  }
  try {
    await streamJson(response, async (stream) => {
      const source =
        remote === '' || remote === 'client-session'
          ? (request as AsyncIterable<Uint8Array>)
          : await fetchContext(parts, remote, signal);
      await using buildContext = await parts.builder.receiveContext(source, { dockerfile, signal });
      const text = buildContext.text(dockerfile);
      if (text === undefined)
        throw new ApiError(
          'InternalError',
          `Cannot locate specified Dockerfile: ${cleanContextPath(dockerfile)}`,
          undefined,
          500,
        );
      const onEvent = (event: Record<string, unknown>): void => {
        if (!isQuiet) stream.write(event);
      };
      for (const warning of warnings) onEvent({ stream: `${warning}\n` });
      const record = await parts.builder.build({ ...asked, dockerfile: text, context: buildContext, signal, onEvent });
      if (isQuiet) stream.write({ stream: `${record.id}\n` });
    });
  } finally {
    if (running.get(buildId) === cancel) running.delete(buildId);
  }
}

/** Ends a build that was begun with this `buildid`. */
function cancelBuild(context: RouteContext, running: Map<string, AbortController>): unknown {
  const id = context.query.get('id') ?? '';
  if (id === '') throw new ApiError('BadRequest', 'build ID not provided');
  running.get(id)?.abort(new ApiError('Conflict', 'the build was cancelled'));
  return reply(204);
}

/** BuildKit's rule: as much as `max-used-space` and `min-free-space` allow, but never less than is reserved. */
function keepBytes(parts: BuildRouteParts, query: URLSearchParams): number | undefined {
  const [reserved, mostUsed, leastFree] = [
    queryNumber(query, 'reserved-space') || queryNumber(query, 'keep-storage'),
    queryNumber(query, 'max-used-space'),
    queryNumber(query, 'min-free-space'),
  ];
  if (reserved === 0 && mostUsed === 0 && leastFree === 0) return undefined;
  const { availableBytes } = fileSystemAt(parts.images.options.content.root);
  const total = parts.builder.cache.list().reduce((sum, item) => sum + item.sizeBytes, 0);
  const excess = leastFree - availableBytes;
  return Math.max(
    reserved,
    Math.min(
      mostUsed === 0 ? (leastFree === 0 ? 0 : total) : mostUsed,
      excess > 0 ? Math.max(0, total - excess) : Number.MAX_SAFE_INTEGER,
    ),
  );
}

async function prune(parts: BuildRouteParts, context: RouteContext): Promise<unknown> {
  const filters = parseFilters(context.query, [
    'until',
    'unused-for',
    'id',
    'parent',
    'type',
    'description',
    'inuse',
    'shared',
    'private',
    'label',
    'label!',
  ]);
  const until = filters.get('until')?.[0] ?? filters.get('unused-for')?.[0];
  const keep = keepBytes(parts, context.query);
  const own = [...filters].filter(([name]) => name !== 'until' && name !== 'unused-for');
  const isTrue = (value: string): boolean => ['', '1', 'true'].includes(value.toLowerCase());
  // Steps here have no parent in the cache, and none is shared with another builder.
  const matches = (item: CacheItem): boolean =>
    own.every(([name, values]) =>
      values.some((value) => {
        switch (name) {
          case 'id':
            return item.id.startsWith(value);
          case 'type':
            return value === item.type;
          case 'description':
            return item.about.includes(value);
          case 'inuse':
            return isTrue(value) === item.isInUse;
          case 'private':
            return isTrue(value);
          case 'shared':
            return !isTrue(value);
          // `docker system prune --filter label=…` asks here, too: nothing in a cache has a label.
          case 'label!':
            return true;
          default:
            return false;
        }
      }),
    );
  const { removed, freedBytes } = await parts.builder.cache.prune({
    all: queryFlag(context.query, 'all'),
    ...(until === undefined ? {} : { untilMs: parseTime(until, parts.images.options.clock.now()) }),
    ...(keep === undefined ? {} : { keepBytes: keep }),
    ...(own.length === 0 ? {} : { matches }),
  });
  const ids = removed.map((item) => item.id);
  return { CachesDeleted: ids.length === 0 ? null : ids, SpaceReclaimed: freedBytes };
}

export function buildRoutes(parts: BuildRouteParts): Route[] {
  const running = new Map<string, AbortController>();
  return [
    { method: 'POST', path: '/build', handle: (context) => build(parts, context, running) },
    { method: 'POST', path: '/build/prune', handle: (context) => prune(parts, context) },
    { method: 'POST', path: '/build/cancel', handle: async (context) => cancelBuild(context, running) },
  ];
}
