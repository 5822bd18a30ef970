/** `POST /build` of the classic builder, and `/build/prune`. */
import { ApiError } from '#base/errors.ts';
import { parseTags } from '#build/build.ts';
import type { Builder } from '#build/builder.ts';
import { cleanContextPath } from '#build/context.ts';
import type { ImageStore } from '#engine/images.ts';
import { parseFilters, parseTime } from './filters.ts';
import { streamJson } from './json-stream.ts';
import { queryFlag, reply } from './route.ts';
import type { Route, RouteContext } from './route.ts';

export interface BuildRouteParts {
  builder: Builder;
  images: ImageStore;
}

function jsonParameter<T>(query: URLSearchParams, name: string, fallback: T): T {
  const text = query.get(name) ?? '';
  if (text === '' || text === 'null') return fallback;
  try {
    const value = JSON.parse(text) as T;
    if (typeof value !== 'object' || value === null) throw new Error('not an object');
    return value;
  } catch { throw new ApiError('BadRequest', `error reading ${name}: invalid JSON`); }
}

function numberParameter(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name) ?? '';
  return text === '' || text === '0' ? undefined : Number.isFinite(Number(text)) ? Number(text) : undefined;
}

/** One field of the request under the name that the builder knows it by, left out where it is not given. */
function optional<K extends string>(key: K, value: number | undefined): Partial<Record<K, number>> { return value === undefined ? {} : { [key]: value } as Record<K, number>; }

// walk image-build 1/6: `POST /build`: parameters and the tar stream.
async function build(parts: BuildRouteParts, context: RouteContext): Promise<void> {
  const { query, request, response, signal } = context;
  if (query.get('version') === '2') throw new ApiError('BadRequest', 'BuildKit builds are not supported yet; use the classic builder (DOCKER_BUILDKIT=0)');
  if ((query.get('remote') ?? '') !== '' && query.get('remote') !== 'client-session') throw new ApiError('BadRequest', 'remote build contexts are not supported: send the context as the body');
  const dockerfile = query.get('dockerfile') || 'Dockerfile';
  const tags = query.getAll('t');
  parseTags(tags);
  const buildArgs = jsonParameter<Record<string, string | null>>(query, 'buildargs', {});
  const labels = jsonParameter<Record<string, string>>(query, 'labels', {});
  const isQuiet = queryFlag(query, 'q');
  if (queryFlag(query, 'squash')) throw new ApiError('BadRequest', 'squash is only supported with experimental mode');
  await streamJson(response, async (stream) => {
    await using buildContext = await parts.builder.receiveContext(request as AsyncIterable<Uint8Array>, dockerfile, signal);
    const text = buildContext.text(dockerfile);
    if (text === undefined) throw new ApiError('InternalError', `Cannot locate specified Dockerfile: ${cleanContextPath(dockerfile)}`, undefined, 500);
    const record = await parts.builder.build({
      dockerfile: text, context: buildContext, tags, buildArgs, labels, noCache: queryFlag(query, 'nocache'), pull: queryFlag(query, 'pull'), signal,
      ...(query.get('target') ? { target: query.get('target')! } : {}), ...(query.get('platform') ? { platform: query.get('platform')! } : {}),
      run: {
        network: query.get('networkmode') || 'default', extraHosts: query.getAll('extrahosts').flatMap((each) => each.split(',')).filter((each) => each !== ''),
        ...optional('shmSizeBytes', numberParameter(query, 'shmsize')), ...optional('memoryLimitBytes', numberParameter(query, 'memory')), ...optional('memorySwapBytes', numberParameter(query, 'memswap')),
        ...optional('cpuShares', numberParameter(query, 'cpushares')), ...optional('cpuQuotaUs', numberParameter(query, 'cpuquota')), ...optional('cpuPeriodUs', numberParameter(query, 'cpuperiod')),
        ...(query.get('cpusetcpus') ? { cpusetCpus: query.get('cpusetcpus')! } : {}),
      },
      onEvent: (event) => { if (!isQuiet) stream.write(event); },
    });
    if (isQuiet) stream.write({ stream: `${record.id}\n` });
  });
}

async function prune(parts: BuildRouteParts, context: RouteContext): Promise<unknown> {
  const filters = parseFilters(context.query, ['until', 'unused-for', 'id', 'parent', 'type', 'description', 'inuse', 'shared', 'private']);
  const until = filters.get('until')?.[0] ?? filters.get('unused-for')?.[0];
  const { ids, freedBytes } = await parts.builder.cache.prune({ all: queryFlag(context.query, 'all'), ...(until === undefined ? {} : { untilMs: parseTime(until, parts.images.options.clock.now()) }) });
  return { CachesDeleted: ids.length === 0 ? null : ids, SpaceReclaimed: freedBytes };
}

export function buildRoutes(parts: BuildRouteParts): Route[] {
  return [
    { method: 'POST', path: '/build', handle: (context) => build(parts, context) },
    { method: 'POST', path: '/build/prune', handle: (context) => prune(parts, context) },
    { method: 'POST', path: '/build/cancel', handle: async () => reply(204) },
  ];
}
