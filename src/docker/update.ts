/** `docker update`: limits of a container, in its control group at once and in its record; and its restart policy. */
import { ApiError } from '#base/errors.ts';
import type { Container } from '#engine/container.ts';
import { cgroupLimits } from '#engine/cgroup-limits.ts';
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
  if (merged.memoryLimitBytes !== undefined && merged.memoryLimitBytes > 0 && merged.memoryLimitBytes < 6 * 1024 * 1024) throw new ApiError('BadRequest', 'Minimum memory limit allowed is 6MB');
  const policy = body['RestartPolicy'] as { Name?: string; MaximumRetryCount?: number } | undefined;
  if (policy?.Name !== undefined && policy.Name !== '') {
    planRestart(policy, false);
    if (record.spec.autoRemove === true && policy.Name !== 'no') throw new ApiError('BadRequest', 'Restart policy cannot be updated because AutoRemove is enabled for the container');
    record.spec.restartPolicy = { name: policy.Name as 'no', maximumRetryCount: policy.MaximumRetryCount ?? 0 };
  }
  record.spec.resources = merged;
  if (container.isRunning) context.os.cgroups.applyLimits(record.run!.cgroup, cgroupLimits(changes));
  const asked = record.spec.request?.['HostConfig'] as Record<string, unknown> | undefined;
  if (asked !== undefined) for (const key of ['NanoCpus', 'CpuShares', 'Memory', 'MemorySwap', 'MemoryReservation', 'CpusetCpus', 'PidsLimit', 'CpuQuota', 'CpuPeriod']) if (body[key] !== undefined && body[key] !== 0 && body[key] !== '') asked[key] = body[key];
  container.save(context);
  parts.engine.events.emit({ type: 'container', action: 'update', id: record.id, attributes: { image: record.spec.image, name: container.name }, owner: 'docker' });
  return { Warnings: null };
}
