/**
 * `docker commit`: a container's writable layer and its whole configuration (the image's, and what its request said in
 * its place) become an image. The container may be running, paused, ended or never started; what runs stands still
 * meanwhile, unless the client does not want that.
 */
import { ApiError } from '#base/errors.ts';
import { statIfExists } from '#os/files.ts';
import { applyChanges } from '#build/dockerfile/changes.ts';
import type { RunConfig } from '#content/image-file.ts';
import type { Container } from '#engine/container.ts';
import { emitPause, whileStill } from '#engine/freeze.ts';
import type { ImageStore } from '#engine/images.ts';
import type { DockerParts } from './context.ts';
import { exposedPorts } from './inspect.ts';
import { queryFlag, reply } from './route.ts';
import type { Route, RouteContext } from './route.ts';
import { checkShape, commitShape } from './shapes.ts';

export function commitRoutes(parts: DockerParts, images: ImageStore): Route[] {
  return [{ method: 'POST', path: '/commit', handle: (context) => commit(parts, images, context) }];
}

async function commit(parts: DockerParts, images: ImageStore, context: RouteContext): Promise<unknown> {
  const { query } = context;
  const body = await context.json();
  checkShape(body, commitShape, 'Config');
  const reference = query.get('container') ?? '';
  if (reference === '') throw new ApiError('NotFound', `No such container: ${reference}`);
  const { table } = parts.engine;
  const container = table.get(reference);
  const own = configOf(parts, images, container);
  const changes = query
    .getAll('changes')
    .flatMap((each) => each.split('\n'))
    .filter((each) => each !== '');
  const config = applyChanges(mergeConfig(own, body as RunConfig), changes);
  const repo = query.get('repo') ?? '';
  const tag = query.get('tag') ?? '';
  const parent = images.options.records.get(container.record.spec.imageId);
  const write = async (): Promise<string> => {
    const upper = table.context.snapshots.upperDir(container.id);
    const record = await images.commit({
      config,
      comment: query.get('comment') ?? '',
      author: query.get('author') ?? '',
      createdBy: (own.Cmd ?? []).join(' '),
      ...(statIfExists(upper) !== undefined ? { upper } : {}),
      ...(parent === undefined ? {} : { parent }),
      ...(repo === '' ? {} : { name: `${repo}${tag === '' ? '' : `:${tag}`}` }),
    });
    parts.engine.events.emit({
      type: 'container',
      action: 'commit',
      id: container.id,
      attributes: {
        ...container.record.spec.labels,
        comment: query.get('comment') ?? '',
        image: container.record.spec.image,
        imageID: record.id,
        imageRef: repo,
        name: container.name,
      },
      owner: container.record.spec.owner,
    });
    return record.id;
  };
  const pauses = query.get('pause') === null || queryFlag(query, 'pause');
  if (!pauses) return reply(201, { Id: await write() });
  return reply(201, {
    Id: await whileStill(table, container, async (frozen) => {
      const tells = frozen && container.record.state === 'running';
      if (tells) emitPause(table, container, true);
      try {
        return await write();
      } finally {
        if (tells && container.record.state === 'running') emitPause(table, container, false);
      }
    }),
  });
}

/** The configuration that the container runs with. */
function configOf(parts: DockerParts, images: ImageStore, container: Container): RunConfig {
  const { spec } = container.record;
  const image: RunConfig = images.options.records.get(spec.imageId)?.file.config ?? {};
  const request = (spec.request ?? {}) as RunConfig;
  const asked: RunConfig = {
    Env: spec.env,
    Labels: spec.labels,
    ExposedPorts: Object.fromEntries(exposedPorts(parts, container).map((port) => [port, {}])),
    Volumes: request.Volumes ?? null,
    ...(spec.workingDir === undefined ? {} : { WorkingDir: spec.workingDir }),
    ...(spec.user === undefined ? {} : { User: spec.user }),
    ...(spec.stopSignal === undefined ? {} : { StopSignal: spec.stopSignal }),
    Shell: request.Shell ?? null,
    OnBuild: request.OnBuild ?? null,
    ...(request.Healthcheck === undefined || request.Healthcheck === null ? {} : { Healthcheck: request.Healthcheck }),
  };
  const merged = mergeConfig(image, asked);
  // A new entrypoint drops the image's command.
  if (spec.entrypoint !== undefined) Object.assign(merged, { Entrypoint: spec.entrypoint, Cmd: spec.command ?? null });
  else if (spec.command !== undefined) merged.Cmd = spec.command;
  return merged;
}

/**
 * What `over` says, and of `base` what it does not: variables, labels, ports and volumes one by one. Exported for
 * tests.
 */
export function mergeConfig(base: RunConfig, over: RunConfig): RunConfig {
  const named = new Set((over.Env ?? []).map(nameOfVariable));
  const out: RunConfig = { ...base };
  for (const key of ['User', 'WorkingDir', 'StopSignal'] as const)
    if (typeof over[key] === 'string' && over[key] !== '') out[key] = over[key];
  for (const key of ['Entrypoint', 'Cmd', 'OnBuild', 'Shell'] as const)
    if ((over[key] ?? []).length > 0) out[key] = over[key]!;
  if (over.Healthcheck !== undefined && over.Healthcheck !== null) out.Healthcheck = over.Healthcheck;
  const env = [...(base.Env ?? []).filter((entry) => !named.has(nameOfVariable(entry))), ...(over.Env ?? [])];
  if (env.length > 0) out.Env = env;
  for (const key of ['ExposedPorts', 'Volumes', 'Labels'] as const) {
    const all = { ...base[key], ...over[key] };
    if (Object.keys(all).length > 0) out[key] = all;
  }
  return out;
}

function nameOfVariable(entry: string): string {
  const at = entry.indexOf('=');
  return at < 0 ? entry : entry.slice(0, at);
}
