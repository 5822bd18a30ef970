/** A busybox root out of Debian's busybox-static: the one program, a hard link per applet, and the few files a libc-less root needs. */
import { chmodSync, copyFileSync, linkSync, mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import type { BootstrapContext } from './bootstrap.ts';
import { runTool } from './bootstrap.ts';

const files: Record<string, string> = {
  'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nbin:x:2:2:bin:/bin:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n',
  'etc/group': 'root:x:0:\ndaemon:x:1:\nbin:x:2:\ntty:x:5:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n',
  'etc/shadow': 'root:*:::::::\ndaemon:*:::::::\nbin:*:::::::\nwww-data:*:::::::\nnobody:*:::::::\n',
  'etc/nsswitch.conf': 'hosts: files dns\n',
};
const directories: [string, number][] = [
  ['bin', 0o755], ['dev', 0o755], ['etc', 0o755], ['home', 0o755], ['proc', 0o755], ['root', 0o700], ['sys', 0o755], ['tmp', 0o1777], ['usr', 0o755],
  ['usr/bin', 0o755], ['usr/sbin', 0o755], ['var', 0o755], ['var/spool', 0o755], ['var/spool/mail', 0o755], ['var/www', 0o755],
];

export async function makeBusyboxRoot(context: BootstrapContext, root: string, scratch: string): Promise<{ source: string; mtimeMs: number }> {
  const packages = join(scratch, 'packages');
  mkdirSync(packages, { mode: 0o755 });
  context.onProgress?.('fetching busybox-static');
  // apt writes where it runs; its own sandbox user may not, which it only warns about.
  await runTool(context, 'sh', ['-c', `cd "$1" && exec apt-get download -q busybox-static`, 'sh', packages]);
  const archive = readdirSync(packages).find((name) => name.endsWith('.deb'));
  if (archive === undefined) throw new ApiError('InternalError', 'apt-get download busybox-static brought no package');
  const unpacked = join(scratch, 'busybox');
  await runTool(context, 'dpkg-deb', ['-x', join(packages, archive), unpacked]);
  const version = (await runTool(context, 'dpkg-deb', ['-f', join(packages, archive), 'Version'])).trim();
  const program = [join(unpacked, 'bin/busybox'), join(unpacked, 'usr/bin/busybox')].find((path) => statSync(path, { throwIfNoEntry: false }) !== undefined);
  if (program === undefined) throw new ApiError('InternalError', 'busybox-static has no busybox');
  const { mtimeMs } = statSync(program);
  for (const [directory, mode] of directories) { mkdirSync(join(root, directory), { recursive: true }); chmodSync(join(root, directory), mode); }
  for (const [name, text] of Object.entries(files)) writeFileSync(join(root, name), text, { mode: name === 'etc/shadow' ? 0o640 : 0o644 });
  copyFileSync(program, join(root, 'bin/busybox'));
  chmodSync(join(root, 'bin/busybox'), 0o755);
  for (const applet of (await runTool(context, program, ['--list'])).split('\n')) {
    if (applet !== '' && applet !== 'busybox' && !applet.includes('/')) linkSync(join(root, 'bin/busybox'), join(root, 'bin', applet));
  }
  symlinkSync('/bin/env', join(root, 'usr/bin/env'));
  symlinkSync('bin', join(root, 'sbin'));
  return { source: `Debian's busybox-static ${version}`, mtimeMs };
}
