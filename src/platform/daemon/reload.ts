/**
 * SIGHUP: the file is read again beside the same flags, and what dockerd changes while it runs is changed; all else
 * stays as it was until the next start. A file that is wrong changes nothing. Ends with the event `daemon reload`,
 * whose attributes tell what holds now.
 *
 * Source: docker 28.5, daemon/reload.go.
 */
import { hostname } from 'node:os';
import { messageOf } from '#base/thrown.ts';
import type { DockerEngine } from '#engine/create-engine.ts';
import type { Logger } from '#observe/log.ts';
import { DaemonConfig, goText, loadConfig } from './config.ts';
import type { FlagValues } from './flags.ts';
import { settingsOf, transfersOf, type Live } from './settings.ts';

/** What a running engine takes. Those that are not in the file any more are as the flags have them. */
const reloadable = [
  'authorization-plugins',
  'debug',
  'labels',
  'insecure-registries',
  'registry-mirrors',
  'max-concurrent-downloads',
  'max-concurrent-uploads',
  'max-download-attempts',
  'shutdown-timeout',
  'live-restore',
  'features',
  'default-shm-size',
  'default-ipc-mode',
  'default-cgroupns-mode',
];
/** They keep their value when the file says nothing of them any more; the others go back to the default. */
const kept = new Set([
  'debug',
  'labels',
  'insecure-registries',
  'registry-mirrors',
  'shutdown-timeout',
  'live-restore',
  'default-shm-size',
  'default-ipc-mode',
  'default-cgroupns-mode',
]);

export interface ReloadParts {
  live: Live;
  flags: FlagValues;
  engine: DockerEngine;
  log: Logger;
}

export function reloadConfig({ live, flags, engine, log }: ReloadParts): void {
  let next: DaemonConfig;
  try {
    next = mergeReload(live.config, loadConfig(flags));
    live.settings = settingsOf(next, live.settings.warnings);
  } catch (error) {
    log.error('Error reloading configuration', { error: messageOf(error) });
    return;
  }
  live.config = next;
  const attributes = reloadAttributes(next, engine.context.os.cgroups.mode === 'v2' ? 'private' : 'host');
  engine.events.emit({
    type: 'daemon',
    action: 'reload',
    id: engine.context.instanceId,
    attributes: { name: hostname(), ...attributes },
  });
  log.info('Reloaded configuration', attributes);
}

/** Exported for tests. */
export function mergeReload(before: DaemonConfig, read: DaemonConfig): DaemonConfig {
  const values = new Map(before.entries());
  const said = new Map(read.entries());
  for (const key of reloadable)
    if (said.has(key)) values.set(key, said.get(key));
    else if (!kept.has(key)) values.delete(key);
  return new DaemonConfig(values);
}

function reloadAttributes(config: DaemonConfig, cgroupnsMode: string): Record<string, string> {
  const { downloads, uploads, attempts } = transfersOf(config);
  return {
    runtimes: Object.keys(config.runtimes).join(' '),
    'default-runtime': config.text('default-runtime'),
    'default-shm-size': String(config.number('default-shm-size')),
    'default-ipc-mode': config.text('default-ipc-mode'),
    'default-cgroupns-mode': config.text('default-cgroupns-mode') || cgroupnsMode,
    debug: String(config.bool('debug')),
    'max-concurrent-downloads': String(downloads),
    'max-concurrent-uploads': String(uploads),
    'max-download-attempts': String(attempts),
    'shutdown-timeout': String(config.number('shutdown-timeout')),
    features: goText(config.flags('features')),
    labels: JSON.stringify(config.list('labels')),
    'insecure-registries': JSON.stringify(config.list('insecure-registries')),
    'registry-mirrors': JSON.stringify(config.list('registry-mirrors')),
    'live-restore': String(config.bool('live-restore')),
  };
}
