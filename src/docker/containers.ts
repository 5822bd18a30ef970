/**
 * `/containers/…`: create, list, inspect, start, stop, kill, remove, wait, attach, logs and the rest of a container's
 * life.
 */
import { cpus } from 'node:os';
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { findLink, linkNames } from '#engine/links.ts';
import { isPluginLog } from '#engine/log-drivers/options.ts';
import { findLogPlugin } from '#engine/log-drivers/plugin.ts';
import { parsePlatform } from '#base/platform.ts';
import { awaitedLater } from '#base/promises.ts';
import type { Container } from '#engine/container.ts';
import { treeBytes } from '#engine/tree-size.ts';
import { attachContainer, attachWebSocket } from './attach.ts';
import { lifeRoutes } from './container-life.ts';
import { listedContainers } from './context.ts';
import type { DockerParts } from './context.ts';
import { checkHealthTimes, checkPlatform, mergeHealthCheck, platformWarnings } from './create-checks.ts';
import type { CreateBody } from './create-body.ts';
import { adaptNetworking } from './create-network.ts';
import { specFromRequest } from './create-request.ts';
import {
  checkFilterValues,
  isFlagWord,
  lacksLabels,
  matchesAny,
  matchesPattern,
  matchesLabels,
  parseFilters,
  parseTime,
} from './filters.ts';
import { hostFacts } from './host-facts.ts';
import { exposedPorts, showContainer, showSummary, sizesOf } from './inspect.ts';
import { streamLogs } from './logs.ts';
import { portKey, splitTarget } from './ports.ts';
import { queryFlag, queryNumber, reply, terminalSize } from './route.ts';
import type { Filters, Route, RouteContext } from './route.ts';
import { fillRequest, fillSpec } from './settings.ts';
import { checkShape, createShape } from './shapes.ts';
import { showTop } from './top.ts';
import { apiVersion } from './server.ts';

const listFilters = [
  'annotation',
  'ancestor',
  'before',
  'expose',
  'exited',
  'health',
  'id',
  'isolation',
  'is-task',
  'label',
  'label!',
  'name',
  'network',
  'publish',
  'since',
  'status',
  'volume',
];

export function containerRoutes(parts: DockerParts): Route[] {
  const { engine } = parts;
  return [
    { method: 'GET', path: '/containers/json', handle: async (context) => listContainers(parts, context) },
    { method: 'POST', path: '/containers/create', handle: (context) => createContainer(parts, context) },
    {
      method: 'GET',
      path: '/containers/{id*}/json',
      handle: async (context) => {
        const reference = context.params['id'] ?? '';
        const link = findLink(engine.table, reference);
        const container = engine.table.get(link === undefined ? reference : link.text.replace(/:.*$/s, ''));
        return showContainer(
          parts,
          container,
          context.version,
          queryFlag(context.query, 'size') ? await sizesOf(parts, container) : undefined,
        );
      },
    },
    ...lifeRoutes(parts),
    { method: 'POST', path: '/containers/{id}/wait', handle: (context) => waitContainer(parts, context) },
    {
      method: 'POST',
      path: '/containers/{id}/resize',
      handle: async (context) => {
        const size = terminalSize(context.query);
        const container = engine.table.get(context.params['id']!);
        if (!container.isRunning) throw new ApiError('Conflict', `Container ${container.id} is not running`);
        engine.containers.resize(container.id, size);
        return reply(200);
      },
    },
    { method: 'POST', path: '/containers/{id}/attach', handle: (context) => attachContainer(parts, context) },
    { method: 'GET', path: '/containers/{id}/attach/ws', handle: (context) => attachWebSocket(parts, context) },
    { method: 'GET', path: '/containers/{id}/logs', handle: (context) => streamLogs(parts, context) },
    {
      method: 'GET',
      path: '/containers/{id}/top',
      handle: async (context) =>
        showTop(parts, engine.table.get(context.params['id']!), context.query.get('ps_args') ?? '-ef'),
    },
    { method: 'POST', path: '/containers/prune', handle: (context) => pruneContainers(parts, context) },
  ];
}

// walk docker-run 2/7: the body of `POST /containers/create` becomes a `ContainerSpec`.
async function createContainer(parts: DockerParts, context: RouteContext): Promise<unknown> {
  const body = await context.json();
  checkShape(body, createShape, 'CreateRequest');
  const { engine } = parts;
  const name = context.query.get('name')?.replace(/^\//, '') ?? '';
  const reference = body.Image ?? '';
  if (reference === '') throw new ApiError('BadRequest', 'config cannot be empty in order to create a container');
  const platform = context.query.get('platform') ?? '';
  const image =
    (platform === '' ? undefined : engine.images.find(reference, { platform: parsePlatform(platform) })) ??
    engine.images.find(reference);
  if (image === undefined) throw new ApiError('NotFound', `No such image: ${withTag(reference)}`);
  checkPlatform(context.query.get('platform'), reference, image.platform);
  const health = mergeHealthCheck(body.Healthcheck, image.config.healthcheck);
  checkHealthTimes(health);
  if (health !== undefined) body.Healthcheck = health;
  const exposed = [...image.config.exposedPorts, ...Object.keys(body.ExposedPorts ?? {})];
  body.ExposedPorts = Object.fromEntries(exposed.map((port) => [portKey(port), {}]));
  const warnings = adaptNetworking(body, context.version);
  adaptHost(body, context.version);
  // The default of clients that know no private one.
  if (context.version[1] < 40 && !body.HostConfig?.IpcMode)
    body.HostConfig = { ...body.HostConfig, IpcMode: 'shareable' };
  const { containers: defaults } = parts.settings();
  fillRequest(body, defaults);
  const spec = specFromRequest(
    body,
    name === '' ? pickName(parts) : name,
    image.id,
    hostFacts(parts, cpus().length, warnings),
  );
  spec.labels = { ...image.config.labels, ...spec.labels };
  fillSpec(spec, body, defaults);
  resolveReferences(parts, spec);
  if (spec.logDriver !== undefined && isPluginLog(spec.logDriver.name))
    await findLogPlugin(engine.plugins, spec.logDriver.name).catch((error: unknown) => {
      throw new ApiError('InternalError', `failed to initialize logging driver: ${messageOf(error)}`);
    });
  const id = await engine.containers.create(spec);
  return reply(201, {
    Id: id,
    Warnings: [...platformWarnings(context.query.get('platform'), image.platform), ...warnings],
  });
}

/** What a version does not know of the host's part of a body, it passes over. */
function adaptHost({ HostConfig: host }: CreateBody, [, minor]: RouteContext['version']): void {
  if (!host) return;
  if (minor >= 52) delete host['KernelMemoryTCP'];
  if (minor < 56) delete host.Umask;
  else if ((host.Umask ?? 0) < 0 || (host.Umask ?? 0) > 0xffff_ffff)
    throw new ApiError(
      'BadRequest',
      `json: cannot unmarshal number ${host.Umask} into Go struct field HostConfig.Umask of type uint32`,
    );
}

function withTag(image: string): string {
  return image.includes('@') || image.slice(image.lastIndexOf('/') + 1).includes(':') ? image : `${image}:latest`;
}

/** Other containers are named by their ids in the record: a rename must not break what depends on them. */
export function resolveReferences(parts: DockerParts, spec: ReturnType<typeof specFromRequest>): void {
  // Bad input, as in docker: a client that is told "not found" would go and pull the image.
  const find = (reference: string, why = ''): Container => {
    const found = parts.engine.table.find(reference);
    if (found === undefined) throw new ApiError('BadRequest', `${why}No such container: ${reference}`);
    return found;
  };
  const resolve = (reference: string): string => find(reference).id;
  for (const link of spec.links ?? []) {
    const name = link.replace(/:.*$/s, '');
    find(name, `could not get container for ${name}: `);
  }
  // As in docker, whose network is joined is asked at the start.
  if (spec.network.type === 'container')
    spec.network = {
      type: 'container',
      containerId: parts.engine.table.find(spec.network.containerId)?.id ?? spec.network.containerId,
    };
  if (spec.pidMode?.type === 'container')
    spec.pidMode = { type: 'container', containerId: resolve(spec.pidMode.containerId) };
  if (spec.ipcMode?.type === 'container')
    spec.ipcMode = { type: 'container', containerId: resolve(spec.ipcMode.containerId) };
  const from = (spec.request?.['HostConfig'] as { VolumesFrom?: string[] } | undefined)?.VolumesFrom ?? [];
  for (const entry of from) {
    const [reference = '', mode, ...more] = entry.split(':');
    if (more.length > 0 || reference === '')
      throw new ApiError('BadRequest', `invalid volumes-from specification: ${JSON.stringify(entry)}`);
    if (
      mode !== undefined &&
      !['ro', 'rw', 'z', 'Z', 'ro,z', 'rw,z', 'ro,Z', 'rw,Z', 'z,ro', 'z,rw', 'Z,ro', 'Z,rw'].includes(mode)
    )
      throw new ApiError('BadRequest', `invalid mode: ${mode}`);
    for (const mount of find(reference).record.spec.mounts) {
      if (!spec.mounts.some((other) => other.target === mount.target))
        spec.mounts.push({
          ...mount,
          readOnly: mount.readOnly || mode?.split(',').includes('ro') === true,
          populate: false,
        });
    }
  }
}

const adjectives = [
  'brave',
  'calm',
  'bright',
  'eager',
  'fair',
  'glad',
  'keen',
  'kind',
  'lucid',
  'merry',
  'noble',
  'proud',
  'quick',
  'quiet',
  'sharp',
  'steady',
  'swift',
  'tidy',
  'warm',
  'wise',
];
const sailors = [
  'jason',
  'orpheus',
  'atalanta',
  'heracles',
  'castor',
  'pollux',
  'peleus',
  'lynceus',
  'argus',
  'zetes',
  'calais',
  'idmon',
  'mopsus',
  'ancaeus',
  'nauplius',
  'euphemus',
  'meleager',
  'telamon',
  'laertes',
  'medea',
];

function pickName(parts: DockerParts): string {
  const pick = <T>(list: T[]): T => list[Math.floor(parts.random.float() * list.length)]!;
  for (let tries = 0; ; tries++) {
    const name = `${pick(adjectives)}_${pick(sailors)}${tries < 6 ? '' : Math.floor(parts.random.float() * 100_000)}`;
    if (parts.engine.table.find(name) === undefined) return name;
  }
}

async function listContainers(parts: DockerParts, context: RouteContext): Promise<unknown> {
  const filters = parseFilters(context.query, listFilters);
  const limit = queryNumber(context.query, 'limit');
  const oneOf =
    (...words: string[]) =>
    (value: string): boolean =>
      words.includes(value);
  checkFilterValues(filters, {
    status: oneOf('created', 'running', 'paused', 'restarting', 'removing', 'exited', 'dead'),
    health: oneOf('starting', 'healthy', 'unhealthy', 'none'),
    exited: (value) => /^-?\d{1,9}$/.test(value),
    'is-task': isFlagWord,
    isolation: oneOf('', 'default', 'process', 'hyperv'),
  });
  for (const value of [...(filters.get('publish') ?? []), ...(filters.get('expose') ?? [])]) portFilter([])(value);
  // Names are looked up though there may be nothing to order by them.
  for (const reference of [...(filters.get('before') ?? []), ...(filters.get('since') ?? [])])
    parts.engine.table.get(reference);
  const all = queryFlag(context.query, 'all') || limit > 0 || filters.has('status') || filters.has('exited');
  const found = listedContainers(parts).filter(
    (container) =>
      (all || container.isRunning || container.record.state === 'restarting') &&
      matchesFilters(parts, container, filters),
  );
  found.sort((a, b) => b.record.createdAtMs - a.record.createdAtMs);
  const shown = found.slice(0, limit > 0 ? limit : undefined);
  const links = linkNames(parts.engine.table);
  const { version } = context;
  if (!queryFlag(context.query, 'size'))
    return shown.map((container) => showSummary(parts, container, { version, links }));
  return Promise.all(
    shown.map(async (container) =>
      showSummary(parts, container, { version, links, sizes: await sizesOf(parts, container) }),
    ),
  );
}

function matchesFilters(parts: DockerParts, container: Container, filters: Filters): boolean {
  const { record } = container;
  const { engine } = parts;
  const image = filters.has('ancestor') ? engine.images.find(record.spec.imageId) : undefined;
  const order = (name: string, sign: 1 | -1): boolean =>
    matchesAny(
      filters,
      name,
      (reference) => (record.createdAtMs - engine.table.get(reference).record.createdAtMs) * sign > 0,
    );
  return (
    matchesAny(filters, 'id', (value) => record.id.startsWith(value)) &&
    matchesAny(
      filters,
      'name',
      (value) => matchesPattern(container.name, value) || matchesPattern(`/${container.name}`, value),
    ) &&
    matchesAny(filters, 'status', (value) => record.state === value) &&
    matchesAny(filters, 'exited', (value) => record.state === 'exited' && String(record.exitCode) === value) &&
    matchesAny(filters, 'health', (value) => (container.health?.status ?? 'none') === value) &&
    matchesAny(
      filters,
      'ancestor',
      (value) => record.spec.image === value || (image !== undefined && engine.images.find(value)?.id === image.id),
    ) &&
    matchesAny(
      filters,
      'network',
      (value) =>
        record.networks.some(
          (attached) =>
            attached.networkId.startsWith(value) || engine.networks.findExact(attached.networkId)?.name === value,
        ) || record.spec.network.type === value,
    ) &&
    matchesAny(filters, 'volume', (value) =>
      record.spec.mounts.some((mount) => mount.source === value || mount.target === value),
    ) &&
    matchesAny(
      filters,
      'publish',
      portFilter((record.run?.ports ?? []).map((port) => ({ port: port.hostPort, protocol: port.protocol }))),
    ) &&
    matchesAny(filters, 'expose', (value) =>
      portFilter([...exposedPorts(parts, container).map(splitTarget), ...(record.run?.ports ?? [])])(value),
    ) &&
    matchesAny(filters, 'is-task', (value) => /^(0|f|false)$/i.test(value)) &&
    matchesAny(filters, 'isolation', (value) => value === '' || value === 'default') &&
    matchesLabels(filters, record.spec.labels) &&
    matchesLabels(filters, record.spec.annotations ?? {}, 'annotation') &&
    lacksLabels(filters, record.spec.labels) &&
    order('before', -1) &&
    order('since', 1)
  );
}

/** `80`, `80/udp`, `8000-8010/tcp`; without a protocol tcp. */
function portFilter(ports: { port: number; protocol: string }[]): (value: string) => boolean {
  return (value) => {
    const match = /^(\d{1,5})(?:-(\d{1,5}))?(?:\/(tcp|udp|sctp))?$/i.exec(value);
    if (match === null) throw new ApiError('BadRequest', `invalid port filter '${value}': invalid containerPort`);
    const [from, to, protocol] = [Number(match[1]), Number(match[2] ?? match[1]), (match[3] ?? 'tcp').toLowerCase()];
    return ports.some((port) => port.protocol === protocol && port.port >= from && port.port <= to);
  };
}

async function waitContainer(parts: DockerParts, context: RouteContext): Promise<unknown> {
  const condition = context.query.get('condition') ?? '';
  if (!['', 'not-running', 'next-exit', 'removed'].includes(condition))
    throw new ApiError('BadRequest', `invalid condition: "${condition}"`);
  const container = parts.engine.table.get(context.params['id']!);
  const waiting = parts.engine.containers.waitCondition(
    container.id,
    condition === '' ? 'not-running' : (condition as 'removed'),
    context.signal,
  );
  void awaitedLater(waiting);
  // Clients start the container only once they have seen that the wait is in place.
  context.response.writeHead(200, { 'Content-Type': 'application/json', 'Api-Version': apiVersion, Ostype: 'linux' });
  context.response.flushHeaders();
  try {
    const code = await waiting;
    context.response.end(`${JSON.stringify({ StatusCode: code })}\n`);
  } catch {
    context.response.destroy();
  }
  return undefined;
}

async function pruneContainers(parts: DockerParts, context: RouteContext): Promise<unknown> {
  const filters = parseFilters(context.query, ['until', 'label', 'label!']);
  const untilText = filters.get('until')?.[0];
  const until = untilText === undefined ? Infinity : parseTime(untilText, parts.clock.now());
  const deleted: string[] = [];
  let reclaimed = 0;
  for (const container of parts.engine.table.list()) {
    const { record } = container;
    // Only what is docker's own: Pods' containers are the cluster's to collect.
    if (
      record.spec.owner !== 'docker' ||
      container.isRunning ||
      record.state === 'restarting' ||
      record.createdAtMs > until
    )
      continue;
    if (!matchesLabels(filters, record.spec.labels) || !lacksLabels(filters, record.spec.labels)) continue;
    const bytes = await treeBytes(parts.engine.context.snapshots.upperDir(record.id));
    await parts.engine.containers.remove(record.id).then(
      () => {
        deleted.push(record.id);
        reclaimed += bytes;
      },
      () => undefined,
    );
  }
  return { ContainersDeleted: deleted.length === 0 ? null : deleted, SpaceReclaimed: reclaimed };
}
