/** `/containers/ID/archive`, `/export`, `/changes`. */
import { ApiError } from '#base/errors.ts';
import { whenDrained } from '#base/streams.ts';
import { decodeQueryName } from '#base/file-names.ts';
import { exportRoot, readArchive, statPath, writeArchive } from '#engine/archive.ts';
import type { PathStat } from '#engine/archive.ts';
import { listChanges } from '#engine/changes.ts';
import type { DockerParts } from './context.ts';
import { ownContainer } from './context.ts';
import { queryFlag, reply } from './route.ts';
import type { Route, RouteContext } from './route.ts';

const statHeader = 'X-Docker-Container-Path-Stat';

function encode(stat: PathStat): string {
  return Buffer.from(JSON.stringify(stat)).toString('base64');
}

function pathOf(context: RouteContext): string {
  // Names are bytes, which the query's own reading would replace.
  const raw = /[?&]path=([^&]*)/.exec(context.request.url ?? '')?.[1];
  const path = (raw === undefined ? undefined : decodeQueryName(raw)) ?? context.query.get('path') ?? '';
  if (path === '') throw new ApiError('BadRequest', 'bad parameter: the path cannot be empty');
  return path;
}

function writerTo(context: RouteContext): (bytes: Uint8Array) => Promise<void> {
  const { response, signal } = context;
  return async (bytes) => {
    if (signal.aborted) throw new ApiError('Timeout', 'the client went away');
    if (!response.write(bytes)) await whenDrained(response);
  };
}

export function archiveRoutes(parts: DockerParts): Route[] {
  const { table, context: engineContext } = parts.engine;
  return [
    {
      method: 'HEAD',
      path: '/containers/{id}/archive',
      handle: async (context) =>
        reply(200, undefined, {
          [statHeader]: encode(await statPath(table, table.get(context.params['id']!), pathOf(context))),
        }),
    },
    {
      method: 'GET',
      path: '/containers/{id}/archive',
      handle: async (context) => {
        const container = table.get(context.params['id']!);
        await readArchive(table, container, pathOf(context), {
          start: (stat) =>
            context.response.writeHead(200, { 'Content-Type': 'application/x-tar', [statHeader]: encode(stat) }),
          write: writerTo(context),
        });
        context.response.end();
        return undefined;
      },
    },
    {
      method: 'PUT',
      path: '/containers/{id}/archive',
      handle: async (context) => {
        const container = ownContainer(parts, context.params['id']!, 'copy into');
        await writeArchive(table, container, pathOf(context), {
          source: context.request,
          noOverwriteDirNonDir: queryFlag(context.query, 'noOverwriteDirNonDir'),
          copyOwner: queryFlag(context.query, 'copyUIDGID'),
        });
        return reply(200);
      },
    },
    {
      method: 'GET',
      path: '/containers/{id}/export',
      handle: async (context) => {
        const container = table.get(context.params['id']!);
        context.response.writeHead(200, { 'Content-Type': 'application/octet-stream' });
        await exportRoot(table, container, writerTo(context));
        context.response.end();
        return undefined;
      },
    },
    {
      method: 'GET',
      path: '/containers/{id}/changes',
      handle: async (context) => {
        const changes = await listChanges(engineContext.snapshots.upperDir(table.get(context.params['id']!).id));
        // As docker's: `null`, which its client takes for an empty list.
        return changes.length === 0 ? null : changes;
      },
    },
  ];
}
