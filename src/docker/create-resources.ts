/**
 * Limits and rights of a request's `HostConfig`. What the host cannot hold is discarded with docker's warning; what
 * nobody can mean is refused.
 */
import { ApiError } from '#base/errors.ts';
import { statIfExists } from '#os/files.ts';
import { deviceParts } from '#os/special-files.ts';
import type { Resources, Security } from '#engine/engine.ts';
import type { HostConfigBody } from './create-body.ts';
import type { HostFacts } from './host-facts.ts';

const unsupported = (what: string): string => `Your kernel does not support ${what} or the cgroup is not mounted. `;

function integerOf(host: HostConfigBody, key: string): number | undefined {
  const value = host[key];
  // What is beyond the integers that a double holds is beyond every machine, too.
  return typeof value === 'number' && value !== 0
    ? Math.min(Number.MAX_SAFE_INTEGER, Math.max(Number.MIN_SAFE_INTEGER, value))
    : undefined;
}

export function planResources(host: HostConfigBody, facts: HostFacts): Resources {
  const number = (key: string): number | undefined => integerOf(host, key);
  const nano = number('NanoCpus');
  if (nano !== undefined && (number('CpuQuota') !== undefined || number('CpuPeriod') !== undefined))
    throw new ApiError('BadRequest', 'Conflicting options: Nano CPUs and CPU Period cannot both be set');
  const out: Record<string, unknown> = {
    cpuShares: number('CpuShares'),
    cpuQuotaUs: nano === undefined ? number('CpuQuota') : Math.round(nano / 10_000),
    cpuPeriodUs: nano === undefined ? number('CpuPeriod') : 100_000,
    cpusetCpus: cpusetOf(host, 'CpusetCpus', 'cpus', facts),
    cpusetMems: cpusetOf(host, 'CpusetMems', 'mems', facts),
    memoryLimitBytes: number('Memory'),
    memoryReservationBytes: number('MemoryReservation'),
    // Docker's default: as much swap again as memory.
    memorySwapBytes:
      number('MemorySwap') ??
      (number('Memory') === undefined ? undefined : Math.min(Number.MAX_SAFE_INTEGER, number('Memory')! * 2)),
    pidsMax: Math.max(0, number('PidsLimit') ?? 0) || undefined,
    oomScoreAdj: number('OomScoreAdj'),
    devices: (host.Devices ?? []).map((device) => ({
      hostPath: device.PathOnHost,
      containerPath: device.PathInContainer || device.PathOnHost,
      permissions: checkPermissions(device.CgroupPermissions ?? ''),
    })),
    deviceRequests: (host.DeviceRequests ?? []).map((request) => ({
      driver: request.Driver ?? '',
      count: request.Count ?? 0,
      ids: request.DeviceIDs ?? [],
      capabilities: request.Capabilities ?? [],
      options: request.Options ?? {},
    })),
    deviceRules: (host.DeviceCgroupRules ?? []).map(parseDeviceRule),
    ulimits: (host.Ulimits ?? []).map((limit) => ({
      name: limit.Name,
      soft: limit.Soft,
      hard: limit.Hard,
    })),
    ...planMemoryDetails(host, facts),
    ...planRealtime(host, facts),
    blockIo: planBlockIo(host, facts),
  };
  warnLost(out, facts);
  return Object.fromEntries(
    Object.entries(out).filter(([, value]) => value !== undefined && !(Array.isArray(value) && value.length === 0)),
  ) as Resources;
}

/**
 * Numbers of a cpuset's list, `0-3,8`; undefined when it is none. Ranges are not spelled out: a list may name a
 * million.
 */
function parseRanges(text: string): [number, number][] | undefined {
  const ranges: [number, number][] = [];
  for (const part of text.split(',')) {
    const match = /^(\d{1,6})(?:-(\d{1,6}))?$/.exec(part.trim());
    if (match === null || Number(match[2] ?? match[1]) < Number(match[1])) return undefined;
    ranges.push([Number(match[1]), Number(match[2] ?? match[1])]);
  }
  return ranges;
}

function cpusetOf(
  host: HostConfigBody,
  key: 'CpusetCpus' | 'CpusetMems',
  kind: 'cpus' | 'mems',
  facts: HostFacts,
): string | undefined {
  const asked = String(host[key] ?? '');
  if (asked === '') return undefined;
  const ranges = parseRanges(asked);
  if (ranges === undefined) throw new ApiError('BadRequest', `Invalid value ${asked.slice(0, 100)} for cpuset ${kind}`);
  const online = facts.online[kind];
  const present = online === undefined ? undefined : parseRanges(online);
  const isThere = (number: number): boolean => present!.some(([first, last]) => number >= first && number <= last);
  const lacks = ([first, last]: [number, number]): boolean => {
    for (let number = first; number <= last; number++) if (!isThere(number)) return true;
    return false;
  };
  if (present !== undefined && ranges.some(lacks))
    throw new ApiError(
      'BadRequest',
      `Requested ${kind === 'cpus' ? 'CPUs' : 'memory nodes'} are not available - requested ${asked}, available: ${online!}`,
    );
  return asked;
}

/** Limits whose whole controller is missing; the engine leaves them out. */
function warnLost(resources: Resources, facts: HostFacts): void {
  const lost = (keys: (keyof Resources)[], controller: string, what: string): void => {
    if (!facts.hasController(controller) && keys.some((key) => resources[key] !== undefined))
      facts.warn(
        unsupported(what).trim() +
          (what.startsWith('PIDs')
            ? ' PIDs limit discarded.'
            : what.startsWith('cpuset')
              ? ' Cpuset discarded.'
              : ' Limitation discarded.'),
      );
  };
  lost(['memoryLimitBytes', 'memoryReservationBytes'], 'memory', 'memory limit capabilities');
  lost(['cpuQuotaUs', 'cpuPeriodUs'], 'cpu', 'CPU CFS quota');
  lost(['cpuShares'], 'cpu', 'CPU shares');
  lost(['cpusetCpus', 'cpusetMems'], 'cpuset', 'cpuset');
  lost(['pidsMax'], 'pids', 'PIDs limit capabilities');
  if (
    facts.hasController('memory') &&
    resources.memoryLimitBytes !== undefined &&
    (resources.memorySwapBytes ?? 0) > 0 &&
    !facts.hasSwapLimit
  )
    facts.warn(
      'Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.',
    );
}

function planMemoryDetails(host: HostConfigBody, facts: HostFacts): Partial<Resources> {
  const out: Partial<Resources> = {};
  const swappiness = host['MemorySwappiness'] as number | null | undefined;
  if (swappiness !== undefined && swappiness !== null && swappiness !== -1) {
    if (swappiness < 0 || swappiness > 100)
      throw new ApiError('BadRequest', `invalid value: ${swappiness}, valid memory swappiness range is 0-100`);
    if (facts.offers('swappiness')) out.memorySwappiness = swappiness;
    else facts.warn(`${unsupported('memory swappiness capabilities')}Memory swappiness discarded.`);
  }
  if (host['OomKillDisable'] === true) {
    if (facts.offers('oomKillDisable')) out.oomKillDisable = true;
    else facts.warn('Your kernel does not support OomKillDisable. OomKillDisable discarded.');
    if (out.oomKillDisable === true && integerOf(host, 'Memory') === undefined)
      facts.warn(
        'OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.',
      );
  }
  if (integerOf(host, 'KernelMemory') !== undefined)
    facts.warn('Specifying a kernel memory limit is deprecated, and no kernel of today has one. Limitation discarded.');
  const tcp = integerOf(host, 'KernelMemoryTCP');
  if (tcp !== undefined) {
    if (facts.offers('tcpMemory')) out.tcpMemoryBytes = tcp;
    else facts.warn(`${unsupported('kernel memory TCP limit')}Limitation discarded.`);
  }
  for (const key of ['CpuCount', 'CpuPercent', 'IOMaximumIOps', 'IOMaximumBandwidth'])
    if (integerOf(host, key) !== undefined) facts.warn(`${key} is a limit of Windows. It is discarded.`);
  return out;
}

function planRealtime(host: HostConfigBody, facts: HostFacts): Partial<Resources> {
  const period = integerOf(host, 'CpuRealtimePeriod');
  const runtime = integerOf(host, 'CpuRealtimeRuntime');
  if (period === undefined && runtime === undefined) return {};
  if (!facts.offers('realtime'))
    throw new ApiError('BadRequest', 'Your kernel does not support CPU real-time scheduler');
  if (period !== undefined && runtime !== undefined && runtime > period)
    throw new ApiError('BadRequest', 'cpu real-time runtime cannot be higher than cpu real-time period');
  return {
    ...(period === undefined ? {} : { cpuRealtimePeriodUs: period }),
    ...(runtime === undefined ? {} : { cpuRealtimeRuntimeUs: runtime }),
  };
}

const weightRange = { least: 10, most: 1000 };

function planBlockIo(host: HostConfigBody, facts: HostFacts): Resources['blockIo'] {
  const weight = integerOf(host, 'BlkioWeight');
  const inRange = (value: number): boolean => value === 0 || (value >= weightRange.least && value <= weightRange.most);
  if (!inRange(weight ?? 0)) throw new ApiError('BadRequest', 'Range of blkio weight is from 10 to 1000');
  const weights = ((host['BlkioWeightDevice'] ?? []) as { Path: string; Weight: number }[]).map((device) => {
    if (!inRange(device.Weight)) throw new ApiError('BadRequest', 'Range of blkio weight is from 10 to 1000');
    return { ...deviceOf(device.Path), weight: device.Weight };
  });
  const rates = (key: string): { major: number; minor: number; rate: number }[] =>
    ((host[key] ?? []) as { Path: string; Rate: number }[]).map((device) => {
      if (device.Rate < 0) throw new ApiError('BadRequest', `invalid rate for device ${device.Path}: ${device.Rate}`);
      return { ...deviceOf(device.Path), rate: device.Rate };
    });
  const out = {
    weight,
    weights,
    readBps: rates('BlkioDeviceReadBps'),
    writeBps: rates('BlkioDeviceWriteBps'),
    readIops: rates('BlkioDeviceReadIOps'),
    writeIops: rates('BlkioDeviceWriteIOps'),
  };
  if (!facts.offers('blockIoWeight')) {
    if (out.weight !== undefined) facts.warn(`${unsupported('Block I/O weight')}Weight discarded.`);
    out.weight = undefined;
  }
  if (!facts.offers('blockIoWeightDevice')) {
    if (out.weights.length > 0) facts.warn(`${unsupported('Block I/O weight_device')}Weight-device discarded.`);
    out.weights = [];
  }
  if (!facts.offers('blockIoThrottle')) {
    for (const [key, what] of [
      ['readBps', 'BPS Block I/O read limit'],
      ['writeBps', 'BPS Block I/O write limit'],
      ['readIops', 'IOPS Block read limit'],
      ['writeIops', 'IOPS Block write limit'],
    ] as const) {
      if (out[key].length > 0) facts.warn(`${unsupported(what)}Block I/O limit discarded.`);
      out[key] = [];
    }
  }
  const isEmpty = Object.values(out).every(
    (value) => value === undefined || (Array.isArray(value) && value.length === 0),
  );
  return isEmpty ? undefined : { ...out, ...(out.weight === undefined ? { weight: 0 } : { weight: out.weight }) };
}

function deviceOf(path: string): { major: number; minor: number } {
  const stat = statIfExists(path);
  if (stat === undefined) throw new ApiError('BadRequest', `invalid device path ${path}: no such file or directory`);
  if (!stat.isBlockDevice() && !stat.isCharacterDevice())
    throw new ApiError('BadRequest', `invalid device path ${path}: not a device`);
  return deviceParts(stat.rdev);
}

function checkPermissions(text: string): string {
  if (text !== '' && (!/^[rwm]+$/.test(text) || new Set(text).size !== text.length))
    throw new ApiError('BadRequest', `invalid device cgroup permissions: ${text}`);
  return text;
}

/** `c 1:3 rwm`, `b *:* r`, `a`. */
function parseDeviceRule(text: string): NonNullable<Resources['deviceRules']>[number] {
  const match = /^([abc]) (\d+|\*):(\d+|\*) ([rwm]{1,3})$/.exec(text.trim());
  if (match === null) throw new ApiError('BadRequest', `invalid device cgroup rule format: '${text}'`);
  const part = (value: string): number | undefined => (value === '*' ? undefined : Number(value));
  const [major, minor] = [part(match[2]!), part(match[3]!)];
  return {
    type: match[1] as 'a',
    ...(major === undefined ? {} : { major }),
    ...(minor === undefined ? {} : { minor }),
    access: match[4]!,
  };
}

export function planSecurity(host: HostConfigBody, facts: HostFacts): Security {
  const out: Security = {
    privileged: host['Privileged'] === true,
    capAdd: host.CapAdd ?? [],
    capDrop: host.CapDrop ?? [],
    readOnlyRoot: host['ReadonlyRootfs'] === true,
  };
  for (const option of host.SecurityOpt ?? []) {
    const at = option.search(/[=:]/);
    const [key, value] = at < 0 ? [option, ''] : [option.slice(0, at), option.slice(at + 1)];
    const flag = (): boolean => {
      if (!/^(|1|t|true|0|f|false)$/i.test(value))
        throw new ApiError('BadRequest', `invalid --security-opt 2: "${option}"`);
      return !/^(0|f|false)$/i.test(value);
    };
    if (key === 'seccomp') out.seccomp = value;
    else if (key === 'no-new-privileges') out.noNewPrivileges = flag();
    else if (key === 'writable-cgroups') out.writableCgroups = flag();
    else if (key === 'apparmor') {
      if (facts.hasAppArmor) out.apparmor = value;
      else if (value !== 'unconfined')
        facts.warn(`AppArmor is not enabled on this host. The profile ${value} is discarded.`);
    } else if (key === 'label') {
      if (value !== 'disable' && !facts.hasSeLinux)
        facts.warn(`SELinux is not enabled on this host. The label ${value} is discarded.`);
      else if (value !== 'disable')
        throw new ApiError('BadRequest', `SELinux labels are not supported by this engine: "${option}"`);
    } else if (key === 'systempaths' && value === 'unconfined') {
      out.maskedPaths = [];
      out.readonlyPaths = [];
    } else throw new ApiError('BadRequest', `invalid --security-opt 2: "${option}"`);
  }
  if (host['MaskedPaths'] !== undefined && host['MaskedPaths'] !== null) out.maskedPaths = host['MaskedPaths'];
  if (host['ReadonlyPaths'] !== undefined && host['ReadonlyPaths'] !== null) out.readonlyPaths = host['ReadonlyPaths'];
  return out;
}
