/** What begins, changes and ends the life of a container: start, stop, kill, pause, rename, update, remove. */
import { ApiError } from '#base/errors.ts';
import { publishNames } from '#engine/dns-names.ts';
import type { Container } from '#engine/container.ts';
import { eventAttributes } from '#engine/container.ts';
import { stopTimeoutMsDefault } from '#engine/limits.ts';
import { removeLink } from '#engine/links.ts';
import { parseSignal } from '#engine/signals.ts';
import { ownContainer } from './context.ts';
import type { DockerParts } from './context.ts';
import { queryFlag, reply } from './route.ts';
import type { Route, RouteContext } from './route.ts';
import { checkShape, updateShape } from './shapes.ts';
import { updateContainer } from './update.ts';

/** What begins, changes and ends the life of a container. */
export function lifeRoutes(parts: DockerParts): Route[] {
  const { engine } = parts;
  const own = (context: RouteContext, verb: string): Container => ownContainer(parts, context.params['id']!, verb);
  return [
    {
      method: 'POST',
      path: '/containers/{id}/start',
      handle: async (context) => {
        const container = own(context, 'start');
        if (container.isRunning && container.record.state !== 'paused') return reply(304);
        await engine.containers.start(container.id);
        return reply(204);
      },
    },
    {
      method: 'POST',
      path: '/containers/{id}/stop',
      handle: async (context) => {
        const container = own(context, 'stop');
        const signal = askedSignal(context);
        if (!container.isRunning && container.record.state !== 'restarting') return reply(304);
        await engine.containers.stop(container.id, stopTimeoutMs(context, container), signal);
        return reply(204);
      },
    },
    {
      method: 'POST',
      path: '/containers/{id}/restart',
      handle: async (context) => {
        const container = own(context, 'restart');
        await engine.containers.restart(container.id, stopTimeoutMs(context, container), askedSignal(context));
        return reply(204);
      },
    },
    {
      method: 'POST',
      path: '/containers/{id}/kill',
      handle: async (context) => {
        await engine.containers.kill(own(context, 'kill').id, context.query.get('signal') ?? 'SIGKILL');
        return reply(204);
      },
    },
    {
      method: 'POST',
      path: '/containers/{id}/pause',
      handle: async (context) => {
        await engine.containers.pause(own(context, 'pause').id, true);
        return reply(204);
      },
    },
    {
      method: 'POST',
      path: '/containers/{id}/unpause',
      handle: async (context) => {
        await engine.containers.pause(own(context, 'unpause').id, false);
        return reply(204);
      },
    },
    {
      method: 'POST',
      path: '/containers/{id}/rename',
      handle: async (context) => {
        renameContainer(parts, own(context, 'rename'), context.query.get('name') ?? '');
        return reply(204);
      },
    },
    {
      method: 'POST',
      path: '/containers/{id}/update',
      handle: async (context) => {
        const body = await context.json();
        checkShape(body, updateShape, 'UpdateConfig');
        return updateContainer(parts, own(context, 'update'), body, context.version);
      },
    },
    {
      method: 'DELETE',
      path: '/containers/{id*}',
      handle: async (context) => {
        if (queryFlag(context.query, 'link')) {
          unlink(parts, context.params['id'] ?? '');
          return reply(204);
        }
        await engine.containers.remove(own(context, 'remove').id, {
          force: queryFlag(context.query, 'force'),
          volumes: queryFlag(context.query, 'v'),
        });
        return reply(204);
      },
    },
  ];
}

/** `CONTAINER/ALIAS`: the link goes, both containers stay. */
function unlink(parts: DockerParts, text: string): void {
  const name = text.replace(/^\//, '');
  const at = name.lastIndexOf('/');
  if (at < 0) throw new ApiError('BadRequest', 'Conflict, cannot remove the default link name of the container');
  removeLink(parts.engine.table, ownContainer(parts, name.slice(0, at), 'unlink'), name.slice(at + 1));
}

function stopTimeoutMs(context: RouteContext, container: Container): number {
  const asked = context.query.get('t');
  const seconds =
    asked === null ? (container.record.spec.stopTimeoutSeconds ?? stopTimeoutMsDefault / 1000) : Number(asked);
  if (!Number.isFinite(seconds)) throw new ApiError('BadRequest', `strconv.Atoi: parsing "${asked}": invalid syntax`);
  return seconds * 1000;
}

/** API 1.42: the signal of this one stop. */
function askedSignal(context: RouteContext): number | undefined {
  const asked = context.query.get('signal') ?? '';
  return asked === '' ? undefined : parseSignal(asked);
}

function renameContainer(parts: DockerParts, container: Container, wanted: string): void {
  const name = wanted.replace(/^\//, '');
  const { table, context, events } = parts.engine;
  if (name === '') throw new ApiError('BadRequest', 'Neither old nor new names may be empty');
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/.test(name))
    throw new ApiError('BadRequest', `Invalid container name (${name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`);
  if (name === container.name)
    throw new ApiError('BadRequest', 'Renaming a container with the same name as its current name');
  const old = container.name;
  table.reserveName(name, container.id);
  container.record.spec.name = name;
  container.save(context);
  table.releaseName(old, container.id);
  table.names.forget(container.id);
  publishNames(table, container);
  events.emit({
    type: 'container',
    action: 'rename',
    id: container.id,
    attributes: { ...eventAttributes(container), oldName: `/${old}` },
    owner: 'docker',
  });
}
