/**
 * Options of a tmpfs as `--tmpfs`, `--mount type=tmpfs` and volumes of that type take them: flags of mount(2) and the
 * file system's own values (tmpfs(5)). Without a word to the contrary nothing in it can be a device, set ids or be run,
 * as docker has it. What is not known is refused.
 */
import { ApiError } from '#base/errors.ts';

/** Each flag with the one that it takes back. */
const opposites: Readonly<Record<string, string>> = {
  rw: 'ro',
  ro: 'rw',
  suid: 'nosuid',
  nosuid: 'suid',
  dev: 'nodev',
  nodev: 'dev',
  exec: 'noexec',
  noexec: 'exec',
  sync: 'async',
  async: 'sync',
  atime: 'noatime',
  noatime: 'atime',
  diratime: 'nodiratime',
  nodiratime: 'diratime',
  relatime: 'norelatime',
  norelatime: 'relatime',
  strictatime: 'nostrictatime',
  nostrictatime: 'strictatime',
  mand: 'nomand',
  nomand: 'mand',
};
const single = new Set([
  'dirsync',
  'defaults',
  'private',
  'rprivate',
  'shared',
  'rshared',
  'slave',
  'rslave',
  'unbindable',
  'runbindable',
]);
const valuePatterns: Readonly<Record<string, RegExp>> = {
  size: /^\d+(?:[kmgtpe]|%)?$/i,
  nr_blocks: /^\d+[kmgtpe]?$/i,
  nr_inodes: /^\d+[kmgtpe]?$/i,
  mode: /^[0-7]{1,5}$/,
  uid: /^\d{1,10}$/,
  gid: /^\d{1,10}$/,
  mpol: /^[a-z]+(?:[:=][\w:=,.-]*)?$/,
};

/** The options for the kernel in place of docker's own, each once, the last word holding. */
export function mergeTmpfsOptions(wanted: readonly string[]): string[] {
  const flags = ['noexec', 'nosuid', 'nodev'];
  const values = new Map<string, string>();
  const drop = (flag: string): void => {
    const at = flags.indexOf(flag);
    if (at >= 0) flags.splice(at, 1);
  };
  for (const option of wanted) {
    const at = option.indexOf('=');
    const key = at < 0 ? option : option.slice(0, at);
    if (at < 0 && (Object.hasOwn(opposites, key) || single.has(key))) {
      drop(key);
      if (Object.hasOwn(opposites, key)) drop(opposites[key]!);
      if (key !== 'defaults') flags.push(key);
    } else if (at >= 0 && Object.hasOwn(valuePatterns, key) && valuePatterns[key]!.test(option.slice(at + 1)))
      values.set(key, option);
    else throw new ApiError('BadRequest', `invalid tmpfs option ["${option}"]`);
  }
  // The kernel knows these by their absence.
  const shown = flags.filter(
    (flag) =>
      !['rw', 'suid', 'dev', 'exec', 'async', 'atime', 'diratime', 'norelatime', 'nostrictatime', 'nomand'].includes(
        flag,
      ),
  );
  return [...shown, ...values.values()];
}
