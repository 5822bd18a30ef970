/**
 * Capabilities by docker's rules (capabilities(7)): a default list, `--cap-add`, `--cap-drop`, `ALL`, and all of them
 * when privileged.
 */
import { ApiError } from '#base/errors.ts';

const all = [
  'CHOWN',
  'DAC_OVERRIDE',
  'DAC_READ_SEARCH',
  'FOWNER',
  'FSETID',
  'KILL',
  'SETGID',
  'SETUID',
  'SETPCAP',
  'LINUX_IMMUTABLE',
  'NET_BIND_SERVICE',
  'NET_BROADCAST',
  'NET_ADMIN',
  'NET_RAW',
  'IPC_LOCK',
  'IPC_OWNER',
  'SYS_MODULE',
  'SYS_RAWIO',
  'SYS_CHROOT',
  'SYS_PTRACE',
  'SYS_PACCT',
  'SYS_ADMIN',
  'SYS_BOOT',
  'SYS_NICE',
  'SYS_RESOURCE',
  'SYS_TIME',
  'SYS_TTY_CONFIG',
  'MKNOD',
  'LEASE',
  'AUDIT_WRITE',
  'AUDIT_CONTROL',
  'SETFCAP',
  'MAC_OVERRIDE',
  'MAC_ADMIN',
  'SYSLOG',
  'WAKE_ALARM',
  'BLOCK_SUSPEND',
  'AUDIT_READ',
  'PERFMON',
  'BPF',
  'CHECKPOINT_RESTORE',
];

const byDefault = [
  'CHOWN',
  'DAC_OVERRIDE',
  'FSETID',
  'FOWNER',
  'MKNOD',
  'NET_RAW',
  'SETGID',
  'SETUID',
  'SETFCAP',
  'SETPCAP',
  'NET_BIND_SERVICE',
  'SYS_CHROOT',
  'KILL',
  'AUDIT_WRITE',
];

/** Capabilities that this process itself may hand on, from `CapBnd` or `CapEff` of /proc/self/status. */
export function parseCapabilityMask(hex: string): Set<string> {
  const mask = BigInt(`0x${hex}`);
  return new Set(all.filter((_, bit) => (mask >> BigInt(bit)) & 1n));
}

function normalise(name: string, option: 'CapAdd' | 'CapDrop'): string {
  const plain = name.toUpperCase().replace(/^CAP_/, '');
  if (plain !== 'ALL' && !all.includes(plain))
    throw new ApiError('BadRequest', `invalid ${option}: unknown capability: ${JSON.stringify(`CAP_${plain}`)}`);
  return plain;
}

/** Names with `CAP_`, sorted by number. Those that the host cannot give are left out, since the runtime would fail. */
export function planCapabilities(options: {
  privileged: boolean;
  add: string[];
  drop: string[];
  available: Set<string>;
}): string[] {
  const add = options.add.map((name) => normalise(name, 'CapAdd'));
  const drop = options.drop.map((name) => normalise(name, 'CapDrop'));
  const wanted = new Set(options.privileged || add.includes('ALL') ? all : drop.includes('ALL') ? [] : byDefault);
  for (const name of drop) if (name !== 'ALL') wanted.delete(name);
  for (const name of add) if (name !== 'ALL') wanted.add(name);
  return all.filter((name) => wanted.has(name) && options.available.has(name)).map((name) => `CAP_${name}`);
}
