/**
 * Local volumes: which there are, by the state; their files as a tar, and back. Of a volume whose Pods go on the files
 * may change while they are read: what was seen to is counted, and the backup says so.
 */
import { existsSync, mkdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { isObject, itemsOf, textOf, textsOf, fieldOf } from '#base/unknown.ts';
import { packLiveTree } from '#content/pack-live.ts';
import { unpackTar } from '#content/unpack.ts';
import { realClock } from '#os/clock.real.ts';
import { volumeEntriesMax } from '../limits.ts';
import type { VolumeMoment, VolumeNote } from './format.ts';

export interface LocalVolume {
  /** Of the PersistentVolume. */
  name: string;
  directory: string;
  claim: string;
  /** Nodes that it is on; none: it has not been said. */
  nodes: string[];
}

/** Where nodes are named in a PersistentVolume. */
function nodeTermsOf(volume: unknown): unknown[] {
  return itemsOf(fieldOf(volume, 'spec', 'nodeAffinity', 'required', 'nodeSelectorTerms'))
    .flatMap((term) => [...itemsOf(fieldOf(term, 'matchExpressions')), ...itemsOf(fieldOf(term, 'matchFields'))])
    .filter((term) => ['kubernetes.io/hostname', 'metadata.name'].includes(textOf(term, 'key') ?? ''));
}

export const pathOf = (volume: unknown): string | undefined =>
  textOf(volume, 'spec', 'local', 'path') ?? textOf(volume, 'spec', 'hostPath', 'path');

/** A PersistentVolume that the platform has made; `outside`: one whose files lie elsewhere on a node. */
export function localVolumeOf(volume: unknown, volumeDirectory: string): LocalVolume | 'outside' | undefined {
  const path = pathOf(volume);
  const name = textOf(volume, 'metadata', 'name');
  if (path === undefined || name === undefined) return undefined;
  if (dirname(path) !== volumeDirectory) return 'outside';
  const claim = fieldOf(volume, 'spec', 'claimRef');
  return {
    name,
    directory: basename(path),
    claim: isObject(claim) ? `${textOf(claim, 'namespace') ?? ''}/${textOf(claim, 'name') ?? ''}` : '',
    nodes: nodeTermsOf(volume).flatMap((term) => textsOf(fieldOf(term, 'values'))),
  };
}

/** A tar of the files; the note is whole when the tar has ended. Undefined where nobody has mounted the volume yet. */
export function readVolume(
  volume: LocalVolume,
  { volumeDirectory, node, how }: { volumeDirectory: string; node: string; how: VolumeMoment },
): { note: VolumeNote; content: AsyncIterable<Uint8Array> } | undefined {
  const path = join(volumeDirectory, volume.directory);
  if (!existsSync(path)) return undefined;
  const { name, directory, claim } = volume;
  const note: VolumeNote = { ...{ name, directory, claim, node, how }, from: '', until: '', changed: 0 };
  const content = async function* (): AsyncGenerator<Uint8Array> {
    note.from = new Date(realClock.now()).toISOString();
    yield* packLiveTree(path, { onChanged: () => note.changed++ });
    note.until = new Date(realClock.now()).toISOString();
  };
  return { note, content: content() };
}

/** Writes a volume's files into a directory that is made for them. */
export async function writeVolume(content: AsyncIterable<Uint8Array>, directory: string): Promise<void> {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  await unpackTar(content, directory, {
    layer: false,
    isSparse: true,
    entriesMax: volumeEntriesMax,
    bytesMax: Number.MAX_SAFE_INTEGER,
  });
}
