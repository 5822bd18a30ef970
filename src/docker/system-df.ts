/** `GET /system/df`: what images, containers, volumes and the build cache take on disk. */
import { ApiError } from '#base/errors.ts';
import type { Builder } from '#build/builder.ts';
import type { ImageRecord } from '#content/image-records.ts';
import { linkNames } from '#engine/links.ts';
import { treeBytes } from '#engine/tree-size.ts';
import type { ImageStore } from '#engine/images.ts';
import { listedContainers } from './context.ts';
import type { DockerParts } from './context.ts';
import { isoNano } from './images.ts';
import { showSummary, sizesOf } from './inspect.ts';
import type { Sizes } from './inspect.ts';
import { queryFlag } from './route.ts';
import type { Route, RouteContext } from './route.ts';
import { showVolume, usersOf } from './volumes.ts';

interface ImageRow {
  Containers: number;
  Size: number;
  SharedSize: number;
  [key: string]: unknown;
}

type ContainerRow = Sizes & { State: string; [key: string]: unknown };

interface VolumeRow {
  UsageData: { RefCount: number; Size: number };
  [key: string]: unknown;
}

interface CacheRow {
  InUse: boolean;
  Size: number;
  [key: string]: unknown;
}

function imagesUsage(parts: DockerParts, images: ImageStore): { list: ImageRow[]; layersSize: number } {
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

async function containersUsage(parts: DockerParts, version: RouteContext['version']): Promise<ContainerRow[]> {
  const shown = listedContainers(parts);
  const links = linkNames(parts.engine.table);
  return Promise.all(
    shown.map(async (container) => {
      const sizes = await sizesOf(parts, container);
      return { ...showSummary(parts, container, { version, links, sizes }), ...sizes, State: container.record.state };
    }),
  );
}

async function volumesUsage(parts: DockerParts): Promise<VolumeRow[]> {
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

function cacheUsage(builder: Builder): CacheRow[] {
  return builder.cache.list().map((item) => ({
    ID: item.id,
    Type: item.type,
    Description: item.about,
    InUse: item.isInUse,
    Shared: item.isInUse,
    Size: item.sizeBytes,
    CreatedAt: isoNano(item.createdAtMs),
    LastUsedAt: isoNano(item.usedAtMs),
    UsageCount: item.uses,
  }));
}

interface Summary<Item> {
  items: readonly Item[];
  sizeOf(item: Item): number;
  isActive(item: Item): boolean;
  /** What removing an item that is not active gives back. */
  reclaimableOf?(item: Item): number;
  /** Of all, where items share what they take. */
  totalSize?: number;
}

/** What Go's `omitempty` leaves of one type's. */
interface Usage {
  ActiveCount?: number;
  Reclaimable?: number;
  TotalCount?: number;
  TotalSize?: number;
  Items?: readonly unknown[];
}

/** Since version 1.52; numbers that are zero are left out, as Go's `omitempty` has it. */
function summarize<Item>(summary: Summary<Item>, isVerbose: boolean): Usage {
  const { items, sizeOf, isActive, reclaimableOf = sizeOf } = summary;
  const sum = (list: readonly Item[], of: (item: Item) => number): number =>
    list.reduce((total, item) => total + Math.max(0, of(item)), 0);
  const idle = items.filter((item) => !isActive(item));
  const numbers = {
    ActiveCount: items.length - idle.length,
    Reclaimable: sum(idle, reclaimableOf),
    TotalCount: items.length,
    TotalSize: summary.totalSize ?? sum(items, sizeOf),
  };
  return {
    ...Object.fromEntries(Object.entries(numbers).filter(([, value]) => value !== 0)),
    ...(isVerbose && items.length > 0 ? { Items: items } : {}),
  };
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
  const found: Found = {
    ...(wants('image') ? { images: imagesUsage(parts, images) } : {}),
    ...(wants('container') ? { containers: await containersUsage(parts, context.version) } : {}),
    ...(wants('volume') ? { volumes: await volumesUsage(parts) } : {}),
    ...(wants('build-cache') ? { cache: cacheUsage(builder) } : {}),
  };
  const isVerbose = queryFlag(context.query, 'verbose');
  if (context.version[1] < 52) return showOld(found);
  // Who asks for a version of today, but not for its lists, has the old ones beside the new.
  return { ...(isVerbose ? {} : showOld(found)), ...showNew(found, isVerbose) };
}

/** What was asked for. */
interface Found {
  images?: { list: ImageRow[]; layersSize: number };
  containers?: ContainerRow[];
  volumes?: VolumeRow[];
  cache?: CacheRow[];
}

interface OldUsage {
  LayersSize: number;
  Images: ImageRow[] | null;
  Containers: ContainerRow[] | null;
  Volumes: VolumeRow[] | null;
  BuildCache: CacheRow[] | null;
}

interface NewUsage {
  ImageUsage?: Usage;
  ContainerUsage?: Usage;
  VolumeUsage?: Usage;
  BuildCacheUsage?: Usage;
}

function showOld({ images, containers, volumes, cache }: Found): OldUsage {
  return {
    LayersSize: images?.layersSize ?? 0,
    Images: images?.list ?? null,
    Containers: containers ?? null,
    Volumes: volumes ?? null,
    BuildCache: cache ?? null,
  };
}

function showNew({ images, containers, volumes, cache }: Found, isVerbose: boolean): NewUsage {
  return {
    ...(images && {
      ImageUsage: summarize(
        {
          items: images.list,
          sizeOf: ({ Size }) => Size,
          isActive: (image) => image.Containers > 0,
          reclaimableOf: ({ Size, SharedSize }) => Size - SharedSize,
          totalSize: images.layersSize,
        },
        isVerbose,
      ),
    }),
    ...(containers && {
      ContainerUsage: summarize(
        {
          items: containers,
          sizeOf: ({ SizeRw }) => SizeRw,
          isActive: ({ State }) => ['running', 'paused', 'restarting'].includes(State),
        },
        isVerbose,
      ),
    }),
    ...(volumes && {
      VolumeUsage: summarize(
        {
          items: volumes,
          sizeOf: ({ UsageData }) => UsageData.Size,
          isActive: ({ UsageData }) => UsageData.RefCount > 0,
        },
        isVerbose,
      ),
    }),
    ...(cache && {
      BuildCacheUsage: summarize(
        { items: cache, sizeOf: ({ Size }) => Size, isActive: ({ InUse }) => InUse },
        isVerbose,
      ),
    }),
  };
}

export function systemDfRoutes(parts: DockerParts, images: ImageStore, builder: Builder): Route[] {
  return [{ method: 'GET', path: '/system/df', handle: async (context) => usage(parts, images, builder, context) }];
}
