/**
 * `--userns-remap=default|USER[:GROUP]`: which numbers of the host stand for those in containers. They are the ranges
 * that /etc/subuid has for the user and /etc/subgid for the group, one after the other; `default` is `dockremap`, which
 * has to be there with ranges of its own.
 *
 * Source: subuid(5); moby 28, daemon_unix.go (`parseRemappedRoot`, `setupRemappedRoot`), pkg idtools.
 */
import { ApiError } from '#base/errors.ts';
import { readIfExists } from '#os/files.ts';
import type { IdMaps, IdRange } from '#os/user-namespaces.linux.ts';

export interface AccountFiles {
  passwd: string;
  group: string;
  subuid: string;
  subgid: string;
}

export function readAccountFiles(): AccountFiles {
  const read = (name: string): string => readIfExists(`/etc/${name}`) ?? '';
  return { passwd: read('passwd'), group: read('group'), subuid: read('subuid'), subgid: read('subgid') };
}

const defaultUser = 'dockremap';
/** Ranges of one user: as many as the kernel takes. */
const rangesMax = 340;

/** Undefined for root, who would be mapped to himself; an ApiError BadRequest in dockerd's words. */
export function parseUsernsRemap(text: string, files: AccountFiles): IdMaps | undefined {
  const parts = text.split(':');
  if (parts.length > 2) refuse(`invalid User/Group specification in --userns-remap: ${JSON.stringify(text)}`);
  const [wanted = '', wantedGroup] = parts;
  const user = findAccount(files.passwd, wanted === 'default' ? defaultUser : wanted);
  if (user === undefined)
    refuse(
      wanted === 'default'
        ? `userns-remap: there is no user ${defaultUser}: 'useradd -r ${defaultUser}', and a range for it in /etc/subuid and /etc/subgid`
        : `could not look up user ${JSON.stringify(wanted)}: no such user`,
    );
  const groupName = wantedGroup ?? (wanted === 'default' ? defaultUser : user.name);
  const group = findAccount(files.group, groupName);
  if (group === undefined) refuse(`could not look up group ${JSON.stringify(groupName)}: no such group`);
  if (user.name === 'root') return undefined;
  return {
    uids: rangesOf(files.subuid, user) ?? refuse(`no subuid ranges found for user ${JSON.stringify(user.name)}`),
    gids: rangesOf(files.subgid, group) ?? refuse(`no subgid ranges found for group ${JSON.stringify(group.name)}`),
  };
}

function refuse(message: string): never {
  throw new ApiError('BadRequest', message);
}

interface Account {
  name: string;
  id: string;
}

export function findAccount(table: string, nameOrId: string): Account | undefined {
  for (const line of table.split('\n')) {
    const [name = '', , id = ''] = line.split(':');
    if (nameOrId !== '' && (name === nameOrId || id === nameOrId)) return { name, id };
  }
  return undefined;
}

export function rangesOf(text: string, { name, id }: Account): IdRange[] | undefined {
  const ranges: IdRange[] = [];
  let inside = 0;
  for (const line of text.split('\n')) {
    const [, owner, first, count] = /^([^:]+):(\d+):(\d+)\s*$/.exec(line) ?? [];
    if (owner !== name && owner !== id) continue;
    const [outside, size] = [Number(first), Number(count)];
    if (size === 0 || ranges.length === rangesMax) continue;
    ranges.push({ inside, outside, size });
    inside += size;
  }
  return ranges.length === 0 ? undefined : ranges;
}
