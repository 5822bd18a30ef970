/** The part of a container's limits that is files of a control group. */
import type { CgroupLimits } from '#os/cgroups.ts';
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
