/**
 * `USER`, `--user` and group names, resolved by the container's own /etc/passwd and /etc/group (passwd(5), group(5)).
 * Paths are followed inside the container's root: a link there cannot lead out of it.
 */
import { ApiError } from '#base/errors.ts';
import { readInRoot } from './root-path.ts';

export interface ResolvedUser {
  uid: number;
  gid: number;
  additionalGids: number[];
  home: string;
  name: string;
}

const numeric = /^\d+$/;
const idMax = 2 ** 31 - 1;

function table(text: string | undefined): string[][] {
  return (text ?? '')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(':'));
}

/** `user`, `user:group`, by name or number; empty is root. Errors are those that docker gives at start. */
export function resolveUser(
  root: string,
  user: string | undefined,
  groupAdd: string[] = [],
  strictGroups = false,
): ResolvedUser {
  const [wantedUser = '', wantedGroup] = (user ?? '').split(':');
  const passwd = table(readInRoot(root, '/etc/passwd'));
  const groups = table(readInRoot(root, '/etc/group'));
  const name = wantedUser === '' ? '0' : wantedUser;
  const entry =
    passwd.find((fields) => fields[0] === name) ??
    (numeric.test(name) ? passwd.find((fields) => fields[2] === name) : undefined);
  if (entry === undefined && !numeric.test(name))
    throw new ApiError('InternalError', `unable to find user ${name}: no matching entries in passwd file`);
  const uid = Number(entry?.[2] ?? name);
  const resolveGroup = (group: string): number => {
    const found = groups.find((fields) => fields[0] === group);
    if (found === undefined && !numeric.test(group))
      throw new ApiError('InternalError', `unable to find group ${group}: no matching entries in group file`);
    const gid = Number(found?.[2] ?? group);
    if (gid > idMax) throw new ApiError('InternalError', 'uids and gids must be in range 0-2147483647');
    return gid;
  };
  const gid = wantedGroup === undefined || wantedGroup === '' ? Number(entry?.[3] ?? 0) : resolveGroup(wantedGroup);
  if (uid > idMax) throw new ApiError('InternalError', 'uids and gids must be in range 0-2147483647');
  const listed =
    strictGroups || entry === undefined || (wantedGroup !== undefined && wantedGroup !== '')
      ? []
      : groups.filter((fields) => (fields[3] ?? '').split(',').includes(entry[0]!)).map((fields) => Number(fields[2]));
  const additionalGids = [...new Set([...listed, ...groupAdd.map(resolveGroup)])].filter((id) => Number.isInteger(id));
  return {
    uid,
    gid,
    additionalGids,
    home: entry?.[5] === undefined || entry[5] === '' ? '/' : entry[5],
    name: entry?.[0] ?? name,
  };
}
