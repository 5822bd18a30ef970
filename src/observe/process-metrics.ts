/** What every process of the platform tells of itself, with the names that Prometheus' client libraries have for it. */
import type { Metrics } from './metrics.ts';

/** Numbers of this process now; `os` reads them. */
export interface ProcessUsage {
  cpuSeconds: number;
  residentBytes: number;
  heapBytes: number;
  openFiles: number;
  startedAtMs: number;
}

export function measureProcess(metrics: Metrics, usage: () => ProcessUsage): void {
  const show = (name: string, help: string, read: (now: ProcessUsage) => number): void => {
    metrics.gauge({ name, help }, (family) => {
      family.of().value = read(usage());
    });
  };
  const cpu = { name: 'process_cpu_seconds_total', help: 'Total user and system CPU time spent in seconds.' };
  metrics.counter(cpu, (family) => {
    family.of().value = usage().cpuSeconds;
  });
  show('process_resident_memory_bytes', 'Resident memory size in bytes.', (now) => now.residentBytes);
  show('process_heap_bytes', 'Process heap size in bytes.', (now) => now.heapBytes);
  show('process_open_fds', 'Number of open file descriptors.', (now) => now.openFiles);
  show(
    'process_start_time_seconds',
    'Start time of the process since unix epoch in seconds.',
    (now) => now.startedAtMs / 1000,
  );
}
