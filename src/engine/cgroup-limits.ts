/** The part of a container's limits that is files of a control group. */
import { ApiError } from '#base/errors.ts';
import type { CgroupLimits, Cgroups } from '#os/cgroups.ts';
import type { Resources } from './engine.ts';
import { pidsMaxMax } from './limits.ts';

export function cgroupLimits(resources: Resources): CgroupLimits {
  const {
    cpuShares,
    cpuQuotaUs,
    cpuPeriodUs,
    cpusetCpus,
    cpusetMems,
    memoryLimitBytes,
    memoryReservationBytes,
    memorySwapBytes,
  } = resources;
  const blockIoWeight = resources.blockIo?.weight || undefined;
  const pidsMax = (resources.pidsMax ?? 0) > pidsMaxMax ? -1 : resources.pidsMax;
  return Object.fromEntries(
    Object.entries({
      cpuShares,
      cpuQuotaUs,
      cpuPeriodUs,
      cpusetCpus,
      cpusetMems,
      memoryLimitBytes,
      memoryReservationBytes,
      memorySwapBytes,
      pidsMax,
      blockIoWeight,
    }).filter(([, value]) => value !== undefined),
  ) as CgroupLimits;
}

/** Other limits for a group that stands. Throws InternalError with what the kernel refused. */
export function applyUpdate(cgroups: Cgroups, path: string, limits: CgroupLimits): void {
  const refused = cgroups.applyLimits(path, limits);
  if (refused.length > 0) throw new ApiError('InternalError', `the kernel refused ${refused.join(', ')}`);
}
