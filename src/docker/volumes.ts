/** `/volumes/…`. */
import { ApiError } from '#base/errors.ts';
import { treeBytes } from '#engine/tree-size.ts';
import type { VolumeRecord } from '#engine/volumes.ts';
import type { DockerParts } from './context.ts';
import { isoTime } from './context.ts';
import { checkFilterValues, isFlagWord, lacksLabels, matchesAny, matchesLabels, parseFilters } from './filters.ts';
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
        return {
          Volumes: volumes
            .list()
            .filter((volume) => matches(parts, volume, filters))
            .map((volume) => showVolume(parts, volume)),
          Warnings: null,
        };
      },
    },
    {
      method: 'GET',
      path: '/volumes/{name}',
      handle: async (context) => showVolume(parts, volumes.get(context.params['name']!)),
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
        return reply(
          201,
          showVolume(
            parts,
            volumes.create({
              name: body.Name ?? '',
              driver: body.Driver ?? '',
              labels: body.Labels ?? {},
              options: body.DriverOpts ?? {},
            }),
          ),
        );
      },
    },
    {
      method: 'DELETE',
      path: '/volumes/{name}',
      handle: async (context) => {
        const name = context.params['name']!;
        if (volumes.find(name) === undefined && queryFlag(context.query, 'force')) return reply(204);
        const volume = volumes.get(name);
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
    matchesAny(filters, 'name', (value) => volume.name.includes(value)) &&
    matchesAny(filters, 'driver', (value) => volume.driver === value) &&
    matchesLabels(filters, volume.labels) &&
    matchesAny(
      filters,
      'dangling',
      (value) => (value === 'true' || value === '1') === (usersOf(parts, volume.name).length === 0),
    )
  );
}

export function showVolume(parts: DockerParts, volume: VolumeRecord): Record<string, unknown> {
  return {
    CreatedAt: isoTime(volume.createdAtMs),
    Driver: 'local',
    Labels: Object.keys(volume.labels).length === 0 ? null : volume.labels,
    Mountpoint: parts.engine.volumes.mountpoint(volume.name),
    Name: volume.name,
    Options: Object.keys(volume.options).length === 0 ? null : volume.options,
    Scope: 'local',
  };
}
