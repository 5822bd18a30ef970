/**
 * The engines that are measured side by side: `tiphys engine`, Debian's dockerd, podman's API service, and moby v2 as
 * its Go module builds it (build-peers). Each has data of its own in the scratch directory, what a boot may take on a
 * tmpfs, as /run is one, and leaves nothing behind.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { dockerdWords, startDockerd } from './dockerd.ts';
import { command, daemon, fileSizeMb, find, logTail, stop, until } from './harness.ts';
import type { Run } from './harness.ts';
import { rememberIptables } from './iptables.ts';
import { launcher, saveBusybox, tiphysVersion } from './tiphys.ts';

export const busyboxImage = 'docker.io/library/busybox:latest';

export interface Side {
  name: string;
  socket: string;
  env: Record<string, string>;
  version: string;
  /** All processes of the engine while nothing runs. */
  pids(): number[];
}

/** A path that a socket fits into, on a tmpfs; gone with the run. */
export async function makeRunDirectory(run: Run): Promise<string> {
  const path = join(run.scratch, 'run');
  mkdirSync(path);
  await command(['mount', '-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', path]);
  run.defer(() => command(['umount', '-R', '-l', path], { allowFailure: true }));
  return path;
}

function familyOf(pid: number): number[] {
  let children: string[];
  try {
    children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean);
  } catch {
    return [];
  }
  return [pid, ...children.flatMap((child) => familyOf(Number(child)))];
}

async function answers(env: Record<string, string>): Promise<boolean> {
  return (await command(['docker', 'version'], { env, allowFailure: true })).code === 0;
}

/** The engine alone, without a cluster, with busybox in it. */
export async function startEngine(run: Run, runDirectory: string): Promise<{ side: Side; busybox: string }> {
  const home = join(run.scratch, 'tiphys');
  const socket = join(runDirectory, 'tiphys.sock');
  const env = { DOCKER_HOST: `unix://${socket}`, DOCKER_CONTEXT: '' };
  run.say('starting tiphys engine');
  const words = ['--config-file=/dev/null', `--data-root=${home}`, `--exec-root=${runDirectory}/tiphys`];
  run.defer(() => takeBridge(home));
  const child = daemon(run, 'tiphys', [
    launcher,
    'engine',
    ...words,
    `--pidfile=${runDirectory}/tiphys.pid`,
    `--host=unix://${socket}`,
  ]);
  await until('tiphys engine', 30_000, () => answers(env), 200);
  const crun = (await command(['crun', '--version'])).stdout.split('\n')[0]!;
  const side = {
    name: 'Tiphys',
    socket,
    env,
    version: `${tiphysVersion()} with ${crun}`,
    pids: () => familyOf(child.pid!),
  };
  return { side, busybox: await saveBusybox(run, { env }) };
}

/** As docker0 does, the default bridge stays after its engine. */
async function takeBridge(home: string): Promise<void> {
  const { id }: { id: string } = JSON.parse(readFileSync(join(home, 'engine.json'), 'utf8'));
  await command(['ip', 'link', 'delete', `tph${id}b0`], { allowFailure: true });
  for (const table of (await command(['nft', 'list', 'tables'])).stdout.split('\n'))
    if (table.includes(`tiphys_${id}`)) await command(['nft', 'delete', ...table.split(' ')], { allowFailure: true });
}

export async function startDebianDockerd(run: Run, busybox: string, runDirectory: string): Promise<Side | string> {
  const started = await startDockerd(run, busybox, join(runDirectory, 'dockerd'));
  if (typeof started === 'string') return started;
  return { name: 'dockerd', ...started, pids: () => familyOf(started.pid) };
}

export async function startPodmanService(
  run: Run,
  busybox: string,
  runDirectory: string,
  registry: string,
): Promise<Side | string> {
  const program = find('podman');
  if (program === undefined) return 'podman is not installed: apt-get install podman containernetworking-plugins';
  const socket = join(runDirectory, 'podman.sock');
  const registries = join(run.scratch, 'registries.conf');
  writeFileSync(registries, `[[registry]]\nlocation = "${registry}"\ninsecure = true\n`);
  const containers = join(run.scratch, 'containers.conf');
  // Its own limits are above what a root without CAP_SYS_RESOURCE may set.
  writeFileSync(containers, '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n');
  const own = { CONTAINERS_REGISTRIES_CONF: registries, CONTAINERS_CONF: containers };
  const words = [
    program,
    ...['--root', join(run.scratch, 'podman'), '--runroot', join(runDirectory, 'podman')],
    ...['--cgroup-manager', 'cgroupfs', '--events-backend', 'none'],
    ...(find('runc') === undefined ? [] : ['--runtime', 'runc']),
  ];
  run.defer(await rememberIptables(/cni-podman0|CNI-/));
  for (const bridge of ['cni-podman0', 'podman0'])
    if (!existsSync(`/sys/class/net/${bridge}`))
      run.defer(() => command(['ip', 'link', 'delete', bridge], { allowFailure: true }));
  run.defer(() => command([...words, 'system', 'reset', '--force'], { allowFailure: true, env: own }));
  const child = daemon(run, 'podman', [...words, 'system', 'service', '--time=0', `unix://${socket}`], own);
  const env = { DOCKER_HOST: `unix://${socket}`, DOCKER_CONTEXT: '' };
  try {
    await until('podman', 30_000, () => answers(env), 200);
    await command(['docker', 'load', '-q', '-i', busybox], { env });
    await command(['docker', 'run', '--rm', busyboxImage, 'true'], { env });
  } catch (error) {
    await stop(child);
    return `podman does not run here: ${(error as Error).message.trim().split('\n').at(-1)}`;
  }
  const version = (await command([program, '--version'])).stdout.trim();
  return {
    name: 'podman',
    socket,
    env,
    version: `${version} (${fileSizeMb(program)})`,
    pids: () => familyOf(child.pid!),
  };
}

/** moby v2 with the containerd that its module names, on a bridge of its own and with rules of nftables. */
export async function startMoby(run: Run, busybox: string, runDirectory: string): Promise<Side | string> {
  const program = join(run.peersDirectory, 'moby', 'dockerd');
  if (!existsSync(program)) return `moby v2 is not built: bench/build-peers ${run.peersDirectory} moby`;
  const bridge = 'benchmoby0';
  await command(['ip', 'link', 'add', bridge, 'type', 'bridge']);
  run.defer(() => command(['ip', 'link', 'delete', bridge], { allowFailure: true }));
  await command(['ip', 'address', 'add', '172.30.252.1/24', 'dev', bridge]);
  for (const family of ['ip', 'ip6'])
    run.defer(() => command(['nft', 'delete', 'table', family, 'docker-bridges'], { allowFailure: true }));
  const places = {
    data: join(run.scratch, 'moby'),
    exec: join(runDirectory, 'moby'),
    socket: `${runDirectory}/moby.sock`,
  };
  const words = [...dockerdWords(program, places), `--bridge=${bridge}`, '--firewall-backend=nftables'];
  const child = daemon(run, 'moby', words, { PATH: `${dirname(program)}:${process.env['PATH']}` });
  const env = { DOCKER_HOST: `unix://${places.socket}`, DOCKER_CONTEXT: '' };
  try {
    await until('moby', 60_000, async () => child.exitCode === null && (await answers(env)), 200);
    await command(['docker', 'load', '-q', '-i', busybox], { env });
    await command(['docker', 'run', '--rm', busyboxImage, 'true'], { env });
  } catch (error) {
    await stop(child);
    return `moby v2 does not run here: ${(error as Error).message.slice(-300)} ${logTail(run, 'moby', 2)}`;
  }
  const version = (await command(['docker', 'version', '-f', '{{.Server.Version}}'], { env })).stdout.trim();
  return {
    name: 'moby v2',
    socket: places.socket,
    env,
    version: `${version} (${fileSizeMb(program)})`,
    pids: () => familyOf(child.pid!),
  };
}
