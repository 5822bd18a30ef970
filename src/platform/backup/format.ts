/**
 * The file of a backup, and what is in it.
 *
 *   age (age-encryption.org/v1) of zstd of tar
 *
 * So `age -d FILE | zstd -d | tar t` looks into one without Tiphys. The tar's entries, in this order:
 *
 *   backup.json          what it is (`BackupHead`): the number of the format first
 *   keys.json            the key-ring: authorities, keys of ServiceAccounts and of Secrets
 *   state/000001 …       every key of the store at one revision (`state-source.ts`)
 *   images/000001 …      records and blobs of images, of the registry and its users (`content-frames.ts`)
 *   volumes/NAME/000001… a tar of each local volume
 *   end.json             length and digest of each section, and when each volume was copied (`BackupEnd`)
 *
 * What is long, and whose length nobody knows before it has ended, comes in parts: `cat volumes/NAME/* | tar x`. A file
 * without `end.json` was cut off. Age refuses what was cut, altered or sealed otherwise; the digests show that what
 * came out is what went in.
 *
 * A reader refuses a newer format with its number. What it does not know in a format that it knows, it passes over.
 */
import { ApiError } from '#base/errors.ts';
import { fieldOf, isObject, itemsOf, namedTextsOf, textOf, textsOf } from '#base/unknown.ts';

export const backupFormat = 1;
export const entryNames = { head: 'backup.json', keys: 'keys.json', end: 'end.json' } as const;
export const sectionNames = { state: 'state', images: 'images' } as const;
export const volumeSection = (name: string): string => `volumes/${name}`;

/** The volume that a section is of; undefined for others. */
export function volumeOfSection(section: string): string | undefined {
  return /^volumes\/([^/]+)$/.exec(section)?.[1];
}

/** What is known when a backup begins. */
export interface BackupHead {
  format: number;
  /** Of the program that wrote it. */
  version: string;
  /** RFC 3339. */
  createdAt: string;
  /** Names of the nodes that ran on the machine of the backup. */
  nodes: string[];
  /** Where local volumes lay there. */
  volumeDirectory: string;
  /** What the instance was: of `Instance`, what another machine can be too. */
  instance: { [field: string]: unknown };
}

/** `still`: its containers stood still; `live`: files may have changed while they were read. */
export type VolumeMoment = 'still' | 'live';

export interface VolumeNote {
  /** Of the PersistentVolume. */
  name: string;
  /** Last part of its path. */
  directory: string;
  /** `NAMESPACE/NAME` of the claim, where there is one. */
  claim: string;
  node: string;
  /** When its copy began and ended, RFC 3339. */
  from: string;
  until: string;
  how: VolumeMoment;
  /** Files that were seen to change, or to go, while they were read. */
  changed: number;
}

export interface SectionNote {
  bytes: number;
  /** Of the bytes, hexadecimal. */
  sha256: string;
}

/** What is known when a backup has ended. */
export interface BackupEnd {
  /** Of the store. */
  revision: number;
  keys: number;
  sections: Record<string, SectionNote>;
  volumes: VolumeNote[];
  /** Names of images, and ids of those without one. */
  images: string[];
  /** What a reader might look for in vain, in words. */
  leftOut: string[];
}

const damaged = (what: string): ApiError =>
  new ApiError('BadRequest', `this backup is damaged: ${what} is not what the format says`);

function parseObject(bytes: Uint8Array, what: string): { [field: string]: unknown } {
  let found: unknown;
  try {
    found = JSON.parse(Buffer.from(bytes).toString());
  } catch (cause) {
    const error = damaged(what);
    error.cause = cause;
    throw error;
  }
  if (!isObject(found)) throw damaged(what);
  return found;
}

/** Throws BadRequest where it is none, or of a newer format. */
export function parseHead(bytes: Uint8Array): BackupHead {
  const found = parseObject(bytes, entryNames.head);
  const { format, version, createdAt, volumeDirectory, instance } = found;
  if (typeof format !== 'number') throw damaged(entryNames.head);
  if (format > backupFormat)
    throw new ApiError(
      'BadRequest',
      `this backup was written by a newer version of Tiphys (format ${format}; this one knows ${backupFormat})`,
    );
  if (
    typeof version !== 'string' ||
    typeof createdAt !== 'string' ||
    Number.isNaN(Date.parse(createdAt)) ||
    typeof volumeDirectory !== 'string' ||
    !isObject(instance)
  )
    throw damaged(entryNames.head);
  return { format, version, createdAt, nodes: textsOf(found['nodes']), volumeDirectory, instance };
}

function parseVolume(value: unknown): VolumeNote {
  const { name = '', directory = '', claim = '', node = '', from = '', until = '' } = namedTextsOf(value);
  const how = textOf(value, 'how');
  const changed = fieldOf(value, 'changed');
  return {
    ...{ name, directory, claim, node, from, until },
    how: how === 'still' ? how : 'live',
    changed: typeof changed === 'number' ? changed : 0,
  };
}

export function parseEnd(bytes: Uint8Array): BackupEnd {
  const found = parseObject(bytes, entryNames.end);
  const { revision, keys, sections } = found;
  if (typeof revision !== 'number' || typeof keys !== 'number' || !isObject(sections)) throw damaged(entryNames.end);
  const noted: Record<string, SectionNote> = {};
  for (const [name, note] of Object.entries(sections)) {
    const length = fieldOf(note, 'bytes');
    const sha256 = textOf(note, 'sha256');
    if (typeof length !== 'number' || sha256 === undefined) throw damaged(entryNames.end);
    noted[name] = { bytes: length, sha256 };
  }
  return {
    ...{ revision, keys, sections: noted },
    volumes: itemsOf(found['volumes']).map(parseVolume),
    images: textsOf(found['images']),
    leftOut: textsOf(found['leftOut']),
  };
}
