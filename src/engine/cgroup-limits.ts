/** The part of a container's limits that is files of a control group. */
import type { CgroupLimits } from '#os/cgroups.ts';
import type { Resources } from './engine.ts';

export function cgroupLimits(resources: Resources): CgroupLimits {
  const { cpuShares, cpuQuotaUs, cpuPeriodUs, cpusetCpus, memoryLimitBytes, memoryReservationBytes, memorySwapBytes, pidsMax } = resources;
  return Object.fromEntries(Object.entries({ cpuShares, cpuQuotaUs, cpuPeriodUs, cpusetCpus, memoryLimitBytes, memoryReservationBytes, memorySwapBytes, pidsMax }).filter(([, value]) => value !== undefined)) as CgroupLimits;
}
