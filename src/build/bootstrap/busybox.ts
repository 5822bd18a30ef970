/**
 * A busybox root out of Debian's busybox-static: the one program, a hard link per applet, and the few files a libc-less
 * root needs. Its shell is that of Debian's `busybox`, with the C library that it needs: the static one takes every
 * applet from itself, and so would never find what replaces one.
 */
import {
  chmodSync,
  copyFileSync,
  linkSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import type { BootstrapContext } from './tool.ts';
import { runTool } from './tool.ts';

const files: Record<string, string> = {
  'etc/passwd':
    'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nbin:x:2:2:bin:/bin:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n',
  'etc/group': 'root:x:0:\ndaemon:x:1:\nbin:x:2:\ntty:x:5:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n',
  'etc/shadow': 'root:*:::::::\ndaemon:*:::::::\nbin:*:::::::\nwww-data:*:::::::\nnobody:*:::::::\n',
  'etc/nsswitch.conf': 'hosts: files dns\n',
};
const directories: [string, number][] = [
  ['bin', 0o755],
  ['dev', 0o755],
  ['etc', 0o755],
  ['home', 0o755],
  ['proc', 0o755],
  ['root', 0o700],
  ['sys', 0o755],
  ['tmp', 0o1777],
  ['usr', 0o755],
  ['usr/bin', 0o755],
  ['usr/sbin', 0o755],
  ['var', 0o755],
  ['var/spool', 0o755],
  ['var/spool/mail', 0o755],
  ['var/www', 0o755],
];

const shells = ['sh', 'ash'];

/** apt writes where it runs; its own sandbox user may not, which it only warns about. */
async function fetchPackages(context: BootstrapContext, directory: string, names: string[]): Promise<void> {
  await runTool(context, 'sh', ['-c', 'cd "$1" && shift && exec apt-get download -q "$@"', 'sh', directory, ...names]);
}

/** False, or an error, leaves nothing behind. */
async function placeShell(
  context: BootstrapContext,
  root: string,
  packages: string,
  archives: string[],
): Promise<boolean> {
  const unpacked = join(packages, 'root');
  for (const archive of archives) await runTool(context, 'dpkg-deb', ['-x', join(packages, archive), unpacked]);
  const files = readdirSync(unpacked, { recursive: true, encoding: 'utf8' });
  const libraries = files.filter((path) => /(^|\/)(ld-linux[^/]*\.so\.\d+|libc\.so\.6|libresolv\.so\.2)$/.test(path));
  const program = files.find((path) => /^(usr\/)?bin\/busybox$/.test(path));
  if (program === undefined || libraries.length === 0) return false;
  const placed: string[] = [];
  const place = (from: string, to: string): void => {
    mkdirSync(dirname(join(root, to)), { recursive: true, mode: 0o755 });
    copyFileSync(from, join(root, to));
    chmodSync(join(root, to), 0o755);
    placed.push(join(root, to));
  };
  try {
    // A link to the loader in another directory is placed as the file itself.
    for (const path of libraries) place(join(unpacked, path), path.replace(/^usr\//, ''));
    place(join(unpacked, program), 'bin/sh');
    linkSync(join(root, 'bin/sh'), join(root, 'bin/ash'));
    placed.push(join(root, 'bin/ash'));
    await runTool(context, 'chroot', [root, '/bin/sh', '-c', 'true']);
    return true;
  } catch (error) {
    for (const path of placed) rmSync(path, { force: true });
    throw error;
  }
}

/**
 * Debian builds wget without its timeouts, and then `-T` writes through a null pointer: the first thing that many try
 * in a cluster dies of SIGSEGV. So the option is taken out here and done by `timeout`, for the whole of the download
 * and with wget's own words.
 */
export const wgetScript = `#!/bin/sh
# busybox of Debian crashes on -T: it bounds the whole download here.
limit=
next=
for word do
  shift
  if [ "$next" = limit ]; then limit=$word; next=; continue; fi
  if [ "$next" = other ]; then set -- "$@" "$word"; next=; continue; fi
  case $word in
    --timeout=*) limit=\${word#*=} ;;
    --timeout) next=limit ;;
    --header|--post-data|--post-file) set -- "$@" "$word"; next=other ;;
    --*) set -- "$@" "$word" ;;
    -?*)
      rest=\${word#-} kept=
      while [ -n "$rest" ]; do
        letter=\${rest%"\${rest#?}"} rest=\${rest#?}
        case $letter in
          T) if [ -n "$rest" ]; then limit=$rest; else next=limit; fi; rest= ;;
          [OoPUYt]) kept=$kept$letter$rest; [ -n "$rest" ] || next=other; rest= ;;
          *) kept=$kept$letter ;;
        esac
      done
      [ -z "$kept" ] || set -- "$@" "-$kept" ;;
    *) set -- "$@" "$word" ;;
  esac
done
[ -n "$limit" ] && [ "$limit" != 0 ] || exec busybox wget "$@"
timeout "$limit" busybox wget "$@"
code=$?
case $code in 124|143) echo 'wget: download timed out' >&2; exit 1 ;; esac
exit $code
`;

export async function makeBusyboxRoot(
  context: BootstrapContext,
  root: string,
  scratch: string,
): Promise<{ source: string; mtimeMs: number }> {
  const packages = join(scratch, 'packages');
  mkdirSync(packages, { mode: 0o755 });
  context.onProgress?.('fetching busybox-static');
  // All in one go, since apt takes long before a byte comes; the image is whole with the first alone.
  const shellStays = (error: unknown): false => {
    context.onProgress?.(`the static shell stays: ${messageOf(error)}`);
    return false;
  };
  const isAllThere = await fetchPackages(context, packages, ['busybox-static', 'busybox', 'libc6']).then(
    () => true,
    shellStays,
  );
  if (!isAllThere) await fetchPackages(context, packages, ['busybox-static']);
  const archives = readdirSync(packages).filter((name) => name.endsWith('.deb'));
  const archive = archives.find((name) => name.startsWith('busybox-static_'));
  if (archive === undefined) throw new ApiError('InternalError', 'apt-get download busybox-static brought no package');
  const unpacked = join(scratch, 'busybox');
  await runTool(context, 'dpkg-deb', ['-x', join(packages, archive), unpacked]);
  const version = (await runTool(context, 'dpkg-deb', ['-f', join(packages, archive), 'Version'])).trim();
  const program = [join(unpacked, 'bin/busybox'), join(unpacked, 'usr/bin/busybox')].find(
    (path) => statSync(path, { throwIfNoEntry: false }) !== undefined,
  );
  if (program === undefined) throw new ApiError('InternalError', 'busybox-static has no busybox');
  const { mtimeMs } = statSync(program);
  for (const [directory, mode] of directories) {
    mkdirSync(join(root, directory), { recursive: true });
    chmodSync(join(root, directory), mode);
  }
  for (const [name, text] of Object.entries(files))
    writeFileSync(join(root, name), text, { mode: name === 'etc/shadow' ? 0o640 : 0o644 });
  copyFileSync(program, join(root, 'bin/busybox'));
  chmodSync(join(root, 'bin/busybox'), 0o755);
  const ofShell = archives.filter((name) => name !== archive);
  const shell = isAllThere && (await placeShell(context, root, packages, ofShell).catch(shellStays));
  for (const applet of (await runTool(context, program, ['--list'])).split('\n')) {
    if (shells.includes(applet) && shell) continue;
    if (applet !== '' && applet !== 'busybox' && applet !== 'wget' && !applet.includes('/'))
      linkSync(join(root, 'bin/busybox'), join(root, 'bin', applet));
  }
  writeFileSync(join(root, 'bin/wget'), wgetScript);
  chmodSync(join(root, 'bin/wget'), 0o755);
  symlinkSync('/bin/env', join(root, 'usr/bin/env'));
  symlinkSync('bin', join(root, 'sbin'));
  return { source: `Debian's busybox-static ${version}`, mtimeMs };
}
