/**
 * Rotation of the engine's own logs: `container.log` becomes `.1`, `.1` becomes `.2`, and the monitor opens a new file. Nothing is lost while it
 * happens: the monitor goes on writing to the renamed file until it has opened the new one. Logs with a path of the caller's are the caller's.
 */
import { renameSync, rmSync, statSync } from 'node:fs';
import type { Container } from './container.ts';
import { bundleDirectory, logPathOf } from './container-start.ts';
import { logFilesDefault, logMaxBytesDefault, logRotateCheckMs } from './limits.ts';
import type { ContainerRegistry } from './registry.ts';

export function rotateIfLarge(registry: ContainerRegistry, container: Container): boolean {
  const { spec } = container.record;
  const path = logPathOf(registry, container);
  if (spec.logPath !== undefined || path === undefined || !container.isRunning) return false;
  const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  if (size < (spec.logMaxBytes ?? logMaxBytesDefault)) return false;
  const files = Math.max(1, spec.logMaxFiles ?? (spec.logMaxBytes === undefined ? logFilesDefault : 1));
  rmSync(`${path}.${Math.max(1, files - 1)}`, { force: true });
  for (let number = files - 2; number >= 1; number--) if (statSync(`${path}.${number}`, { throwIfNoEntry: false }) !== undefined) renameSync(`${path}.${number}`, `${path}.${number + 1}`);
  renameSync(path, `${path}.1`);
  registry.context.runtime.reopenLog(bundleDirectory(registry.context.directories.run, container.id));
  if (files === 1) rmSync(`${path}.1`, { force: true });
  return true;
}

/** A look at every running container's log now and then; a stat each. Ends with the signal. */
export async function runLogRotation(registry: ContainerRegistry, signal: AbortSignal): Promise<void> {
  for (;;) {
    try { await new Promise<void>((resolve, reject) => {
      const timer = registry.context.clock.setTimer(logRotateCheckMs, resolve, { background: true });
      signal.addEventListener('abort', () => { timer.cancel(); reject(signal.reason as Error); }, { once: true });
    }); } catch { return; }
    for (const container of registry.list()) {
      try { rotateIfLarge(registry, container); } catch (error) { registry.context.log.warn('rotating a log', { id: container.id, error }); }
    }
  }
}
