/**
 * AppArmor, where the kernel has it: containers run under a profile that keeps them from the kernel's own files and
 * from mounting, whatever their capabilities. It is loaded once a boot by `apparmor_parser`; without that program, or
 * without the kernel's part, containers run unconfined as they do elsewhere.
 *
 * What the profile forbids is what docker documents of `docker-default`: writes to /proc and /sys outside of the
 * container's own, mounts, and tracing of processes outside of it. apparmor.d(5); docs.docker.com, "AppArmor security
 * profiles for Docker".
 */
import { ApiError } from '#base/errors.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import type { Processes } from '#os/processes.ts';
import type { Logger } from '#observe/log.ts';

/** Ours beside dockerd's, which may be loaded too. */
const defaultProfile = 'tiphys-default';
/** Who asks for docker's default by name means the default. */
const dockerProfile = 'docker-default';
export const unconfined = 'unconfined';

const profileText = `abi <abi/3.0>,
include <tunables/global>

profile ${defaultProfile} flags=(attach_disconnected,mediate_deleted) {
  include <abstractions/base>

  capability,
  network,
  file,
  umount,

  # Whoever manages containers is unconfined; inside, processes may signal and trace each other.
  signal (receive) peer=unconfined,
  signal (send,receive) peer=${defaultProfile},
  ptrace (trace,read,tracedby,readby) peer=${defaultProfile},

  deny mount,

  # In /proc only processes' own directories, sys/kernel/shm* and what else is namespaced stay writable.
  deny @{PROC}/{asound,acpi,bus,fs,irq,scsi,tty}/** w,
  deny @{PROC}/[a-z]* w,
  deny @{PROC}/sys/[^kn]** w,
  deny @{PROC}/sys/n[^e]** w,
  deny @{PROC}/sys/kernel/[^smd]** w,
  deny @{PROC}/sys/kernel/{s[^eh],m[^s],d[^o]}** w,
  deny @{PROC}/{sysrq-trigger,kcore,kmem,mem} rwklx,

  deny /sys/[^f]** wklx,
  deny /sys/f[^s]** wklx,
  deny /sys/fs/[^c]** wklx,
  deny /sys/fs/c[^g]** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
`;

function isEnabled(): boolean {
  return readIfExists('/sys/module/apparmor/parameters/enabled')?.trim() === 'Y';
}

/** The default profile's name once it is loaded; undefined where there is no AppArmor. */
export async function loadDefaultProfile(
  processes: Processes,
  runDirectory: string,
  log: Logger,
): Promise<string | undefined> {
  const parser = processes.find('apparmor_parser');
  if (!isEnabled() || parser === undefined) return undefined;
  const path = `${runDirectory}/${defaultProfile}.apparmor`;
  const isLoaded = (readIfExists('/sys/kernel/security/apparmor/profiles') ?? '')
    .split('\n')
    .some((line) => line.startsWith(`${defaultProfile} `));
  if (isLoaded && readIfExists(path) === profileText) return defaultProfile;
  writeFileAtomic(path, profileText, { mode: 0o600 });
  const done = await processes.run(parser, ['--replace', '--skip-cache', path]);
  if (done.code === 0) return defaultProfile;
  log.warn('the AppArmor profile could not be loaded: containers run unconfined', { error: done.stderr.trim() });
  return undefined;
}

/**
 * What a container's process starts under; undefined leaves it as it is. `asked` is the profile that its request names.
 */
export function planApparmor(
  asked: string | undefined,
  privileged: boolean,
  hostDefault: string | undefined,
): string | undefined {
  if (hostDefault === undefined) return undefined;
  if (asked === undefined || asked === '') return privileged ? undefined : hostDefault;
  if (asked === unconfined) return undefined;
  return asked === dockerProfile ? hostDefault : asked;
}

/** A profile that the kernel does not know is refused before anything is made. */
export function checkApparmor(asked: string | undefined, hostDefault: string | undefined): void {
  if (hostDefault === undefined || asked === undefined || ['', unconfined, dockerProfile].includes(asked)) return;
  const profiles = readIfExists('/sys/kernel/security/apparmor/profiles');
  if (profiles !== undefined && !profiles.split('\n').some((line) => line.startsWith(`${asked} (`)))
    throw new ApiError('InternalError', `OCI runtime create failed: apparmor profile not found ${asked}`);
}
