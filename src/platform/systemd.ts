/**
 * Where the machine runs systemd, the platform's processes run in a unit of their own, whichever way `up` was called,
 * so that the end of a login session harms nothing and the machine's shutdown stops them in order:
 *
 *   tiphys.service supervisors and processes of the default instance (`tiphys-ID.service` for one with TIPHYS_HOME);
 *   starts at boot
 *   tiphys-containers.service below tiphys.slice: delegated; the control groups of containers, Pods and monitors lie in
 *   it
 *
 * `systemctl stop` is `tiphys down`, `restart` is down and up, `reload` replaces the platform's processes and touches
 * no container. The containers' unit ends after the platform's, so that `down` finds them alive. systemd.service(5),
 * systemd.kill(5), systemd.resource-control(5) (Delegate=).
 */
import { existsSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { realClock } from '#os/clock.real.ts';
import { containersUnit, delegatedGroup } from '#os/cgroups.ts';
import { createCgroups } from '#os/cgroups.linux.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import type { Processes } from '#os/processes.ts';
import { waitUntil } from './launch.ts';
import { packageRoot, type Paths } from './paths.ts';

/** Kept over a boot, and gone with it. */
const keptUnits = '/etc/systemd/system';
const runtimeUnits = '/run/systemd/system';
/** Set by the unit: the command runs as a part of it. */
const insideVariable = 'TIPHYS_UNIT';
/** What pulls and builds need of the environment in which `up` was called. */
const environmentNames = /^(https?|no|all|ftp)_proxy$|^SSL_CERT_(FILE|DIR)$|^NODE_EXTRA_CA_CERTS$/i;
const journalLines = 15;
const holderWaitMs = 10_000;

export interface Unit {
  name: string;
  path: string;
  isKept: boolean;
}

/** systemd is the first process, and this is not a chroot, where it takes no orders. */
export function systemdRuns(): boolean {
  try {
    return (
      existsSync('/run/systemd/system') &&
      readFileSync('/proc/1/comm', 'utf8').trim() === 'systemd' &&
      statSync('/').ino === statSync('/proc/1/root/').ino
    );
  } catch {
    return false;
  }
}

export function unitOf(paths: Paths, instanceId: string): Unit {
  const name = paths.home === undefined ? 'tiphys.service' : `tiphys-${instanceId}.service`;
  return {
    name,
    path: join(paths.home === undefined ? keptUnits : runtimeUnits, name),
    isKept: paths.home === undefined,
  };
}

/** True in a command that the unit itself runs. */
export function isInsideUnit(): boolean {
  return process.env[insideVariable] !== undefined;
}

const quoted = (word: string): string =>
  /[\s"'\\$%]/.test(word) ? `"${word.replaceAll('%', '%%').replaceAll('$', '$$$$').replace(/["\\]/g, '\\$&')}"` : word;

function environmentPath(paths: Paths): string {
  return join(paths.data, 'environment');
}

function unitText(paths: Paths): string {
  const program = quoted(join(packageRoot, 'tiphys'));
  const data = ` --data ${quoted(paths.data)}`;
  return `[Unit]
Description=Tiphys: containers, registry and cluster
After=network-online.target nss-lookup.target firewalld.service ufw.service ${containersUnit}
Wants=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
Environment=${insideVariable}=1${paths.home === undefined ? '' : ` ${quoted(`TIPHYS_HOME=${paths.home}`)}`}
EnvironmentFile=-${environmentPath(paths)}
ExecStart=${program} up --yes${data}
ExecReload=${program} up --yes --replace${data}
ExecStop=${program} down${data}
# up has an end of its own.
TimeoutStartSec=infinity
# The longest grace period that down grants, and a little.
TimeoutStopSec=90
TasksMax=infinity
LimitNOFILE=1048576
# One process that runs out of memory must not end the others.
OOMPolicy=continue

[Install]
WantedBy=multi-user.target
`;
}

const containersText = `[Unit]
Description=Containers, Pods and monitors of Tiphys
Before=tiphys.service

[Service]
Type=exec
# systemd takes an empty group away: a process that sleeps holds it, in a group below, since one with processes
# cannot hand controllers down.
ExecStart=/bin/sh -c 'group=/sys/fs/cgroup$$(sed -n s/^0:://p /proc/self/cgroup); mkdir -p $$group/holder && echo $$$$ >$$group/holder/cgroup.procs && exec sleep infinity'
# Whoever kills the sleeper must not end containers. It could not be started again beside them, and is not needed then.
KillMode=process
OOMScoreAdjust=-1000
Slice=tiphys.slice
Delegate=yes
TasksMax=infinity
OOMPolicy=continue
TimeoutStopSec=10
`;

async function systemctl(processes: Processes, ...args: string[]): Promise<void> {
  const done = await processes.run('systemctl', args);
  if (done.code !== 0) throw new ApiError('InternalError', `systemctl ${args.join(' ')}: ${done.stderr.trim()}`);
}

async function isActive(processes: Processes, name: string): Promise<boolean> {
  return (await processes.run('systemctl', ['is-active', '--quiet', name])).code === 0;
}

/** Writes a unit's file; systemd reads it when it is another than before. */
async function writeUnit(processes: Processes, path: string, text: string): Promise<boolean> {
  if (readIfExists(path) === text) return false;
  writeFileAtomic(path, text, { mode: 0o644 });
  await systemctl(processes, 'daemon-reload');
  return true;
}

/** Writes and enables the instance's unit. True when it was not there before. */
export async function installUnit(
  paths: Paths,
  unit: Unit,
  environment: Record<string, string | undefined>,
  processes: Processes,
): Promise<boolean> {
  const isNew = !existsSync(unit.path);
  const lines = Object.entries(environment)
    .filter(([name, value]) => environmentNames.test(name) && value !== undefined && !value.includes('\n'))
    .map(([name, value]) => `${name}="${value!.replace(/["\\]/g, '\\$&')}"\n`);
  writeFileAtomic(environmentPath(paths), lines.join(''), { mode: 0o600 });
  await writeUnit(processes, unit.path, unitText(paths));
  if (unit.isKept && isNew) await systemctl(processes, 'enable', unit.name);
  return isNew;
}

/**
 * Starts the unit, or has it mend what is missing when it runs. The reason of a failure is the command's own, from the
 * journal.
 */
export async function startUnit(unit: Unit, processes: Processes): Promise<void> {
  const verb = (await isActive(processes, unit.name)) ? 'reload' : 'start';
  const done = await processes.run('systemctl', [verb, unit.name]);
  if (done.code === 0) return;
  const journal = await processes.run('journalctl', [
    '-u',
    unit.name,
    '-n',
    String(journalLines),
    '-o',
    'cat',
    '--no-pager',
  ]);
  const own = journal.stdout.split('\n').findLast((line) => line.startsWith('tiphys: '));
  throw new ApiError(
    'InternalError',
    own?.slice('tiphys: '.length) ?? `systemctl ${verb} ${unit.name}: ${done.stderr.trim()}`,
  );
}

/** Has the unit stop, which runs `down`; false when it does not run. */
export async function stopUnit(unit: Unit, processes: Processes): Promise<boolean> {
  if (!systemdRuns() || isInsideUnit() || !(await isActive(processes, unit.name))) return false;
  await systemctl(processes, 'stop', unit.name);
  return true;
}

/**
 * The delegated unit of containers, where controllers are systemd's to give. Elsewhere groups are made at the top, as
 * before.
 */
export async function ensureContainersUnit(processes: Processes): Promise<void> {
  if (!systemdRuns() || createCgroups(() => {}).mode !== 'v2') return;
  await writeUnit(processes, join(runtimeUnits, containersUnit), containersText);
  // What runs there holds the group also without the unit.
  if (createCgroups(() => {}).list(delegatedGroup).length > 0) return;
  await systemctl(processes, 'start', containersUnit);
  // Started means that the shell runs, not yet that it has made its group.
  await waitUntil(
    realClock,
    holderWaitMs,
    () =>
      createCgroups(() => {}).top !== '' &&
      createCgroups(() => {})
        .list(delegatedGroup)
        .includes('holder'),
  );
}

/** Takes the containers' unit away when no instance has a group in it. */
export async function removeContainersUnit(processes: Processes): Promise<void> {
  const path = join(runtimeUnits, containersUnit);
  if (
    !existsSync(path) ||
    createCgroups(() => {})
      .list(delegatedGroup)
      .some((name) => name !== 'holder')
  )
    return;
  // It ends after the platform's unit: in there nobody may wait for it.
  if (isInsideUnit()) {
    await systemctl(processes, '--no-block', 'stop', containersUnit);
    return;
  }
  await systemctl(processes, 'stop', containersUnit);
  rmSync(path, { force: true });
  await systemctl(processes, 'daemon-reload');
}

/**
 * The unit of an instance with a home of its own goes with it; that of the default instance stays until `uninstall`.
 */
export async function removeUnit(unit: Unit, processes: Processes): Promise<void> {
  if (!existsSync(unit.path)) return;
  const runs = systemdRuns();
  if (runs && unit.isKept) await systemctl(processes, 'disable', unit.name);
  rmSync(unit.path, { force: true });
  if (runs) await systemctl(processes, 'daemon-reload');
}

/** True while systemd takes the machine down: then the node says so, and its Pods are over. */
export async function hostGoesDown(processes: Processes): Promise<boolean> {
  return systemdRuns() && (await processes.run('systemctl', ['is-system-running'])).stdout.trim() === 'stopping';
}
