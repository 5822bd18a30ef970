/**
 * The parameters of `POST /build` as the builder knows them. Every parameter of the Engine API is here: carried out,
 * refused with docker's words, or answered with a warning in the build's output (`buildParameters` is checked against
 * the API's list by a test).
 */
import { ApiError } from '#base/errors.ts';
import { parsePlatform } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import { parseTags } from '#build/build.ts';
import type { BuildRequest } from '#build/build.ts';
import type { RegistryCredential } from '#engine/engine.ts';
import { specFromRequest } from './create-request.ts';
import { queryFlag } from './route.ts';
import type { RouteContext } from './route.ts';
import { checkShape, createShape } from './shapes.ts';

/** What becomes of each parameter. */
export const buildParameters: Readonly<Record<string, 'done' | 'refused' | 'warned'>> = {
  dockerfile: 'done',
  t: 'done',
  extrahosts: 'done',
  remote: 'done',
  q: 'done',
  nocache: 'done',
  cachefrom: 'warned',
  pull: 'done',
  rm: 'warned',
  forcerm: 'done',
  memory: 'done',
  memswap: 'done',
  cpushares: 'done',
  cpusetcpus: 'done',
  cpusetmems: 'done',
  cpuperiod: 'done',
  cpuquota: 'done',
  buildargs: 'done',
  shmsize: 'done',
  squash: 'refused',
  labels: 'done',
  networkmode: 'done',
  platform: 'done',
  target: 'done',
  outputs: 'refused',
  version: 'refused',
  ulimits: 'done',
  cgroupparent: 'done',
  isolation: 'refused',
  securityopt: 'refused',
  session: 'refused',
  buildid: 'done',
};

export interface BuildParameters {
  dockerfile: string;
  remote: string;
  isQuiet: boolean;
  buildId: string;
  request: Omit<BuildRequest, 'hiddenEnv' | 'hiddenMounts' | 'dockerfile' | 'context' | 'signal' | 'onEvent'>;
  /** Told before the first step. */
  warnings: string[];
}

function jsonParameter(query: URLSearchParams, name: string): unknown {
  const text = query.get(name) ?? '';
  if (text === '') return null;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new ApiError('BadRequest', `error reading ${name}: invalid JSON`);
  }
}

function mapParameter<T extends string | null>(
  query: URLSearchParams,
  name: string,
  isNullable: boolean,
): Record<string, T> {
  const value = jsonParameter(query, name);
  if (value === null) return {};
  const fits =
    typeof value === 'object' &&
    !Array.isArray(value) &&
    Object.values(value).every((each) => typeof each === 'string' || (isNullable && each === null));
  if (!fits) throw new ApiError('BadRequest', `error reading ${name}: must be an object of strings`);
  return value as Record<string, T>;
}

/** docker's `Int64Value`: what is no number is an error. */
function numberParameter(query: URLSearchParams, name: string): number {
  const text = (query.get(name) ?? '').trim();
  if (text === '') return 0;
  const value = Number(text);
  if (!/^[+-]?\d+$/.test(text) || !Number.isSafeInteger(value))
    throw new ApiError(
      'BadRequest',
      `invalid ${name}: strconv.ParseInt: parsing ${JSON.stringify(text.slice(0, 100))}: invalid syntax`,
    );
  return value;
}

/**
 * `X-Registry-Config`: credentials by registry, for images that stages start from. A malformed one counts as none, as
 * in docker.
 */
function credentialsOf(context: RouteContext): ReadonlyMap<string, RegistryCredential> {
  const out = new Map<string, RegistryCredential>();
  const header = context.request.headers['x-registry-config'];
  if (typeof header !== 'string') return out;
  let configs: Record<string, { username?: unknown; password?: unknown; identitytoken?: unknown } | null> | null;
  try {
    configs = JSON.parse(Buffer.from(header, 'base64url').toString('utf8')) as typeof configs;
  } catch {
    return out;
  }
  for (const [address, config] of Object.entries(configs ?? {})) {
    const text = (value: unknown): string | undefined =>
      typeof value === 'string' && value !== '' ? value : undefined;
    const [username, password, identityToken] = [
      text(config?.username),
      text(config?.password),
      text(config?.identitytoken),
    ];
    if (username === undefined && identityToken === undefined) continue;
    const domain = address
      .replace(/^https?:\/\//, '')
      .replace(/\/.*$/, '')
      .replace(/^(?:index|registry-1)\.docker\.io$/, 'docker.io');
    out.set(domain, {
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
      ...(identityToken === undefined ? {} : { identityToken }),
    });
  }
  return out;
}

function refuseUnsupported(query: URLSearchParams): void {
  const refuse = (message: string): never => {
    throw new ApiError('BadRequest', message);
  };
  const version = query.get('version') ?? '';
  if (version === '2') refuse('BuildKit builds are not supported yet; use the classic builder (DOCKER_BUILDKIT=0)');
  if (version !== '' && version !== '1') refuse(`invalid version: ${version.slice(0, 20)}`);
  if ((query.get('session') ?? '') !== '')
    refuse('sessions are not supported by the classic builder: they need BuildKit');
  const outputs = jsonParameter(query, 'outputs');
  if (outputs !== null && !(Array.isArray(outputs) && outputs.length === 0))
    refuse('outputs are not supported by the classic builder: they need BuildKit');
  if (queryFlag(query, 'squash')) refuse('squash is only supported with experimental mode');
  const isolation = (query.get('isolation') ?? '').toLowerCase();
  if (isolation !== '' && isolation !== 'default')
    refuse(`unsupported isolation: ${JSON.stringify(isolation.slice(0, 100))}`);
  if (query.getAll('securityopt').some((each) => each !== ''))
    refuse('The daemon on this platform does not support setting security options on build');
}

/** Bounds of the steps, read and checked as those of a container. */
function stepLimits(query: URLSearchParams): BuildRequest['run'] {
  const ulimits = jsonParameter(query, 'ulimits');
  const network = query.get('networkmode') || 'default';
  const host = {
    Memory: numberParameter(query, 'memory'),
    MemorySwap: numberParameter(query, 'memswap'),
    CpuShares: numberParameter(query, 'cpushares'),
    CpuQuota: numberParameter(query, 'cpuquota'),
    CpuPeriod: numberParameter(query, 'cpuperiod'),
    CpusetCpus: query.get('cpusetcpus') ?? '',
    CpusetMems: query.get('cpusetmems') ?? '',
    ShmSize: numberParameter(query, 'shmsize'),
    CgroupParent: query.get('cgroupparent') ?? '',
    ExtraHosts: query
      .getAll('extrahosts')
      .flatMap((each) => each.split(','))
      .filter((each) => each !== ''),
    ...(ulimits === null ? {} : { Ulimits: ulimits }),
    NetworkMode: network,
  };
  if (ulimits !== null && !Array.isArray(ulimits))
    throw new ApiError('BadRequest', 'error reading ulimits: must be a list');
  for (const name of ['Memory', 'ShmSize', 'CpuShares', 'CpuPeriod'] as const)
    if (host[name] < 0) throw new ApiError('BadRequest', `${name.toLowerCase()} must not be negative`);
  const body = { Image: 'build', HostConfig: host };
  checkShape(body, createShape, 'CreateRequest');
  const spec = specFromRequest(body, 'build', '');
  if (host.CgroupParent !== '' && spec.cgroupParent === undefined)
    throw new ApiError('BadRequest', `invalid cgroupparent: ${host.CgroupParent.slice(0, 100)}`);
  return {
    network,
    extraHosts: spec.extraHosts ?? [],
    resources: spec.resources,
    ...(host.ShmSize === 0 ? {} : { shmSizeBytes: host.ShmSize }),
    ...(spec.cgroupParent === undefined ? {} : { cgroupParent: spec.cgroupParent }),
  };
}

function warningsOf(query: URLSearchParams): string[] {
  const out: string[] = [];
  const sources = jsonParameter(query, 'cachefrom');
  if (sources !== null && (!Array.isArray(sources) || !sources.every((each) => typeof each === 'string')))
    throw new ApiError('BadRequest', 'error reading cachefrom: must be a list of strings');
  if (Array.isArray(sources) && sources.length > 0)
    out.push(
      "[Warning] --cache-from has no effect here: steps are looked up in this engine's own build cache, images are not searched for them",
    );
  if (query.get('rm') !== null && query.get('rm') !== '' && !queryFlag(query, 'rm'))
    out.push('[Warning] --rm=false has no effect here: containers of steps are always removed');
  return out;
}

/** Throws ApiError BadRequest before anything of the context was read. */
export function parseBuildRequest(context: RouteContext): BuildParameters {
  const { query } = context;
  refuseUnsupported(query);
  const tags = query.getAll('t');
  parseTags(tags);
  const platformText = query.get('platform') ?? '';
  const platform: Platform | undefined = platformText === '' ? undefined : parsePlatform(platformText);
  const credentials = credentialsOf(context);
  return {
    dockerfile: query.get('dockerfile') || 'Dockerfile',
    remote: query.get('remote') ?? '',
    isQuiet: queryFlag(query, 'q'),
    buildId: query.get('buildid') ?? '',
    warnings: warningsOf(query),
    request: {
      tags,
      buildArgs: mapParameter<string | null>(query, 'buildargs', true),
      labels: mapParameter<string>(query, 'labels', false),
      noCache: queryFlag(query, 'nocache'),
      pull: queryFlag(query, 'pull'),
      run: stepLimits(query),
      ...(query.get('target') ? { target: query.get('target')! } : {}),
      ...(platform === undefined ? {} : { platform }),
      ...(credentials.size === 0 ? {} : { credential: async (domain: string) => credentials.get(domain) }),
    },
  };
}
