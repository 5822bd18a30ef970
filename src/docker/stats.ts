/**
 * `GET /containers/ID/stats`: one sample, or one a second; each with the one before it, from which clients work out
 * rates.
 */
import { cpus } from 'node:os';
import { pause } from '#os/clock.ts';
import type { Container } from '#engine/container.ts';
import { readStats } from '#engine/stats.ts';
import type { RawStats } from '#engine/stats.ts';
import { readIfExists } from '#os/files.ts';
import { isoTime } from './context.ts';
import type { DockerParts } from './context.ts';
import { queryFlag } from './route.ts';
import type { Route, RouteContext } from './route.ts';
import { apiVersion } from './server.ts';
import { statsIntervalMs } from './server-limits.ts';

type Shown = Record<string, unknown>;
const nanosecondsPerTick = 10_000_000;

export function statsRoutes(parts: DockerParts): Route[] {
  return [{ method: 'GET', path: '/containers/{id}/stats', handle: (context) => streamStats(parts, context) }];
}

/** The machine's total processor time, from the first line of /proc/stat. */
function systemNanoseconds(): number {
  const fields = (readIfExists('/proc/stat') ?? '').split('\n')[0]!.split(/\s+/).slice(1, 9).map(Number);
  return fields.reduce((sum, ticks) => sum + ticks, 0) * nanosecondsPerTick;
}

function memoryTotal(): number {
  return Number(/^MemTotal:\s+(\d+)/m.exec(readIfExists('/proc/meminfo') ?? '')?.[1] ?? 0) * 1024;
}

function showCpu(raw: RawStats | undefined, system: number): Shown {
  if (raw === undefined)
    return {
      cpu_usage: { total_usage: 0, usage_in_kernelmode: 0, usage_in_usermode: 0 },
      throttling_data: { periods: 0, throttled_periods: 0, throttled_time: 0 },
    };
  const { cgroup } = raw;
  return {
    cpu_usage: {
      total_usage: cgroup.cpuNanoseconds,
      usage_in_kernelmode: cgroup.cpuSystemNanoseconds,
      usage_in_usermode: cgroup.cpuUserNanoseconds,
    },
    system_cpu_usage: system,
    online_cpus: cpus().length,
    throttling_data: {
      periods: cgroup.cpuPeriods,
      throttled_periods: cgroup.cpuThrottledPeriods,
      throttled_time: cgroup.cpuThrottledNanoseconds,
    },
  };
}

function showSample(
  container: Container,
  raw: RawStats | undefined,
  before: { raw: RawStats; system: number } | undefined,
  system: number,
): Shown {
  const links = Object.fromEntries(
    (raw?.links ?? []).map((link) => [
      link.name,
      {
        rx_bytes: link.rxBytes,
        rx_packets: link.rxPackets,
        rx_errors: link.rxErrors,
        rx_dropped: link.rxDropped,
        tx_bytes: link.txBytes,
        tx_packets: link.txPackets,
        tx_errors: link.txErrors,
        tx_dropped: link.txDropped,
      },
    ]),
  );
  const io = (pick: 'bytes' | 'operations'): Shown[] | null =>
    raw === undefined
      ? null
      : raw.cgroup.blockIo.map((entry) => ({
          major: entry.major,
          minor: entry.minor,
          op: entry.op.toLowerCase(),
          value: entry[pick],
        }));
  const total = memoryTotal();
  const memory =
    raw === undefined
      ? {}
      : {
          usage: raw.cgroup.memoryUsageBytes,
          max_usage: raw.cgroup.memoryMaxUsageBytes,
          stats: raw.cgroup.memoryStat,
          limit:
            raw.cgroup.memoryLimitBytes <= 0 || raw.cgroup.memoryLimitBytes > total
              ? total
              : raw.cgroup.memoryLimitBytes,
        };
  return {
    name: `/${container.name}`,
    id: container.id,
    os_type: 'linux',
    read: isoTime(raw?.readAtMs ?? 0),
    preread: isoTime(before?.raw.readAtMs ?? 0),
    num_procs: 0,
    storage_stats: {},
    pids_stats:
      raw === undefined
        ? {}
        : {
            current: raw.cgroup.pids,
            ...(raw.cgroup.pidsLimit > 0 && raw.cgroup.pidsLimit < 2 ** 40 ? { limit: raw.cgroup.pidsLimit } : {}),
          },
    blkio_stats: {
      io_service_bytes_recursive: io('bytes'),
      io_serviced_recursive: io('operations'),
      io_queue_recursive: null,
      io_service_time_recursive: null,
      io_wait_time_recursive: null,
      io_merged_recursive: null,
      io_time_recursive: null,
      sectors_recursive: null,
    },
    cpu_stats: showCpu(raw, system),
    precpu_stats: showCpu(before?.raw, before?.system ?? 0),
    memory_stats: memory,
    ...(Object.keys(links).length === 0 ? {} : { networks: links }),
  };
}

async function streamStats(parts: DockerParts, context: RouteContext): Promise<unknown> {
  const { engine } = parts;
  const container = engine.table.get(context.params['id']!);
  const stream = context.query.get('stream') === null ? true : queryFlag(context.query, 'stream');
  const oneShot = queryFlag(context.query, 'one-shot');
  const { response, signal } = context;
  let before: { raw: RawStats; system: number } | undefined;
  const sample = (): Shown => {
    const raw = readStats(engine.table, container);
    const system = systemNanoseconds();
    const shown = showSample(container, raw, before, system);
    before = raw === undefined ? undefined : { raw, system };
    return shown;
  };
  if (!stream) {
    // Without `one-shot` a rate is wanted, which takes two samples.
    if (!oneShot && container.isRunning) {
      sample();
      await pause(parts.clock, statsIntervalMs, signal);
    }
    return sample();
  }
  response.writeHead(200, { 'Content-Type': 'application/json', 'Api-Version': apiVersion, Ostype: 'linux' });
  while (!signal.aborted && !container.removed) {
    // A client that does not keep up misses samples.
    if (!response.writableNeedDrain) response.write(`${JSON.stringify(sample())}\n`);
    await pause(parts.clock, statsIntervalMs, signal);
  }
  response.end();
  return undefined;
}
