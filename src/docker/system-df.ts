/** `GET /system/df`: what images, containers, volumes and the build cache take on disk. */
import { ApiError } from '#base/errors.ts';
import type { Builder } from '#build/builder.ts';
import type { ImageRecord } from '#content/image-records.ts';
import { treeBytes } from '#engine/tree-size.ts';
import type { ImageStore } from '#engine/images.ts';
import type { DockerParts } from './context.ts';
import { isoNano } from './images.ts';
import { showSummary, sizesOf } from './inspect.ts';
import type { Route, RouteContext } from './route.ts';
import { showVolume, usersOf } from './volumes.ts';

function imagesUsage(parts: DockerParts, images: ImageStore): { list: unknown[]; layersSize: number } {
  const { content, records } = images.options;
  const shown = records.listShown();
  const uses = new Map<string, number>();
  for (const record of shown)
    for (const diffId of new Set(record.layers.map((layer) => layer.diffId)))
      uses.set(diffId, (uses.get(diffId) ?? 0) + 1);
  const containers = parts.engine.table.list();
  /** The image, and the others of indexes that it stands for. */
  const imagesOf = (record: ImageRecord): ImageRecord[] => {
    const indexes = records.indexesOf(record.id).map((index) => records.imagesOf(index));
    const own = indexes.filter(([first]) => first?.id === record.id).flat();
    return [...new Map([record, ...own].map((each) => [each.id, each])).values()];
  };
  const layers = new Set(shown.flatMap(imagesOf).flatMap((record) => record.layers.map((layer) => layer.diffId)));
  const list = shown.map((record) => {
    const summary = images.summarize(record);
    const all = imagesOf(record);
    const shared = record.layers.reduce(
      (sum, layer) => sum + ((uses.get(layer.diffId) ?? 0) > 1 ? content.layers.sizeBytes(layer.diffId) : 0),
      0,
    );
    return {
      Containers: containers.filter(({ record: { spec } }) => all.some(({ id }) => id === spec.imageId)).length,
      Created: Math.floor(record.createdAtMs / 1000),
      Id: record.id,
      Labels: summary.config.labels,
      ParentId: record.parent ?? '',
      RepoDigests: summary.digests,
      RepoTags: summary.names,
      SharedSize: shared,
      Size: all.reduce((sum, each) => sum + records.layerSizeBytes(each), 0),
    };
  });
  return { list, layersSize: [...layers].reduce((sum, diffId) => sum + content.layers.sizeBytes(diffId), 0) };
}

async function containersUsage(parts: DockerParts, version: RouteContext['version']): Promise<unknown[]> {
  const shown = parts.engine.table.list().filter((container) => container.record.spec.owner !== 'build');
  return Promise.all(
    shown.map(async (container) => showSummary(parts, container, version, await sizesOf(parts, container))),
  );
}

async function volumesUsage(parts: DockerParts): Promise<unknown[]> {
  const { volumes } = parts.engine;
  return Promise.all(
    volumes.list().map(async (volume) => ({
      ...showVolume(parts, volume),
      UsageData: {
        RefCount: usersOf(parts, volume.name).length,
        // What a plugin keeps is not this machine's.
        Size: volume.driver === 'local' ? await treeBytes(volumes.mountpoint(volume.name)) : -1,
      },
    })),
  );
}

async function usage(
  parts: DockerParts,
  images: ImageStore,
  builder: Builder,
  context: RouteContext,
): Promise<unknown> {
  const types = context.query.getAll('type');
  const unknown = types.find((type) => !['image', 'container', 'volume', 'build-cache'].includes(type));
  if (unknown !== undefined) throw new ApiError('BadRequest', `unknown object type: ${unknown}`);
  const wants = (type: string): boolean => types.length === 0 || types.includes(type);
  const { list, layersSize } = imagesUsage(parts, images);
  return {
    LayersSize: wants('image') ? layersSize : 0,
    Images: wants('image') ? list : null,
    Containers: wants('container') ? await containersUsage(parts, context.version) : null,
    Volumes: wants('volume') ? await volumesUsage(parts) : null,
    BuildCache: wants('build-cache')
      ? builder.cache.list().map((item) => ({
          ID: item.id,
          Type: item.type,
          Description: item.about,
          InUse: item.isInUse,
          Shared: item.isInUse,
          Size: item.sizeBytes,
          CreatedAt: isoNano(item.createdAtMs),
          LastUsedAt: isoNano(item.usedAtMs),
          UsageCount: item.uses,
        }))
      : null,
  };
}

export function systemDfRoutes(parts: DockerParts, images: ImageStore, builder: Builder): Route[] {
  return [{ method: 'GET', path: '/system/df', handle: async (context) => usage(parts, images, builder, context) }];
}
