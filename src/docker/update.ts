/** `docker update`: limits of a container, in its control group at once and in its record; and its restart policy. */
import { ApiError } from '#base/errors.ts';
import { fieldOf } from '#base/unknown.ts';
import type { ContainerRecord } from '#engine/container-record.ts';
import type { Container } from '#engine/container.ts';
import { eventAttributes } from '#engine/container.ts';
import { checkResources } from '#engine/spec-checks.ts';
import { cgroupLimits } from '#engine/cgroup-limits.ts';
import type { BlockIoRule } from '#os/cgroups.ts';
import type { Resources } from '#engine/engine.ts';
import { cpus } from 'node:os';
import { checkUpdate } from './create-checks.ts';
import { planRestart } from './create-request.ts';
import { planResources } from './create-resources.ts';
import { hostFacts } from './host-facts.ts';
import type { HostFacts } from './host-facts.ts';
import type { HostConfigBody } from './create-body.ts';
import type { DockerParts } from './context.ts';

/** What is made with a container and stays. */
const fixed = [
  ['Devices', 'devices'],
  ['DeviceCgroupRules', 'deviceRules'],
  ['Ulimits', 'ulimits'],
  ['OomScoreAdj', 'oomScoreAdj'],
  ['OomKillDisable', 'oomKillDisable'],
  ['MemorySwappiness', 'memorySwappiness'],
  ['KernelMemoryTCP', 'tcpMemoryBytes'],
  ['CpuRealtimePeriod', 'cpuRealtimePeriodUs'],
  ['CpuRealtimeRuntime', 'cpuRealtimeRuntimeUs'],
] as const;

/** Fields of a create request that an update changes in it: `inspect` shows what was asked for. */
const askedFields = [
  'NanoCpus',
  'CpuShares',
  'Memory',
  'MemorySwap',
  'MemoryReservation',
  'CpusetCpus',
  'CpusetMems',
  'PidsLimit',
  'CpuQuota',
  'CpuPeriod',
  'BlkioWeight',
];

/** Lists of rules of single devices: what a request calls them, and the record. */
const deviceLists = [
  ['BlkioWeightDevice', 'weights', 'weight'],
  ['BlkioDeviceReadBps', 'readBps', 'readBps'],
  ['BlkioDeviceWriteBps', 'writeBps', 'writeBps'],
  ['BlkioDeviceReadIOps', 'readIops', 'readIops'],
  ['BlkioDeviceWriteIOps', 'writeIops', 'writeIops'],
] as const;

function keepAsked(record: ContainerRecord, body: HostConfigBody): void {
  const asked = record.spec.request?.['HostConfig'] as Record<string, unknown> | undefined;
  if (asked === undefined) return;
  for (const [field] of deviceLists) if (Array.isArray(body[field])) asked[field] = body[field];
  for (const key of askedFields)
    if (body[key] !== undefined && (body[key] !== 0 || key === 'PidsLimit') && body[key] !== '') asked[key] = body[key];
}

/** What changes of the limits, and what they are then; what cannot be changed is warned of and left. */
function planUpdate(
  record: ContainerRecord,
  body: HostConfigBody,
  facts: HostFacts,
): { changes: Resources; merged: Resources } {
  const { blockIo, ...rest } = planResources(body, facts);
  const changes: Resources = rest;
  const changedBlockIo = mergeBlockIo(record.spec.resources.blockIo, blockIo, body);
  if (changedBlockIo !== undefined) changes.blockIo = changedBlockIo;
  for (const [field, key] of fixed) {
    if (changes[key] !== undefined)
      facts.warn(`${field} of a container that is there cannot be changed. It is discarded.`);
    delete changes[key];
  }
  if (body['MemorySwap'] === undefined || body['MemorySwap'] === 0) delete changes.memorySwapBytes;
  const merged = { ...record.spec.resources, ...changes };
  if (
    merged.memoryLimitBytes !== undefined &&
    merged.memorySwapBytes !== undefined &&
    merged.memorySwapBytes > 0 &&
    merged.memoryLimitBytes > merged.memorySwapBytes
  ) {
    throw new ApiError(
      'InternalError',
      `Cannot update container ${record.id}: Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time`,
    );
  }
  checkProcessorShare(record, body);
  checkResources(merged);
  return { changes, merged };
}

type BlockIo = NonNullable<Resources['blockIo']>;
const noBlockIo: BlockIo = { weight: 0, weights: [], readBps: [], writeBps: [], readIops: [], writeIops: [] };

/** A list that the request has takes the place of the one before; undefined where nothing changes. */
function mergeBlockIo(before = noBlockIo, asked: BlockIo | undefined, body: HostConfigBody): Resources['blockIo'] {
  const given = deviceLists.filter(([field]) => Array.isArray(body[field]));
  const weight = asked?.weight ?? 0;
  if (given.length === 0 && weight === 0) return undefined;
  const lists = Object.fromEntries(given.map(([, key]) => [key, asked?.[key] ?? []]));
  return { ...before, ...lists, weight: weight === 0 ? before.weight : weight };
}

/** What the kernel is told of single devices, so that it has these rules and none of those before. */
function deviceRules(before = noBlockIo, after: BlockIo | undefined): BlockIoRule[] {
  if (after === undefined) return [];
  return deviceLists.flatMap(([, key, type]) => {
    const valueOf = (rule: { rate: number } | { weight: number }): number => ('rate' in rule ? rule.rate : rule.weight);
    const rules = after[key].map((rule) => ({ type, major: rule.major, minor: rule.minor, value: valueOf(rule) }));
    const isKept = (old: { major: number; minor: number }): boolean =>
      rules.some(({ major, minor }) => major === old.major && minor === old.minor);
    const gone = before[key].filter((old) => !isKept(old));
    return [...gone.map(({ major, minor }) => ({ type, major, minor, value: 0 })), ...rules];
  });
}

/** `--cpus` is a period and a quota: a container has the one or the others. */
function checkProcessorShare(record: ContainerRecord, body: HostConfigBody): void {
  const names = { NanoCpus: 'Nano CPUs', CpuPeriod: 'CPU Period', CpuQuota: 'CPU Quota' } as const;
  const refuse = (changed: keyof typeof names, set: keyof typeof names): void => {
    if (Number(body[changed] ?? 0) > 0 && Number(fieldOf(record.spec.request, 'HostConfig', set) ?? 0) > 0)
      throw new ApiError(
        'InternalError',
        `Cannot update container ${record.id}: Conflicting options: ${names[changed]} cannot be updated as ${set === 'NanoCpus' ? 'NanoCPUs' : names[set]} has already been set`,
      );
  };
  refuse('NanoCpus', 'CpuPeriod');
  refuse('NanoCpus', 'CpuQuota');
  refuse('CpuQuota', 'NanoCpus');
  refuse('CpuPeriod', 'NanoCpus');
}

export function updateContainer(
  parts: DockerParts,
  container: Container,
  body: HostConfigBody,
  version: readonly [number, number],
): unknown {
  const { record } = container;
  const { context } = parts.engine;
  const warnings: string[] = [];
  const facts = hostFacts(parts, cpus().length, warnings);
  checkUpdate(body, facts);
  // Clients that know no way to say "no limit" do not change it.
  if (version[1] < 40) delete body.PidsLimit;
  if (version[1] >= 52) delete body['KernelMemoryTCP'];
  if (version[1] < 55)
    for (const [field] of deviceLists) {
      if (Array.isArray(body[field]) && body[field].length > 0)
        facts.warn(`${field} of a container that is there cannot be changed before API version 1.55. It is discarded.`);
      delete body[field];
    }
  const isUnlimited = typeof body.PidsLimit === 'number' && body.PidsLimit <= 0;
  if (isUnlimited) body.PidsLimit = 0;
  const { changes, merged } = planUpdate(record, body, facts);
  if (isUnlimited) changes.pidsMax = merged.pidsMax = -1;
  const policy = body['RestartPolicy'] as { Name?: string; MaximumRetryCount?: number } | undefined;
  if (policy?.Name !== undefined && policy.Name !== '') {
    planRestart(policy, false);
    if (record.spec.autoRemove === true && policy.Name !== 'no')
      throw new ApiError(
        'Conflict',
        'Restart policy cannot be updated because AutoRemove is enabled for the container',
      );
  }
  if (container.isRunning) {
    const blockIoDevices = deviceRules(record.spec.resources.blockIo, changes.blockIo);
    const limits = { ...cgroupLimits(together(changes, merged)), blockIoDevices };
    const refused = context.os.cgroups.applyLimits(record.run!.cgroup, limits);
    if (refused.length > 0)
      throw new ApiError(
        'InternalError',
        `Cannot update container ${record.id}: the kernel refused ${refused.join(', ')}`,
      );
  }
  record.spec.resources = merged;
  if (policy?.Name !== undefined && policy.Name !== '')
    record.spec.restartPolicy = { name: policy.Name as 'no', maximumRetryCount: policy.MaximumRetryCount ?? 0 };
  keepAsked(record, body);
  container.save(context);
  parts.engine.events.emit({
    type: 'container',
    action: 'update',
    id: record.id,
    attributes: eventAttributes(container),
    owner: 'docker',
  });
  return { Warnings: warnings.length === 0 ? null : warnings };
}

/** What the kernel takes in one file, or checks against each other, goes to it together. */
function together(changes: Resources, merged: Resources): Resources {
  const out = { ...changes };
  for (const group of [
    ['memoryLimitBytes', 'memorySwapBytes'],
    ['cpuQuotaUs', 'cpuPeriodUs'],
  ] as const) {
    if (group.some((key) => changes[key] !== undefined))
      for (const key of group) if (merged[key] !== undefined) out[key] = merged[key];
  }
  return out;
}
