/** Debian's dockerd as a peer, beside what the machine has. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { command, daemon, fileSizeMb, find, logTail, stop, until } from './harness.ts';
import type { Run } from './harness.ts';
import { rememberIptables } from './iptables.ts';

export interface Dockerd {
  env: Record<string, string>;
  version: string;
}

/** dockerd with data, state, socket and bridge of its own; what it adds to iptables is taken away again. */
export async function startDockerd(current: Run, busybox: string): Promise<Dockerd | string> {
  const program = find('dockerd');
  if (program === undefined) return 'dockerd is not installed: apt-get install docker.io';
  if (existsSync('/var/run/docker.pid') || existsSync('/sys/class/net/docker0'))
    return 'another dockerd uses docker0: stop it, and delete the bridge, to compare';
  const root = join(current.scratch, 'dockerd');
  const socket = `unix://${root}/docker.sock`;
  const restore = await rememberIptables(/docker0|172\.30\.251\./);
  current.defer(restore);
  current.defer(() => command(['ip', 'link', 'delete', 'docker0'], { allowFailure: true }));
  current.say('starting dockerd');
  const child = daemon(current, 'dockerd', [
    program,
    '--data-root',
    `${root}/data`,
    '--exec-root',
    `${root}/exec`,
    '--pidfile',
    `${root}/pid`,
    '-H',
    socket,
    '--bip',
    '172.30.251.1/24',
  ]);
  const env = { DOCKER_HOST: socket, DOCKER_CONTEXT: '' };
  try {
    await until(
      'dockerd',
      30_000,
      async () =>
        child.exitCode === null && (await command(['docker', 'version'], { env, allowFailure: true })).code === 0,
      200,
    );
  } catch {
    await stop(child);
    return `dockerd does not start here: ${logTail(current, 'dockerd', 3)}`;
  }
  await command(['docker', 'load', '-q', '-i', busybox], { env });
  const version = (await command(['docker', 'version', '-f', '{{.Server.Version}}'], { env })).stdout.trim();
  const runc = (await command(['runc', '--version'], { allowFailure: true })).stdout.split('\n')[0]!;
  return {
    env,
    version: `${version} (${fileSizeMb(program)}) with ${runc} (${fileSizeMb(find('runc'))})`,
  };
}
