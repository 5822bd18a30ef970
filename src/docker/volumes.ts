/** `/volumes/…`. */
import { ApiError } from '#base/errors.ts';
import { treeBytes } from '#engine/tree-size.ts';
import type { VolumeRecord } from '#engine/volumes.ts';
import type { PluginVolume } from '#plugins/volume-driver.ts';
import type { DockerParts } from './context.ts';
import { isoTime } from './context.ts';
import {
  checkFilterValues,
  isFlagWord,
  lacksLabels,
  matchesAny,
  matchesLabels,
  matchesPattern,
  parseFilters,
} from './filters.ts';
import { queryFlag, reply } from './route.ts';
import type { Filters, Route } from './route.ts';
import { checkShape, volumeShape } from './shapes.ts';

export function volumeRoutes(parts: DockerParts): Route[] {
  const { volumes } = parts.engine;
  return [
    {
      method: 'GET',
      path: '/volumes',
      handle: async (context) => {
        const filters = parseFilters(context.query, ['dangling', 'driver', 'label', 'name']);
        checkFilterValues(filters, { dangling: isFlagWord });
        const { volumes: all, warnings } = await volumes.listAll();
        return {
          Volumes: all
            .filter((volume) => matches(parts, volume, filters))
            .map((volume) => showVolume(parts, volume, volume.plugin)),
          Warnings: warnings.length === 0 ? null : warnings,
        };
      },
    },
    {
      method: 'GET',
      path: '/volumes/{name}',
      handle: async (context) => {
        const volume = await volumes.resolve(context.params['name'] ?? '');
        return showVolume(parts, volume, volume.plugin);
      },
    },
    {
      method: 'POST',
      path: '/volumes/create',
      handle: async (context) => {
        const body = await context.json();
        checkShape(body, volumeShape, 'VolumeCreateRequest');
        if (body.ClusterVolumeSpec !== undefined && body.ClusterVolumeSpec !== null)
          throw new ApiError(
            'ServiceUnavailable',
            'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.',
          );
        using pins = new DisposableStack();
        const wanted = {
          name: body.Name ?? '',
          driver: body.Driver ?? '',
          labels: body.Labels ?? {},
          options: body.DriverOpts ?? {},
        };
        return reply(201, showVolume(parts, await volumes.createPinned(wanted, pins)));
      },
    },
    {
      method: 'DELETE',
      path: '/volumes/{name}',
      handle: async (context) => {
        const name = context.params['name']!;
        if (volumes.find(name) === undefined && queryFlag(context.query, 'force')) return reply(204);
        const volume = volumes.find(name) ?? (await volumes.resolve(name));
        const users = usersOf(parts, volume.name);
        if (users.length > 0 || volumes.isPinned(name))
          throw new ApiError('Conflict', `remove ${name}: volume is in use - [${users.join(', ')}]`);
        await volumes.remove(name);
        return reply(204);
      },
    },
    {
      method: 'POST',
      path: '/volumes/prune',
      handle: async (context) => {
        const filters = parseFilters(context.query, ['all', 'label', 'label!']);
        checkFilterValues(filters, { all: isFlagWord });
        // Since 1.42 only nameless volumes go, unless all are asked for.
        const all =
          context.version[1] < 42 || (filters.get('all') ?? []).some((value) => value === '1' || value === 'true');
        const deleted: string[] = [];
        let space = 0;
        for (const volume of volumes.list()) {
          if (volume.driver !== 'local') continue;
          if (
            (!all && !volume.anonymous) ||
            !isUnused(parts, volume) ||
            !matchesLabels(filters, volume.labels) ||
            !lacksLabels(filters, volume.labels)
          )
            continue;
          const bytes = await treeBytes(volumes.mountpoint(volume.name));
          // While it was measured somebody may have taken it, or removed it.
          if (!isUnused(parts, volume)) continue;
          space += bytes;
          await volumes.remove(volume.name);
          deleted.push(volume.name);
        }
        return { VolumesDeleted: deleted.length === 0 ? null : deleted, SpaceReclaimed: space };
      },
    },
  ];
}

export function usersOf(parts: DockerParts, name: string): string[] {
  return parts.engine.table
    .list()
    .filter((container) =>
      container.record.spec.mounts.some((mount) => mount.type === 'volume' && mount.source === name),
    )
    .map((container) => container.id);
}

/** True for a volume that is still there, of which no container has been told. */
function isUnused(parts: DockerParts, volume: VolumeRecord): boolean {
  const { volumes } = parts.engine;
  return (
    volumes.find(volume.name) === volume && !volumes.isPinned(volume.name) && usersOf(parts, volume.name).length === 0
  );
}

function matches(parts: DockerParts, volume: VolumeRecord, filters: Filters): boolean {
  return (
    matchesAny(filters, 'name', (value) => matchesPattern(volume.name, value)) &&
    matchesAny(filters, 'driver', (value) => volume.driver === value) &&
    matchesLabels(filters, volume.labels) &&
    matchesAny(
      filters,
      'dangling',
      (value) => (value === 'true' || value === '1') === (usersOf(parts, volume.name).length === 0),
    )
  );
}

/** `plugin`: what the volume's driver says of it now. */
export function showVolume(parts: DockerParts, volume: VolumeRecord, plugin?: PluginVolume): Record<string, unknown> {
  return {
    CreatedAt: isoTime(volume.createdAtMs),
    Driver: volume.driver,
    Labels: Object.keys(volume.labels).length === 0 ? null : volume.labels,
    Mountpoint: plugin?.mountpoint ?? parts.engine.volumes.mountpoint(volume.name),
    Name: volume.name,
    Options: Object.keys(volume.options).length === 0 ? null : volume.options,
    Scope: plugin?.scope ?? 'local',
    ...(plugin?.status === undefined ? {} : { Status: plugin.status }),
  };
}
