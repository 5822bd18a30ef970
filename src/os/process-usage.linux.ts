/** What this process uses now. */
import { readdirSync } from 'node:fs';

export function processUsage(): {
  cpuSeconds: number;
  residentBytes: number;
  heapBytes: number;
  openFiles: number;
  startedAtMs: number;
} {
  const { user, system } = process.cpuUsage();
  const { rss, heapUsed } = process.memoryUsage();
  return {
    cpuSeconds: (user + system) / 1e6,
    residentBytes: rss,
    heapBytes: heapUsed,
    openFiles: readdirSync('/proc/self/fd').length,
    startedAtMs: Date.now() - process.uptime() * 1000,
  };
}
