/**
 * Base images where no public registry answers: `busybox` from Debian's busybox-static and `debian:bookworm-slim` made
 * by debootstrap, both from the package mirrors that this machine already uses. They say in their labels and history
 * where they come from.
 *
 * Kept: an image that is here is not made again. Deterministic where that is cheap: times are those of the packages'
 * release. Does not: change anything on the machine outside the scratch directory.
 */
import { mkdirSync, readdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { canonicalName, parseReference, withDefaultTag } from '#base/reference.ts';
import type { ImageRecord } from '#content/image-records.ts';
import type { RunConfig } from '#content/image-file.ts';
import { toImageLayer, writeImage } from '#content/image-writer.ts';
import { makeBusyboxRoot } from './busybox.ts';
import { makeDebianRoot } from './debian.ts';
import type { BootstrapContext } from './tool.ts';

const baseImageNames = ['busybox:latest', 'debian:bookworm-slim'] as const;
export type BaseImageName = (typeof baseImageNames)[number];

interface Recipe {
  make(context: BootstrapContext, root: string, scratch: string): Promise<{ source: string; mtimeMs?: number }>;
  config: RunConfig;
  names: string[];
}

const path = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const recipes: Record<BaseImageName, Recipe> = {
  'busybox:latest': { make: makeBusyboxRoot, config: { Env: [path], Cmd: ['sh'] }, names: ['busybox:latest'] },
  'debian:bookworm-slim': {
    make: makeDebianRoot,
    config: { Env: [path], Cmd: ['bash'] },
    names: ['debian:bookworm-slim'],
  },
};

/** The processor by Go's names, as image configurations have it. */
function imageArchitecture(): string {
  return process.arch === 'x64' ? 'amd64' : process.arch;
}

/** True when this name is one that can be made here. */
export function canMakeBaseImage(name: string): name is BaseImageName {
  return (baseImageNames as readonly string[]).includes(name);
}

/** Makes one image, or returns the one that is here. */
export async function makeBaseImage(context: BootstrapContext, name: BaseImageName): Promise<ImageRecord> {
  const known = context.images.find(name);
  if (known !== undefined) return known;
  const recipe = recipes[name];
  const scratch = join(context.content.root, 'bootstrap', name.replace(/[:/]/g, '-'));
  await rm(scratch, { recursive: true, force: true });
  mkdirSync(join(scratch, 'root'), { recursive: true, mode: 0o755 });
  try {
    const { source, mtimeMs } = await recipe.make(context, join(scratch, 'root'), scratch);
    context.onProgress?.(`packing ${name}`);
    using hold = context.content.hold();
    const packed = await context.content.layers.packTree(join(scratch, 'root'), {
      ...(mtimeMs === undefined ? {} : { mtimeMs }),
      exclude: readdirSync(join(scratch, 'root', 'proc'), { encoding: 'utf8' }).length > 0 ? ['proc'] : [],
    });
    hold.addBlob(packed.digest);
    hold.addLayer(packed.diffId);
    await context.content.layers.ensure(packed.diffId, packed.digest, context.signal);
    const createdAtMs = mtimeMs ?? context.clock.now();
    const created = new Date(createdAtMs).toISOString();
    return await writeImage(context.content, context.images, {
      file: {
        architecture: imageArchitecture(),
        os: 'linux',
        created,
        config: {
          ...recipe.config,
          Labels: {
            'org.opencontainers.image.title': name,
            'io.tiphys.base-image': `made on this machine from ${source}`,
          },
        },
        rootfs: { type: 'layers', diff_ids: [packed.diffId] },
        history: [
          { created, created_by: `tiphys: made from ${source}`, comment: 'not the published image of this name' },
        ],
      },
      layers: [toImageLayer(packed)],
      createdAtMs,
      names: recipe.names.map((each) => canonicalName(withDefaultTag(parseReference(each)))),
    });
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}
