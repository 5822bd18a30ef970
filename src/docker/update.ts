/** `docker update`: limits of a container, in its control group at once and in its record; and its restart policy. */
import { ApiError } from '#base/errors.ts';
import type { Container } from '#engine/container.ts';
import { checkResources } from '#engine/spec-checks.ts';
import { cgroupLimits } from '#engine/cgroup-limits.ts';
import type { Resources } from '#engine/engine.ts';
import { planResources, planRestart } from './create-request.ts';
import type { HostConfigBody } from './create-request.ts';
import type { DockerParts } from './context.ts';

export function updateContainer(parts: DockerParts, container: Container, body: HostConfigBody): unknown {
  const { record } = container;
  const { context } = parts.engine;
  const changes = planResources({ ...body, Devices: undefined, Ulimits: undefined });
  delete changes.devices;
  delete changes.ulimits;
  if (body['MemorySwap'] === undefined || body['MemorySwap'] === 0) delete changes.memorySwapBytes;
  const merged = { ...record.spec.resources, ...changes };
  if (merged.memoryLimitBytes !== undefined && merged.memorySwapBytes !== undefined && merged.memorySwapBytes > 0 && merged.memoryLimitBytes > merged.memorySwapBytes) {
    throw new ApiError('InternalError', `Cannot update container ${record.id}: Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time`);
  }
  checkResources(merged);
  const policy = body['RestartPolicy'] as { Name?: string; MaximumRetryCount?: number } | undefined;
  if (policy?.Name !== undefined && policy.Name !== '') {
    planRestart(policy, false);
    if (record.spec.autoRemove === true && policy.Name !== 'no') throw new ApiError('BadRequest', 'Restart policy cannot be updated because AutoRemove is enabled for the container');
  }
  if (container.isRunning) {
    const refused = context.os.cgroups.applyLimits(record.run!.cgroup, cgroupLimits(together(changes, merged)));
    if (refused.length > 0) throw new ApiError('InternalError', `Cannot update container ${record.id}: the kernel refused ${refused.join(', ')}`);
  }
  record.spec.resources = merged;
  if (policy?.Name !== undefined && policy.Name !== '') record.spec.restartPolicy = { name: policy.Name as 'no', maximumRetryCount: policy.MaximumRetryCount ?? 0 };
  const asked = record.spec.request?.['HostConfig'] as Record<string, unknown> | undefined;
  if (asked !== undefined) for (const key of ['NanoCpus', 'CpuShares', 'Memory', 'MemorySwap', 'MemoryReservation', 'CpusetCpus', 'CpusetMems', 'PidsLimit', 'CpuQuota', 'CpuPeriod']) if (body[key] !== undefined && body[key] !== 0 && body[key] !== '') asked[key] = body[key];
  container.save(context);
  parts.engine.events.emit({ type: 'container', action: 'update', id: record.id, attributes: { image: record.spec.image, name: container.name }, owner: 'docker' });
  return { Warnings: null };
}

/** What the kernel takes in one file, or checks against each other, goes to it together. */
function together(changes: Resources, merged: Resources): Resources {
  const out = { ...changes };
  for (const group of [['memoryLimitBytes', 'memorySwapBytes'], ['cpuQuotaUs', 'cpuPeriodUs']] as const) {
    if (group.some((key) => changes[key] !== undefined)) for (const key of group) if (merged[key] !== undefined) out[key] = merged[key];
  }
  return out;
}
