/**
 * Scopes of the user's own systemd, by which an ordinary user has control groups (version 2): one that is delegated
 * holds the groups of containers. Processes move only between groups of that systemd, so an engine that was started
 * from a terminal, whose session is root's, goes into a scope too.
 *
 * Source: systemd-run(1), systemd.resource-control(5) (Delegate=); cgroup-v2.rst of the kernel ("Delegation").
 */
import { join } from 'node:path';
import { statIfExists } from '#os/files.ts';
import { unifiedGroupOf } from '#os/cgroups.linux.ts';
import type { Processes } from '#os/processes.ts';

/** What systemd-run needs to find the user's systemd, and programs to be found. */
export function userEnvironment(environment: Record<string, string | undefined>): Record<string, string> {
  const names = ['PATH', 'HOME', 'XDG_RUNTIME_DIR', 'DBUS_SESSION_BUS_ADDRESS'];
  return Object.fromEntries(names.map((name) => [name, environment[name] ?? '']).filter(([, value]) => value !== ''));
}

/** Words before a command; none where there is no such systemd. */
export function scopeWords(processes: Processes, properties: string[]): string[] {
  const runtime = process.env['XDG_RUNTIME_DIR'] ?? '';
  const hasManager = statIfExists(join(runtime, 'systemd/private')) !== undefined;
  const isUnified = statIfExists('/sys/fs/cgroup/cgroup.controllers') !== undefined;
  if (!hasManager || !isUnified || processes.find('systemd-run') === undefined) return [];
  return ['systemd-run', '--user', '--scope', '--quiet', '--collect', ...properties, '--'];
}

/** For this process, which may be in a unit of the user's systemd already. */
export function ownScope(processes: Processes): string[] {
  return /\/user@\d+\.service\//.test(unifiedGroupOf('self') ?? '') ? [] : scopeWords(processes, []);
}
