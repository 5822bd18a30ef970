/** Files of layers, mounted for as long as somebody looks at them or writes over them. */
import type { ImageLayer } from '#content/image-records.ts';
import type { Random } from '#os/clock.ts';
import type { SolverParts } from './work.ts';

export interface View {
  /** As `content/snapshots.ts` knows it. */
  id: string;
  root: string;
  release(): Promise<void>;
}

/** 64 hexadecimal digits. */
export function newContainerId(random: Random): string {
  return Buffer.from(random.bytes(32)).toString('hex');
}

/** Nothing is left of it where it cannot be mounted. */
export async function openView(
  { snapshots, random }: Pick<SolverParts, 'snapshots' | 'random'>,
  layers: readonly ImageLayer[],
): Promise<View> {
  const id = `build-${newContainerId(random).slice(0, 32)}`;
  const release = (): Promise<void> => snapshots.removeContainerRoot(id);
  try {
    const { root } = await snapshots.mountLayers(id, [...layers]);
    return { id, root, release };
  } catch (error) {
    await release();
    throw error;
  }
}
