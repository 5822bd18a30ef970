/** `Cgroups` by the files of /sys/fs/cgroup. The contract is in cgroups.ts. */
import { mkdirSync, readFileSync, readdirSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '#base/thrown.ts';
import { delegatedGroup } from './cgroups.ts';
import type { BlockIoRule, CgroupFeature, CgroupLimits, CgroupMode, CgroupStats, Cgroups } from './cgroups.ts';
import { parseMountInfo } from './mount.linux.ts';

type Warn = (message: string, fields?: Record<string, unknown>) => void;
const unlimited = 9e15;

interface Layout {
  mode: CgroupMode;
  unified: string | undefined;
  byController: Map<string, string>;
  roots: string[];
}

/** Mount points per controller; the first mount of a hierarchy counts. */
function findLayout(): Layout {
  const byController = new Map<string, string>();
  let unified: string | undefined;
  for (const entry of parseMountInfo(readFileSync('/proc/self/mountinfo', 'utf8'))) {
    if (entry.type === 'cgroup2') unified ??= entry.target;
    if (entry.type !== 'cgroup') continue;
    for (const option of entry.options.split(',')) {
      if (
        ['rw', 'ro', 'relatime', 'noatime', 'clone_children', 'xattr'].includes(option) ||
        option.startsWith('release_agent')
      )
        continue;
      if (!byController.has(option)) byController.set(option, entry.target);
    }
  }
  const mode: CgroupMode = byController.size === 0 ? 'v2' : unified === undefined ? 'v1' : 'hybrid';
  return {
    mode,
    unified,
    byController,
    roots: mode === 'v2' ? [unified ?? '/sys/fs/cgroup'] : [...new Set(byController.values())],
  };
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}

function readNumber(path: string): number {
  const text = read(path);
  return text === undefined ? 0 : text === 'max' ? unlimited : Number(text);
}

function readKeyed(path: string): Record<string, number> {
  const out: Record<string, number> = {};
  for (const line of (read(path) ?? '').split('\n')) {
    const at = line.lastIndexOf(' ');
    if (at > 0) out[line.slice(0, at)] = Number(line.slice(at + 1));
  }
  return out;
}

/** CPU shares (2…262144) as a version 2 weight (1…10000), the conversion that OCI runtimes use. */
function weightOfShares(shares: number): number {
  return Math.floor(1 + ((Math.max(2, Math.min(262144, shares)) - 2) * 9999) / 262142);
}

/** `top`: a group of version 2 that is this engine's; absent: the unit that systemd has delegated, or the very top. */
export function createCgroups(warn: Warn, top?: string): Cgroups {
  const layout = findLayout();
  if (layout.mode !== 'v2') return createLegacy(layout, warn);
  return createUnified(layout, warn, top ?? (exists(layout.roots[0]! + delegatedGroup) ? delegatedGroup : ''));
}

/** Of version 2, and undefined elsewhere: where a process is. */
export function unifiedGroupOf(pid: number | 'self'): string | undefined {
  return /^0::(.*)$/m.exec(read(`/proc/${pid}/cgroup`) ?? '')?.[1];
}

function exists(path: string): boolean {
  try {
    statSync(path);
    return true;
  } catch {
    return false;
  }
}

function below(path: string): string[] {
  try {
    return readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name);
  } catch {
    return [];
  }
}

function removeBelow(path: string): boolean {
  let gone = true;
  for (const name of below(path)) gone = removeBelow(`${path}/${name}`) && gone;
  try {
    rmdirSync(path);
  } catch (error) {
    if ((error as { code?: string }).code !== 'ENOENT') gone = false;
  }
  return gone;
}

function pidsBelow(path: string): number[] {
  const own = (read(`${path}/cgroup.procs`) ?? '').split('\n').filter(Boolean).map(Number);
  return [...own, ...below(path).flatMap((name) => pidsBelow(`${path}/${name}`))];
}

function shared(
  layout: Layout,
  main: string,
): Pick<Cgroups, 'pids' | 'remove' | 'list' | 'killAll' | 'enter' | 'adopt'> {
  const kill = (path: string): void => {
    // Twice over: what forks while the list is read is caught by the next round.
    for (let round = 0; round < 5; round++) {
      const pids = pidsBelow(main + path);
      if (pids.length === 0) return;
      for (const pid of pids)
        try {
          process.kill(pid, 'SIGKILL');
        } catch {
          /* gone */
        }
    }
  };
  return {
    pids: (path) => pidsBelow(main + path),
    async enter(path, pid) {
      await Promise.allSettled(layout.roots.map((root) => writeFile(`${root}${path}/cgroup.procs`, String(pid))));
    },
    adopt: () => undefined,
    killAll: kill,
    // In a hybrid layout a runtime makes groups in the unified hierarchy, too, where it sees it.
    remove: (path) =>
      [...new Set([...layout.roots, ...(layout.unified === undefined ? [] : [layout.unified])])]
        .map((root) => removeBelow(root + path))
        .every(Boolean),
    list: (path) => [...new Set(layout.roots.flatMap((root) => below(root + path)))],
  };
}

/** Undefined, or why the host did not take it. */
function write(warn: Warn, path: string, value: string): string | undefined {
  try {
    writeFileSync(path, value);
    return undefined;
  } catch (error) {
    warn('the host refused a limit', { path, value, error: messageOf(error) });
    return `${path.slice(path.lastIndexOf('/') + 1)}=${value}: ${(error as { code?: string }).code ?? messageOf(error)}`;
  }
}

/**
 * Looks, 5 ms apart, until a group stands still: processes in the kernel's own work take their time on a busy machine.
 */
const freezeLooksMax = 1000;

/** Files of a group that is not the top one, which has fewer, and by which each limit is known. */
const featureFiles: Readonly<Record<CgroupFeature, readonly [controller: string, ...files: string[]]>> = {
  blockIoWeight: ['blkio', 'blkio.weight', 'blkio.bfq.weight', 'io.weight', 'io.bfq.weight'],
  blockIoWeightDevice: ['blkio', 'blkio.weight_device', 'io.bfq.weight'],
  blockIoThrottle: ['blkio', 'blkio.throttle.read_bps_device', 'io.max'],
  swappiness: ['memory', 'memory.swappiness'],
  oomKillDisable: ['memory', 'memory.oom_control'],
  realtime: ['cpu', 'cpu.rt_runtime_us'],
  tcpMemory: ['memory', 'memory.kmem.tcp.limit_in_bytes'],
};

/** Files of rules of single devices, in version 1; and the words for rates in version 2's `io.max`. */
const legacyRuleFiles: Readonly<Record<BlockIoRule['type'], string>> = {
  weight: 'blkio.weight_device',
  readBps: 'blkio.throttle.read_bps_device',
  writeBps: 'blkio.throttle.write_bps_device',
  readIops: 'blkio.throttle.read_iops_device',
  writeIops: 'blkio.throttle.write_iops_device',
};
const rateWords = { readBps: 'rbps', writeBps: 'wbps', readIops: 'riops', writeIops: 'wiops' } as const;

function offers(directory: (controller: string) => string | undefined, feature: CgroupFeature): boolean {
  const [controller, ...files] = featureFiles[feature];
  const root = directory(controller);
  if (root === undefined) return false;
  const places = [
    root,
    ...below(root)
      .slice(0, 1)
      .map((name) => `${root}/${name}`),
  ];
  return places.some((place) => files.some((file) => exists(`${place}/${file}`)));
}

function createLegacy(layout: Layout, warn: Warn): Cgroups {
  const at = (controller: string, path: string): string =>
    `${layout.byController.get(controller) ?? '/nonexistent'}${path}`;
  const has = (controller: string): boolean => layout.byController.has(controller);
  const common = shared(
    layout,
    layout.byController.get('pids') ?? layout.byController.get('memory') ?? layout.roots[0]!,
  );
  const unifiedControllers = layout.unified === undefined ? '' : (read(`${layout.unified}/cgroup.controllers`) ?? '');
  const applyLimits = (path: string, limits: CgroupLimits): string[] => {
    const refused: string[] = [];
    const set = (controller: string, file: string, value: number | string | undefined): void => {
      const reason =
        value !== undefined && has(controller)
          ? write(warn, `${at(controller, path)}/${file}`, String(value))
          : undefined;
      if (reason !== undefined) refused.push(reason);
    };
    set('cpu', 'cpu.shares', limits.cpuShares);
    set('cpu', 'cpu.cfs_period_us', limits.cpuPeriodUs);
    set('cpu', 'cpu.cfs_quota_us', limits.cpuQuotaUs);
    set('cpuset', 'cpuset.cpus', limits.cpusetCpus);
    set('cpuset', 'cpuset.mems', limits.cpusetMems);
    const swap = exists(`${at('memory', path)}/memory.memsw.limit_in_bytes`) ? limits.memorySwapBytes : undefined;
    // Memory never exceeds memory and swap together: what grows, the sum, goes first.
    const grows =
      swap !== undefined && (swap < 0 || swap > readNumber(`${at('memory', path)}/memory.memsw.limit_in_bytes`));
    if (grows) set('memory', 'memory.memsw.limit_in_bytes', swap);
    set('memory', 'memory.limit_in_bytes', limits.memoryLimitBytes);
    if (!grows) set('memory', 'memory.memsw.limit_in_bytes', swap);
    set('memory', 'memory.soft_limit_in_bytes', limits.memoryReservationBytes);
    set(
      'blkio',
      exists(`${at('blkio', path)}/blkio.weight`) ? 'blkio.weight' : 'blkio.bfq.weight',
      limits.blockIoWeight,
    );
    for (const { type, major, minor, value } of limits.blockIoDevices ?? [])
      set('blkio', legacyRuleFiles[type], `${major}:${minor} ${value}`);
    set('pids', 'pids.max', limits.pidsMax === undefined ? undefined : limits.pidsMax <= 0 ? 'max' : limits.pidsMax);
    return refused;
  };
  const create = (path: string, limits?: CgroupLimits): void => {
    for (const root of layout.roots) {
      try {
        mkdirSync(root + path, { recursive: true });
      } catch (error) {
        warn('a control group could not be made', { path: root + path, error: messageOf(error) });
      }
    }
    if (has('cpuset')) inheritCpuset(layout.byController.get('cpuset')!, path);
    if (has('memory'))
      try {
        writeFileSync(`${at('memory', path)}/memory.use_hierarchy`, '1');
      } catch {
        /* always on in newer kernels */
      }
    if (limits !== undefined) applyLimits(path, limits);
  };
  return {
    offers: (feature) => offers((controller) => layout.byController.get(controller), feature),
    mode: layout.mode,
    top: '',
    controllers: [...layout.byController.keys()],
    create,
    applyLimits,
    ...common,
    hybridMount: layout.mode === 'hybrid' && unifiedControllers !== '' ? layout.unified : undefined,
    stats: (path) =>
      exists(at(has('memory') ? 'memory' : 'pids', path))
        ? legacyStats((controller) => at(controller, path))
        : undefined,
    memoryUsageBytes: (path) => readNumber(`${at('memory', path)}/memory.usage_in_bytes`),
    oomKilled: (path) => (readKeyed(`${at('memory', path)}/memory.oom_control`)['oom_kill'] ?? 0) > 0,
    async freeze(path, frozen) {
      const file = `${at('freezer', path)}/freezer.state`;
      const wanted = frozen ? 'FROZEN' : 'THAWED';
      for (let i = 0; i < freezeLooksMax; i++) {
        writeFileSync(file, wanted);
        if (read(file) === wanted) return;
        await sleep(5);
      }
      throw new Error(`the control group ${path} did not become ${wanted.toLowerCase()}`);
    },
  };
}

/** A new cpuset group has no processors and no memory nodes, and nothing can enter it before it has. */
function inheritCpuset(root: string, path: string): void {
  let at = root;
  for (const part of path.split('/').filter(Boolean)) {
    const parent = at;
    at = `${at}/${part}`;
    for (const file of ['cpuset.cpus', 'cpuset.mems']) {
      if (read(`${at}/${file}`) === '')
        try {
          writeFileSync(`${at}/${file}`, read(`${parent}/${file}`) ?? '');
        } catch {
          /* the runtime tells */
        }
    }
  }
}

function legacyStats(at: (controller: string) => string): CgroupStats {
  const cpu = readKeyed(`${at('cpu')}/cpu.stat`);
  const usage = readKeyed(`${at('cpuacct')}/cpuacct.stat`);
  const memory = readKeyed(`${at('memory')}/memory.stat`);
  const ticksToNs = 10_000_000;
  return {
    cpuNanoseconds: readNumber(`${at('cpuacct')}/cpuacct.usage`),
    cpuUserNanoseconds: (usage['user'] ?? 0) * ticksToNs,
    cpuSystemNanoseconds: (usage['system'] ?? 0) * ticksToNs,
    cpuPeriods: cpu['nr_periods'] ?? 0,
    cpuThrottledPeriods: cpu['nr_throttled'] ?? 0,
    cpuThrottledNanoseconds: cpu['throttled_time'] ?? 0,
    memoryUsageBytes: readNumber(`${at('memory')}/memory.usage_in_bytes`),
    memoryInactiveFileBytes: memory['total_inactive_file'] ?? 0,
    memoryLimitBytes: readNumber(`${at('memory')}/memory.limit_in_bytes`),
    memoryMaxUsageBytes: readNumber(`${at('memory')}/memory.max_usage_in_bytes`),
    memorySwapBytes: memory['total_swap'] ?? 0,
    memoryStat: memory,
    pids: readNumber(`${at('pids')}/pids.current`),
    pidsLimit: readNumber(`${at('pids')}/pids.max`),
    blockIo: legacyBlockIo(
      read(`${at('blkio')}/blkio.throttle.io_service_bytes`) ?? '',
      read(`${at('blkio')}/blkio.throttle.io_serviced`) ?? '',
    ),
  };
}

function legacyBlockIo(bytes: string, operations: string): CgroupStats['blockIo'] {
  const counts = new Map(
    operations.split('\n').map((line) => {
      const [device, op, count] = line.split(' ');
      return [`${device} ${op}`, Number(count)];
    }),
  );
  return bytes.split('\n').flatMap((line) => {
    const [device = '', op, count] = line.split(' ');
    if (op !== 'Read' && op !== 'Write') return [];
    const [major, minor] = device.split(':').map(Number);
    return [
      {
        major: major ?? 0,
        minor: minor ?? 0,
        op,
        bytes: Number(count),
        operations: counts.get(`${device} ${op}`) ?? 0,
      },
    ];
  });
}

function createUnified(layout: Layout, warn: Warn, top: string): Cgroups {
  const root = layout.roots[0]!;
  const controllers = (read(`${root}${top}/cgroup.controllers`) ?? '').split(' ').filter(Boolean);
  const common = shared(layout, root);
  const applyLimits = (path: string, limits: CgroupLimits): string[] => {
    const refused: string[] = [];
    const set = (file: string, value: number | string | undefined): void => {
      const reason = value === undefined ? undefined : write(warn, `${root}${path}/${file}`, String(value));
      if (reason !== undefined) refused.push(reason);
    };
    set('cpu.weight', limits.cpuShares === undefined ? undefined : weightOfShares(limits.cpuShares));
    if (limits.cpuQuotaUs !== undefined)
      set('cpu.max', `${limits.cpuQuotaUs <= 0 ? 'max' : limits.cpuQuotaUs} ${limits.cpuPeriodUs ?? 100_000}`);
    set('cpuset.cpus', limits.cpusetCpus);
    set('cpuset.mems', limits.cpusetMems);
    set(
      'memory.max',
      limits.memoryLimitBytes === undefined
        ? undefined
        : limits.memoryLimitBytes <= 0
          ? 'max'
          : limits.memoryLimitBytes,
    );
    set('memory.low', limits.memoryReservationBytes);
    if (limits.blockIoWeight !== undefined) {
      if (exists(`${root}${path}/io.bfq.weight`)) set('io.bfq.weight', limits.blockIoWeight);
      else set('io.weight', `default ${Math.floor(1 + ((limits.blockIoWeight - 10) * 9999) / 990)}`);
    }
    for (const { type, major, minor, value } of limits.blockIoDevices ?? [])
      if (type === 'weight') set('io.bfq.weight', `${major}:${minor} ${value || 'default'}`);
      else set('io.max', `${major}:${minor} ${rateWords[type]}=${value || 'max'}`);
    if (limits.memorySwapBytes !== undefined)
      set(
        'memory.swap.max',
        limits.memorySwapBytes < 0 ? 'max' : Math.max(0, limits.memorySwapBytes - (limits.memoryLimitBytes ?? 0)),
      );
    set('pids.max', limits.pidsMax === undefined ? undefined : limits.pidsMax <= 0 ? 'max' : limits.pidsMax);
    return refused;
  };
  const create = (path: string, limits?: CgroupLimits): void => {
    // Above a delegated unit controllers are systemd's to hand down.
    const isBelowTop = top !== '' && path.startsWith(`${top}/`);
    let at = isBelowTop ? root + top : root;
    const wanted = controllers.map((name) => `+${name}`);
    for (const part of (isBelowTop ? path.slice(top.length) : path).split('/').filter(Boolean)) {
      // One controller that the host refuses must not take the others with it.
      try {
        writeFileSync(`${at}/cgroup.subtree_control`, wanted.join(' '));
      } catch {
        for (const one of wanted)
          try {
            writeFileSync(`${at}/cgroup.subtree_control`, one);
          } catch {
            /* not delegated */
          }
      }
      at = `${at}/${part}`;
      mkdirSync(at, { recursive: true });
    }
    if (limits !== undefined) applyLimits(path, limits);
  };
  return {
    offers: (feature) => offers(() => root + top, feature),
    mode: 'v2',
    top,
    controllers,
    hybridMount: undefined,
    create,
    applyLimits,
    ...common,
    killAll(path) {
      try {
        writeFileSync(`${root}${path}/cgroup.kill`, '1');
      } catch {
        common.killAll(path);
      }
    },
    stats: (path) => (exists(root + path) ? unifiedStats(root + path) : undefined),
    memoryUsageBytes: (path) => readNumber(`${root}${path}/memory.current`),
    oomKilled: (path) => (readKeyed(`${root}${path}/memory.events`)['oom_kill'] ?? 0) > 0,
    async freeze(path, frozen) {
      writeFileSync(`${root}${path}/cgroup.freeze`, frozen ? '1' : '0');
      for (let i = 0; i < freezeLooksMax; i++) {
        if (readKeyed(`${root}${path}/cgroup.events`)['frozen'] === (frozen ? 1 : 0)) return;
        await sleep(5);
      }
      throw new Error(`the control group ${path} could not be frozen`);
    },
  };
}

function unifiedStats(path: string): CgroupStats {
  const cpu = readKeyed(`${path}/cpu.stat`);
  const memory = readKeyed(`${path}/memory.stat`);
  const blockIo = (read(`${path}/io.stat`) ?? '').split('\n').flatMap((line) => {
    const [device = '', ...fields] = line.split(' ');
    const values = new Map(fields.map((field) => field.split('=') as [string, string]));
    const [major = 0, minor = 0] = device.split(':').map(Number);
    if (!values.has('rbytes')) return [];
    return [
      {
        major,
        minor,
        op: 'Read' as const,
        bytes: Number(values.get('rbytes')),
        operations: Number(values.get('rios')),
      },
      {
        major,
        minor,
        op: 'Write' as const,
        bytes: Number(values.get('wbytes')),
        operations: Number(values.get('wios')),
      },
    ];
  });
  return {
    cpuNanoseconds: (cpu['usage_usec'] ?? 0) * 1000,
    cpuUserNanoseconds: (cpu['user_usec'] ?? 0) * 1000,
    cpuSystemNanoseconds: (cpu['system_usec'] ?? 0) * 1000,
    cpuPeriods: cpu['nr_periods'] ?? 0,
    cpuThrottledPeriods: cpu['nr_throttled'] ?? 0,
    cpuThrottledNanoseconds: (cpu['throttled_usec'] ?? 0) * 1000,
    memoryUsageBytes: readNumber(`${path}/memory.current`),
    memoryInactiveFileBytes: memory['inactive_file'] ?? 0,
    memoryLimitBytes: readNumber(`${path}/memory.max`),
    memoryMaxUsageBytes: readNumber(`${path}/memory.peak`),
    memorySwapBytes: readNumber(`${path}/memory.swap.current`),
    memoryStat: memory,
    pids: readNumber(`${path}/pids.current`),
    pidsLimit: readNumber(`${path}/pids.max`),
    blockIo,
  };
}
