/** `tiphys backup` and `tiphys restore`. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { formatDuration, parseDuration } from '#base/duration.ts';
import { realClock } from '#os/clock.real.ts';
import { messageOf } from '#base/thrown.ts';
import { makeBackup, type BackupResult } from '#platform/backup/backup.ts';
import type { ImageChoice } from '#platform/backup/content-frames.ts';
import { backupFolder, backupPlace, isFolder, isS3 } from '#platform/backup/places.ts';
import { restoreBackup, describeVolume } from '#platform/backup/restore.ts';
import { s3AccessOf, type S3Access } from '#platform/backup/s3-access.ts';
import { endSchedule, saveSchedule } from '#platform/backup/schedule.ts';
import { checkRecipient, type Key, type Lock } from '#platform/backup/sealing.ts';
import { instanceHere } from '#platform/cluster-access.ts';
import { backupEveryMsMax, backupEveryMsMin, backupsKeptDefault } from '#platform/limits.ts';
import { pathsOf, type Paths } from '#platform/paths.ts';
import { bringUp } from '#platform/up.ts';
import { askSecret, bytes, print, seconds, UsageError } from '../output.ts';
import { choicesOf, prepareMachine, requireRoot, type PlatformOptions } from './up.ts';

export interface BackupCommandOptions {
  every?: string;
  keep?: number;
  passphraseFile?: string;
  recipient?: string[];
  images?: string[];
  data?: string;
  json?: boolean;
}

const passphraseLengthMin = 8;

/** Text that is secret. */
function textOfFile(path: string, option: string): string {
  try {
    if (isForOthers(statSync(path).mode)) process.stderr.write(`note: others can read ${path}: chmod 600 ${path}\n`);
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new UsageError(`${option}: ${messageOf(cause)}`, { cause });
  }
}

const isForOthers = (mode: number): boolean => (mode & 0o044) !== 0;

/** The first line of a file, or what is typed. */
async function passphraseOf(file: string | undefined, isNew: boolean): Promise<string> {
  const passphrase =
    file === undefined
      ? await askPassphrase(isNew)
      : (textOfFile(file, '--passphrase-file').split(/\r?\n/, 1)[0] ?? '');
  if (isNew && passphrase.length < passphraseLengthMin)
    throw new UsageError(
      `a passphrase has at least ${passphraseLengthMin} characters: whoever guesses it has the cluster`,
    );
  return passphrase;
}

async function askPassphrase(isNew: boolean): Promise<string> {
  const passphrase = await askSecret(isNew ? 'Passphrase for the backup: ' : 'Passphrase of the backup: ');
  if (passphrase === undefined)
    throw new UsageError(
      isNew
        ? 'a backup holds the keys of the cluster, and is sealed: --passphrase-file FILE, or --recipient age1…'
        : 'say how the backup is opened: --passphrase-file FILE, or --identity FILE',
    );
  if (isNew && (await askSecret('The same again: ')) !== passphrase) throw new UsageError('these are two passphrases');
  return passphrase;
}

async function lockOf({ passphraseFile, recipient = [] }: BackupCommandOptions): Promise<Lock> {
  if (recipient.length === 0) return { passphrase: await passphraseOf(passphraseFile, true) };
  if (passphraseFile !== undefined)
    throw new UsageError('a backup is sealed by a passphrase, or for recipients: not both');
  try {
    for (const each of recipient) checkRecipient(each);
  } catch (cause) {
    throw new UsageError(`--recipient: ${messageOf(cause)}`, { cause });
  }
  return { recipients: recipient };
}

function imagesOf(words: string[] = []): ImageChoice {
  const [first] = words;
  if (first === undefined) return 'own';
  if (first === 'own' || first === 'all' || first === 'none') {
    if (words.length > 1) throw new UsageError(`--images ${first} stands alone`);
    return first;
  }
  return words;
}

function tell({ revision, keys, images, volumes, leftOut, bytes: length }: BackupResult, where: string): void {
  print(
    `${where} holds revision ${revision} (${keys} keys), ${images.length} images and ${volumes.length} volumes: ${bytes(length)}.`,
  );
  for (const volume of volumes) if (volume.changed > 0) print(`  ${describeVolume(volume)}`);
  for (const what of leftOut) process.stderr.write(`note: not in the backup: ${what}\n`);
}

const access = (): S3Access => s3AccessOf(process.env);

/** A dash would be a file of that name: a backup is whole or not there, which no stream can promise. */
function checkName(name: string | undefined): asserts name is string {
  if (name === undefined || name === '' || name === '-')
    throw new UsageError('say where the backup is: a file, or s3://BUCKET/KEY');
}

export async function backupCommand(target: string | undefined, options: BackupCommandOptions): Promise<void> {
  requireRoot('tiphys backup');
  const paths = pathsOf(process.env, options.data);
  if (options.every === 'off') {
    endBackups(paths, target);
    return;
  }
  checkName(target);
  if (options.every !== undefined) {
    await scheduleBackups(paths, target, options);
    return;
  }
  if (options.keep !== undefined) throw new UsageError('--keep is for backups that are made by themselves: --every 6h');
  if (isFolder(target)) throw new UsageError(`${target} is a directory: name a file in it, or say --every`);
  const place = backupPlace(target, access);
  place.check();
  const images = imagesOf(options.images);
  const lock = await lockOf(options);
  const result = await makeBackup(paths, place, { lock, images });
  if (options.json === true) print(JSON.stringify({ file: place.name, ...result }));
  else tell(result, place.name);
}

function endBackups(paths: Paths, target: string | undefined): void {
  if (target !== undefined) throw new UsageError("'tiphys backup --every off' stands alone");
  if (!endSchedule(paths)) throw new UsageError('no backups are scheduled');
  print('No backups are made by themselves any more. Those that are there stay.');
}

/** From the server's next look on. */
async function scheduleBackups(paths: Paths, target: string, options: BackupCommandOptions): Promise<void> {
  const { joined } = instanceHere(paths);
  if (joined !== undefined)
    throw new UsageError(`this machine is a node of the cluster of ${joined.server}: schedule backups there`);
  const everyMs = Number((parseDuration(options.every ?? '') ?? 0n) / 1_000_000n);
  if (everyMs < backupEveryMsMin || everyMs > backupEveryMsMax)
    throw new UsageError(
      `--every takes a time like 30m or 6h, from ${backupEveryMsMin / 60_000}m to ${backupEveryMsMax / 3_600_000}h, or off`,
    );
  if (!isS3(target) && existsSync(target) && !isFolder(target))
    throw new UsageError(`${target} is a file: --every makes many, and takes a directory`);
  const lock = await lockOf(options);
  const keep = options.keep ?? backupsKeptDefault;
  // Named as a path from here; the server works elsewhere.
  const place = isS3(target) ? target : resolve(target);
  // Shows now whether it is there and may be read.
  const folder = backupFolder(place, access);
  await folder.list();
  saveSchedule(paths, {
    ...{ target: place, everyMs, keep, lock, images: imagesOf(options.images) },
    ...(isS3(target) ? { access: access() } : {}),
  });
  print(
    `The server makes a backup every ${formatDuration(everyMs)} in ${folder.name}, the first one now, and keeps ${keep}.`,
  );
  print("'tiphys status' says how the last one went; 'tiphys backup --every off' ends this.");
}

export interface RestoreCommandOptions extends PlatformOptions {
  passphraseFile?: string;
  identity?: string[];
}

async function keyOf({ passphraseFile, identity = [] }: RestoreCommandOptions): Promise<Key> {
  if (identity.length === 0) return { passphrase: await passphraseOf(passphraseFile, false) };
  if (passphraseFile !== undefined)
    throw new UsageError('a backup is opened by a passphrase, or by identities: not both');
  const identities = identity.flatMap((file) =>
    textOfFile(file, '--identity')
      .split(/\r?\n/)
      .filter((line) => line.startsWith('AGE-SECRET-KEY-')),
  );
  if (identities.length === 0) throw new UsageError('--identity: there is no AGE-SECRET-KEY-… in it');
  return { identities };
}

export async function restoreCommand(source: string, options: RestoreCommandOptions): Promise<void> {
  requireRoot('tiphys restore');
  const paths = pathsOf(process.env, options.data);
  checkName(source);
  const place = backupPlace(source, access);
  const choices = choicesOf(options);
  const key = await keyOf(options);
  if (!(await prepareMachine(paths, options))) return;
  const begun = realClock.monotonic();
  const { revision, keys, images, volumes, gone, podsMoved, createdAt } = await restoreBackup(paths, place, {
    key,
    choices,
  });
  print(
    `The cluster of ${createdAt} is here: revision ${revision} (${keys} keys), ${images.length} images, ${volumes.length} volumes.`,
  );
  if (gone.length > 0)
    print(
      `  Nodes that are not there: ${gone.join(', ')}. ${podsMoved} Pods of theirs are scheduled again; 'tiphys remove' takes a node out.`,
    );
  const { notes } = await bringUp(paths, {});
  print(`Tiphys is up after ${seconds(realClock.monotonic() - begun)}.`);
  for (const note of notes) print(`  note: ${note}`);
}
