/** `tiphys backup` and `tiphys restore`. */
import { readFileSync } from 'node:fs';
import { realClock } from '#os/clock.real.ts';
import { messageOf } from '#base/thrown.ts';
import { makeBackup, type BackupResult } from '#platform/backup/backup.ts';
import type { ImageChoice } from '#platform/backup/content-frames.ts';
import { backupPlace } from '#platform/backup/places.ts';
import { restoreBackup, describeVolume } from '#platform/backup/restore.ts';
import { checkRecipient, type Key, type Lock } from '#platform/backup/sealing.ts';
import { pathsOf } from '#platform/paths.ts';
import { bringUp } from '#platform/up.ts';
import { askSecret, bytes, print, seconds, UsageError } from '../output.ts';
import { choicesOf, prepareMachine, requireRoot, type PlatformOptions } from './up.ts';

export interface BackupCommandOptions {
  passphraseFile?: string;
  recipient?: string[];
  images?: string[];
  data?: string;
  json?: boolean;
}

const passphraseLengthMin = 8;

function textOfFile(path: string, option: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new UsageError(`${option}: ${messageOf(cause)}`, { cause });
  }
}

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
  for (const each of recipient) checkRecipient(each);
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

export async function backupCommand(target: string, options: BackupCommandOptions): Promise<void> {
  requireRoot('tiphys backup');
  const place = backupPlace(target);
  const images = imagesOf(options.images);
  const lock = await lockOf(options);
  const result = await makeBackup(pathsOf(process.env, options.data), place, { lock, images });
  if (options.json === true) print(JSON.stringify({ file: place.name, ...result }));
  else tell(result, place.name);
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
  const place = backupPlace(source);
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
