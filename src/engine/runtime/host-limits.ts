/**
 * What this process may hand on: runtimes fail on a limit, a capability or an oom_score_adj that the host forbids,
 * where docker's users expect a container. So all of it is measured once and clamped, with a warning.
 */
import { ApiError } from '#base/errors.ts';
import type { Logger } from '#observe/log.ts';
import { readIfExists } from '#os/files.ts';
import type { Resources } from '../engine.ts';
import { parseCapabilityMask } from './capabilities.ts';

export interface HostLimits {
  capabilities: Set<string>;
  clampOomScoreAdj(wanted: number | undefined): number | undefined;
  /** `Infinity` is no limit. */
  planRlimits(wanted: Resources['ulimits']): { type: string; hard: number; soft: number }[];
}

const files: Record<string, string> = {
  core: 'Max core file size',
  cpu: 'Max cpu time',
  data: 'Max data size',
  fsize: 'Max file size',
  locks: 'Max file locks',
  memlock: 'Max locked memory',
  msgqueue: 'Max msgqueue size',
  nice: 'Max nice priority',
  nofile: 'Max open files',
  nproc: 'Max processes',
  rss: 'Max resident set',
  rtprio: 'Max realtime priority',
  rttime: 'Max realtime timeout',
  sigpending: 'Max pending signals',
  stack: 'Max stack size',
};

/** `inUserNamespace`: rights over resources end at its border. */
export function readHostLimits(log: Logger, inUserNamespace = false): HostLimits {
  const status = readIfExists('/proc/self/status') ?? '';
  const capabilities = parseCapabilityMask(/^CapBnd:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0');
  const privileged = capabilities.has('SYS_RESOURCE') && !inUserNamespace;
  const ownScore = Number(readIfExists('/proc/self/oom_score_adj') ?? 0);
  const hardLimits = readHardLimits(readIfExists('/proc/self/limits') ?? '');
  return {
    capabilities,
    clampOomScoreAdj(wanted) {
      if (wanted === undefined || privileged || wanted >= ownScore) return wanted;
      log.warn('oom_score_adj cannot be lowered here (no CAP_SYS_RESOURCE)', { wanted, used: ownScore });
      return ownScore;
    },
    planRlimits(wanted = []) {
      return wanted.map((limit) => {
        if (files[limit.name] === undefined) throw new ApiError('BadRequest', `invalid ulimit type: ${limit.name}`);
        const ceiling = privileged ? Infinity : (hardLimits.get(limit.name) ?? Infinity);
        const asked = { hard: limit.hard < 0 ? Infinity : limit.hard, soft: limit.soft < 0 ? Infinity : limit.soft };
        if (asked.hard > ceiling)
          log.warn('a limit is above what the host allows', { name: limit.name, wanted: limit.hard, used: ceiling });
        const hard = Math.min(asked.hard, ceiling);
        const soft = Math.min(asked.soft, hard);
        return { type: `RLIMIT_${limit.name.toUpperCase()}`, hard, soft };
      });
    },
  };
}

function readHardLimits(text: string): Map<string, number> {
  const out = new Map<string, number>();
  for (const [name, title] of Object.entries(files)) {
    const fields = new RegExp(`^${title}\\s+(\\S+)\\s+(\\S+)`, 'm').exec(text);
    if (fields !== null) out.set(name, fields[2] === 'unlimited' ? Infinity : Number(fields[2]));
  }
  return out;
}
