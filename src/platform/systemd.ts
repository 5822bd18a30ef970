/**
 * A unit for the default instance where the machine runs systemd, so that it comes back after a boot. The platform's own supervisors keep its processes;
 * systemd only calls `up` and `down`.
 */
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import type { Processes } from '#os/processes.ts';
import { packageRoot, type Paths } from './paths.ts';

const unitPath = '/etc/systemd/system/tiphys.service';

function unitText(): string {
  const program = join(packageRoot, 'tiphys');
  return `[Unit]
Description=Tiphys: containers, registry and cluster
After=network-online.target
Wants=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
# Containers and supervisors are sessions of their own; down ends them.
KillMode=none
ExecStart=${program} up --yes
ExecStop=${program} down

[Install]
WantedBy=multi-user.target
`;
}

function runsHere(): boolean {
  return existsSync('/run/systemd/system');
}

/** Writes and enables the unit for the default instance; true when it was not there before. */
export async function installUnit(paths: Paths, processes: Processes): Promise<boolean> {
  if (!runsHere() || paths.home !== undefined || readIfExists(unitPath) === unitText()) return false;
  writeFileAtomic(unitPath, unitText(), { mode: 0o644 });
  await processes.run('systemctl', ['daemon-reload']);
  await processes.run('systemctl', ['enable', 'tiphys.service']);
  return true;
}

export async function removeUnit(processes: Processes): Promise<void> {
  if (!existsSync(unitPath)) return;
  if (runsHere()) await processes.run('systemctl', ['disable', 'tiphys.service']);
  rmSync(unitPath, { force: true });
  if (runsHere()) await processes.run('systemctl', ['daemon-reload']);
}
