/** Owners by number, or by the names that a root's own `/etc/passwd` and `/etc/group` give. */
import { readFileSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import type { Owner } from '#content/copy.ts';
import { RootedDirectory, pathParts } from '#content/safe-path.ts';
import { fsPath } from '#os/named-files.ts';
import type { OwnerRef, UserRef } from './vertex.ts';

function lookUp(root: string, file: string, name: string, column: number): number | undefined {
  const path = new RootedDirectory(root).resolve(pathParts(file));
  if (path === undefined) return undefined;
  for (const line of readFileSync(fsPath(path), 'utf8').split('\n')) {
    const fields = line.split(':');
    if (fields[0] === name) return Number(fields[column]);
  }
  return undefined;
}

function unknown(what: 'user' | 'group', name: string): ApiError {
  const id = what === 'user' ? 'uid' : 'gid';
  return new ApiError(
    'BadRequest',
    `unable to convert uid/gid chown string to host mapping: can't find ${id} for ${what} ${name}: no such ${what}: ${name}`,
  );
}

/** `rootOf`: the files that know the names; undefined stands for those that are written into. */
export async function resolveOwner(
  owner: OwnerRef | undefined,
  rootOf: (input: number | undefined) => Promise<string>,
): Promise<Owner | undefined> {
  if (owner === undefined) return undefined;
  const { user, group } = owner;
  const find = async (ref: UserRef, file: string, column: number): Promise<number | undefined> =>
    'id' in ref ? ref.id : lookUp(await rootOf(ref.input), file, ref.name, column);
  const nameOf = (ref: UserRef): string => ('name' in ref ? ref.name : String(ref.id));
  const uid = user === undefined ? 0 : await find(user, '/etc/passwd', 2);
  if (uid === undefined) throw unknown('user', user === undefined ? '' : nameOf(user));
  // Without a group: that of the user by its name, the same number for a number.
  const given = group ?? user;
  if (given === undefined) return { uid, gid: 0 };
  const gid = group === undefined ? await find(given, '/etc/passwd', 3) : await find(given, '/etc/group', 2);
  if (gid === undefined) throw unknown('group', nameOf(given));
  return { uid, gid };
}
