/**
 * The seccomp part of an OCI configuration: docker's default profile (seccomp-default.json: facts of its documented
 * allow list), `unconfined`, or a profile of the user's in docker's own format, whose conditions on capabilities,
 * architectures and kernels are worked out here.
 *
 * What no rule names answers ENOSYS instead of EPERM where the system call is unknown to the library
 * (`defaultErrnoRet`): programs then fall back to older calls instead of giving up.
 */
import { readFileSync } from 'node:fs';
import { arch, release } from 'node:os';
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';

interface Condition {
  caps?: string[];
  arches?: string[];
  minKernel?: string;
}
interface ProfileRule {
  names?: string[];
  name?: string;
  action: string;
  errnoRet?: number;
  args?: unknown[];
  includes?: Condition;
  excludes?: Condition;
}
interface Profile {
  defaultAction: string;
  defaultErrnoRet?: number;
  architectures?: string[];
  archMap?: { architecture: string; subArchitectures?: string[] }[];
  syscalls?: ProfileRule[];
  flags?: string[];
}

const architecture = {
  x64: { scmp: 'SCMP_ARCH_X86_64', name: 'amd64', sub: ['SCMP_ARCH_X86', 'SCMP_ARCH_X32'] },
  arm64: { scmp: 'SCMP_ARCH_AARCH64', name: 'arm64', sub: ['SCMP_ARCH_ARM'] },
}[arch() as 'x64' | 'arm64'] ?? { scmp: 'SCMP_ARCH_X86_64', name: 'amd64', sub: [] };

let defaultProfile: Profile | undefined;
const planned = new Map<string, unknown>();

export function planSeccomp(wanted: string | undefined, capabilities: string[]): unknown {
  if (wanted === 'unconfined') return undefined;
  const isDefault = wanted === undefined || wanted === '' || wanted === 'default' || wanted === 'builtin';
  const key = isDefault ? capabilities.join() : '';
  const known = isDefault ? planned.get(key) : undefined;
  if (known !== undefined) return known;
  const made = evaluateProfile(
    isDefault ? readDefault() : parseProfile(wanted),
    capabilities,
    isDefault ? refusedByDefault : [],
  );
  if (isDefault) planned.set(key, made);
  return made;
}

function readDefault(): Profile {
  defaultProfile ??= JSON.parse(readFileSync(new URL('./seccomp-default.json', import.meta.url), 'utf8')) as Profile;
  return defaultProfile;
}

function parseProfile(text: string): Profile {
  try {
    const parsed = JSON.parse(text) as Profile;
    if (typeof parsed.defaultAction !== 'string') throw new Error('defaultAction is missing');
    return parsed;
  } catch (error) {
    throw new ApiError('InternalError', `Decoding seccomp profile failed: ${messageOf(error)}`);
  }
}

/**
 * Known calls that docker refuses: they answer EPERM, as programs expect of it; only what is unknown answers ENOSYS.
 */
const refusedByDefault = [
  'acct',
  'add_key',
  'bpf',
  'clock_adjtime',
  'clock_settime',
  'delete_module',
  'finit_module',
  'fsconfig',
  'fsmount',
  'fsopen',
  'fspick',
  'get_mempolicy',
  'init_module',
  'ioperm',
  'iopl',
  'kcmp',
  'kexec_file_load',
  'kexec_load',
  'keyctl',
  'lookup_dcookie',
  'mbind',
  'mount',
  'mount_setattr',
  'move_mount',
  'move_pages',
  'nfsservctl',
  'open_by_handle_at',
  'open_tree',
  'perf_event_open',
  'pivot_root',
  'quotactl',
  'reboot',
  'request_key',
  'set_mempolicy',
  'setdomainname',
  'sethostname',
  'setns',
  'settimeofday',
  'swapoff',
  'swapon',
  'syslog',
  'umount',
  'umount2',
  'unshare',
  'uselib',
  'userfaultfd',
  'vhangup',
  'chroot',
  'process_vm_readv',
  'process_vm_writev',
  'ptrace',
  'fanotify_init',
  'io_uring_enter',
  'io_uring_register',
  'io_uring_setup',
];

function evaluateProfile(profile: Profile, capabilities: string[], refused: string[]): unknown {
  const rules = (profile.syscalls ?? []).filter(
    (rule) => applies(rule.includes, capabilities, true) && !applies(rule.excludes, capabilities, false),
  );
  const mapped = profile.archMap?.find((entry) => entry.architecture === architecture.scmp);
  const architectures =
    profile.architectures ??
    (mapped === undefined
      ? [architecture.scmp, ...architecture.sub]
      : [mapped.architecture, ...(mapped.subArchitectures ?? [])]);
  const named = new Set(rules.flatMap((rule) => rule.names ?? []));
  const denied = refused.filter((name) => !named.has(name));
  if (denied.length > 0) rules.push({ names: denied, action: 'SCMP_ACT_ERRNO', errnoRet: 1 });
  return {
    defaultAction: profile.defaultAction,
    ...(profile.defaultErrnoRet === undefined ? {} : { defaultErrnoRet: profile.defaultErrnoRet }),
    architectures,
    ...(profile.flags === undefined ? {} : { flags: profile.flags }),
    syscalls: rules.map((rule) => ({
      names: rule.names ?? [rule.name ?? ''],
      action: rule.action,
      ...(rule.errnoRet === undefined ? {} : { errnoRet: rule.errnoRet }),
      ...(rule.args === undefined || rule.args.length === 0 ? {} : { args: rule.args }),
    })),
  };
}

/** Included: all conditions hold (an absent one does). Excluded: any holds (an absent one does not). */
function applies(condition: Condition | undefined, capabilities: string[], whenAbsent: boolean): boolean {
  if (condition === undefined) return whenAbsent;
  const checks: boolean[] = [];
  if (condition.caps !== undefined && condition.caps.length > 0)
    checks.push(
      whenAbsent
        ? condition.caps.every((name) => capabilities.includes(name))
        : condition.caps.some((name) => capabilities.includes(name)),
    );
  if (condition.arches !== undefined && condition.arches.length > 0)
    checks.push(condition.arches.includes(architecture.name));
  if (condition.minKernel !== undefined) checks.push(kernelAtLeast(condition.minKernel));
  if (checks.length === 0) return whenAbsent;
  return whenAbsent ? checks.every(Boolean) : checks.some(Boolean);
}

export function kernelAtLeast(wanted: string): boolean {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  const [wantMajor = 0, wantMinor = 0] = wanted.split('.').map(Number);
  return major > wantMajor || (major === wantMajor && minor >= wantMinor);
}
