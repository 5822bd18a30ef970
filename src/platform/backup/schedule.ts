/**
 * Backups that the server makes by itself (`tiphys backup DIRECTORY --every 6h --keep 14`). What is to be done is kept
 * in a file of the data directory, and how it went in another, so that a restart forgets neither. Each backup is a
 * process of its own: sealing and packing would hold up the API's thread.
 *
 * Of this cluster's own backups the newest `keep` stay; what has another name is nobody's business. What failed is told
 * in the log, as an Event of the node, and by `tiphys status`, and is tried again soon.
 */
import { rmSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { fieldOf, isObject, textOf, textsOf } from '#base/unknown.ts';
import { realClock } from '#os/clock.real.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import { loadInstance } from '../instance.ts';
import { backupRetryMs } from '../limits.ts';
import { files, type Paths } from '../paths.ts';
import { makeBackup } from './backup.ts';
import type { ImageChoice } from './content-frames.ts';
import { backupFolder, type BackupFolder } from './places.ts';
import type { S3Access } from './s3-access.ts';
import type { Lock } from './sealing.ts';

const scheduleFormat = 1;

export interface BackupSchedule {
  /** A directory, or `s3://BUCKET/PREFIX`. */
  target: string;
  everyMs: number;
  keep: number;
  lock: Lock;
  images: ImageChoice;
  /** Of an S3 store, as it was when the schedule was made. */
  access?: S3Access;
}

/** How the last one went. */
export interface ScheduledResult {
  /** Milliseconds since 1970. */
  begunAtMs: number;
  endedAtMs?: number;
  name?: string;
  bytes?: number;
  revision?: number;
  leftOut?: number;
  /** Why there is none. */
  error?: string;
  /** When the last good one began. */
  lastGoodAtMs?: number;
}

export function saveSchedule(paths: Paths, schedule: BackupSchedule): void {
  writeFileAtomic(files.backupSchedule(paths), JSON.stringify({ format: scheduleFormat, ...schedule }), {
    sync: true,
    mode: 0o600,
  });
  // Another target, another beginning.
  rmSync(files.backupResult(paths), { force: true });
}

/** Answers whether there was one. */
export function endSchedule(paths: Paths): boolean {
  const had = readIfExists(files.backupSchedule(paths)) !== undefined;
  for (const path of [files.backupSchedule(paths), files.backupResult(paths)]) rmSync(path, { force: true });
  return had;
}

function lockIn(value: unknown): Lock {
  const passphrase = textOf(value, 'passphrase');
  return passphrase === undefined ? { recipients: textsOf(fieldOf(value, 'recipients')) } : { passphrase };
}

function accessIn(value: unknown): S3Access | undefined {
  const [endpoint, region] = [textOf(value, 'endpoint'), textOf(value, 'region')];
  const [accessKeyId, secretAccessKey] = [textOf(value, 'accessKeyId'), textOf(value, 'secretAccessKey')];
  const sessionToken = textOf(value, 'sessionToken');
  if (endpoint === undefined || region === undefined || accessKeyId === undefined || secretAccessKey === undefined)
    return undefined;
  return { endpoint, region, accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) };
}

/** Undefined where there is none. Throws where it is damaged, or of a newer format. */
export function loadSchedule(paths: Paths): BackupSchedule | undefined {
  const text = readIfExists(files.backupSchedule(paths));
  if (text === undefined) return undefined;
  const found: unknown = JSON.parse(text);
  const { format, target, everyMs, keep, images } = isObject(found) ? found : {};
  if (typeof format === 'number' && format > scheduleFormat)
    throw new ApiError(
      'BadRequest',
      `${files.backupSchedule(paths)} was written by a newer version of Tiphys (format ${format})`,
    );
  if (typeof target !== 'string' || typeof everyMs !== 'number' || typeof keep !== 'number')
    throw new ApiError('BadRequest', `${files.backupSchedule(paths)} is damaged: make the schedule anew`);
  const access = accessIn(fieldOf(found, 'access'));
  return {
    ...{ target, everyMs, keep, lock: lockIn(fieldOf(found, 'lock')) },
    images: images === 'own' || images === 'all' || images === 'none' ? images : textsOf(images),
    ...(access === undefined ? {} : { access }),
  };
}

export function loadResult(paths: Paths): ScheduledResult | undefined {
  const text = readIfExists(files.backupResult(paths));
  const found: unknown = text === undefined ? undefined : JSON.parse(text);
  const number = (name: string): number | undefined => {
    const value = fieldOf(found, name);
    return typeof value === 'number' ? value : undefined;
  };
  const begunAtMs = number('begunAtMs');
  if (begunAtMs === undefined) return undefined;
  const numbers = Object.fromEntries(
    ['endedAtMs', 'bytes', 'revision', 'leftOut', 'lastGoodAtMs'].flatMap((name) => {
      const value = number(name);
      return value === undefined ? [] : [[name, value]];
    }),
  );
  const texts = Object.fromEntries(
    ['name', 'error'].flatMap((name) => {
      const value = textOf(found, name);
      return value === undefined ? [] : [[name, value]];
    }),
  );
  return { begunAtMs, ...numbers, ...texts };
}

export function saveResult(paths: Paths, result: ScheduledResult): void {
  writeFileAtomic(files.backupResult(paths), JSON.stringify(result), { sync: true, mode: 0o600 });
}

/** When the next one begins; a clock that was set back makes nobody wait for the time it showed. */
export function nextBackupMs(schedule: BackupSchedule, last: ScheduledResult | undefined, nowMs: number): number {
  if (last === undefined || last.begunAtMs > nowMs) return nowMs;
  const isGood = last.error === undefined && last.endedAtMs !== undefined;
  return last.begunAtMs + (isGood ? schedule.everyMs : Math.min(schedule.everyMs, backupRetryMs));
}

/** Names of one cluster's backups sort by their time. */
export function scheduledName(id: string, atMs: number): string {
  const at = new Date(atMs).toISOString().replaceAll(/[-:]|\.\d+/g, '');
  return `tiphys-${id}-${at}.age`;
}

/** What is too old of this cluster's own. */
export function outdated(names: readonly string[], id: string, keep: number): string[] {
  const own = new RegExp(`^tiphys-${id}-\\d{8}T\\d{6}Z\\.age$`);
  return names
    .filter((name) => own.test(name))
    .sort()
    .slice(0, -keep);
}

/** A file that a killed backup left beside. */
const isPartial = (name: string, id: string): boolean => name.startsWith(`tiphys-${id}-`) && name.endsWith('.partial');

/** Makes one, and removes what is too old; the result is kept either way. Rejects where it failed. */
export async function runScheduledBackup(paths: Paths): Promise<ScheduledResult> {
  const schedule = loadSchedule(paths);
  const id = loadInstance(paths)?.id;
  if (schedule === undefined || id === undefined) throw new ApiError('NotFound', 'no backups are scheduled');
  const lastGoodAtMs = loadResult(paths)?.lastGoodAtMs;
  const begun: ScheduledResult = {
    begunAtMs: realClock.now(),
    ...(lastGoodAtMs === undefined ? {} : { lastGoodAtMs }),
  };
  saveResult(paths, begun);
  const { access } = schedule;
  const accessOf = (): S3Access => {
    if (access === undefined) throw new ApiError('BadRequest', 'the schedule has no credentials for s3://');
    return access;
  };
  try {
    const folder = backupFolder(schedule.target, accessOf);
    const name = scheduledName(id, begun.begunAtMs);
    const { bytes, revision, leftOut } = await makeBackup(paths, folder.place(name), schedule);
    const result = { ...begun, name, bytes, revision, leftOut: leftOut.length, lastGoodAtMs: begun.begunAtMs };
    await removeOld(folder, id, schedule.keep);
    const ended = { ...result, endedAtMs: realClock.now() };
    saveResult(paths, ended);
    return ended;
  } catch (error) {
    saveResult(paths, { ...begun, endedAtMs: realClock.now(), error: messageOf(error) });
    throw error;
  }
}

async function removeOld(folder: BackupFolder, id: string, keep: number): Promise<void> {
  const names = await folder.list();
  for (const name of [...outdated(names, id, keep), ...names.filter((each) => isPartial(each, id))])
    await folder.remove(name);
}
