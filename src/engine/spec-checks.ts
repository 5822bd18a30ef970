/**
 * What the engine refuses of a container's specification, whoever asks: limits that contradict each other, and texts
 * that the kernel would cut.
 */
import { ApiError } from '#base/errors.ts';
import type { ContainerSpec, Resources } from './engine.ts';
import { memoryLimitBytesMin } from './limits.ts';

function refuse(message: string): never {
  throw new ApiError('BadRequest', message);
}

/** Values as docker words them. Absent and 0 mean no limit. */
export function checkResources(resources: Resources): void {
  const {
    memoryLimitBytes: memory = 0,
    memorySwapBytes: swap = 0,
    memoryReservationBytes: reservation = 0,
    cpuPeriodUs: period = 0,
    cpuQuotaUs: quota = 0,
    oomScoreAdj: score = 0,
  } = resources;
  if (memory !== 0 && memory < memoryLimitBytesMin) refuse('Minimum memory limit allowed is 6MB');
  if (swap > 0 && memory === 0) refuse('You should always set the Memory limit when using Memoryswap limit, see usage');
  if (swap > 0 && swap < memory) refuse('Minimum memoryswap limit should be larger than memory limit, see usage');
  if (reservation < 0 || (reservation !== 0 && reservation < memoryLimitBytesMin))
    refuse('Minimum memory reservation allowed is 6MB');
  if (reservation > 0 && memory > 0 && memory < reservation)
    refuse('Minimum memory limit can not be less than memory reservation limit, see usage');
  if (period !== 0 && (period < 1000 || period > 1_000_000))
    refuse('CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)');
  if (quota > 0 && quota < 1000) refuse('CPU cfs quota can not be less than 1ms (i.e. 1000)');
  if ((resources.cpuShares ?? 0) < 0)
    refuse(`invalid CPU shares (${resources.cpuShares}): value must be a positive integer`);
  if (score < -1000 || score > 1000) refuse(`Invalid value ${score}, range for oom score adj is [-1000, 1000]`);
  for (const [name, set, kind] of [
    ['cpuset cpus', resources.cpusetCpus, 'CPUs'],
    ['cpuset mems', resources.cpusetMems, 'memory nodes'],
  ] as const) {
    if (set !== undefined && set !== '' && parseCpuset(set) === undefined)
      refuse(`Invalid value ${set} for ${name} (a list of ${kind}, as 0-2,4)`);
  }
  for (const limit of resources.ulimits ?? [])
    if (limit.hard >= 0 && (limit.soft > limit.hard || limit.soft < 0))
      refuse(`ulimit soft limit must be less than or equal to hard limit: ${limit.soft} > ${limit.hard}`);
}

/** `0-2,4`; undefined when it is none. */
export function parseCpuset(text: string): { from: number; to: number }[] | undefined {
  const out = text.split(',').map((part) => /^(\d{1,6})(?:-(\d{1,6}))?$/.exec(part.trim()));
  const ranges = out.map((match) =>
    match === null ? undefined : { from: Number(match[1]), to: Number(match[2] ?? match[1]) },
  );
  return ranges.every((range) => range !== undefined && range.from <= range.to)
    ? (ranges as { from: number; to: number }[])
    : undefined;
}

/**
 * A NUL ends a text in the kernel: what follows it would be lost without a word, and a variable's name could hide
 * another's.
 */
export function checkNul(what: string, texts: Iterable<string | undefined>): void {
  for (const text of texts)
    if (text?.includes('\0') === true)
      refuse(`invalid ${what} ${JSON.stringify(text.slice(0, 128))}: it contains a NUL`);
}

export function checkSpecTexts(spec: ContainerSpec): void {
  checkNul('environment variable', spec.env);
  checkNul('argument', [...(spec.entrypoint ?? []), ...(spec.command ?? [])]);
  checkNul('path', [
    spec.workingDir,
    spec.cgroupParent,
    ...spec.mounts.flatMap((mount) => [mount.source, mount.target, mount.subPath]),
    ...(spec.resources.devices ?? []).flatMap((device) => [device.hostPath, device.containerPath]),
  ]);
  checkNul('user', [spec.user, ...(spec.groupAdd ?? [])]);
  checkNul('name', [
    spec.hostname,
    spec.domainname,
    ...(spec.extraHosts ?? []),
    ...Object.entries(spec.sysctls ?? {}).flat(),
    ...(spec.dns?.servers ?? []),
    ...(spec.dns?.search ?? []),
    ...(spec.dns?.options ?? []),
  ]);
}
