/** Debian's dockerd as a peer, beside what the machine has. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { command, daemon, fileSizeMb, find, logTail, stop, until } from './harness.ts';
import type { Run } from './harness.ts';
import { rememberIptables } from './iptables.ts';

export interface Dockerd {
  env: Record<string, string>;
  socket: string;
  pid: number;
  version: string;
}

/** A dockerd with data, state and socket of its own. */
export function dockerdWords(program: string, places: { data: string; exec: string; socket: string }): string[] {
  return [
    program,
    ...['--data-root', places.data, '--exec-root', places.exec],
    ...['--pidfile', `${places.exec}.pid`, '-H', `unix://${places.socket}`],
  ];
}

/**
 * dockerd with data, state, socket and bridge of its own; what it adds to iptables is taken away again. `exec`: what
 * a boot may take, by default in the scratch directory.
 */
export async function startDockerd(current: Run, busybox: string, exec?: string): Promise<Dockerd | string> {
  const program = find('dockerd');
  if (program === undefined) return 'dockerd is not installed: apt-get install docker.io';
  if (existsSync('/var/run/docker.pid') || existsSync('/sys/class/net/docker0'))
    return 'another dockerd uses docker0: stop it, and delete the bridge, to compare';
  const root = join(current.scratch, 'dockerd');
  const places = { data: `${root}/data`, exec: exec ?? `${root}/exec`, socket: `${exec ?? root}.sock` };
  const restore = await rememberIptables(/docker0|172\.30\.251\./);
  current.defer(restore);
  current.defer(() => command(['ip', 'link', 'delete', 'docker0'], { allowFailure: true }));
  current.say('starting dockerd');
  const child = daemon(current, 'dockerd', [...dockerdWords(program, places), '--bip', '172.30.251.1/24']);
  const env = { DOCKER_HOST: `unix://${places.socket}`, DOCKER_CONTEXT: '' };
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
    socket: places.socket,
    pid: child.pid!,
    version: `${version} (${fileSizeMb(program)}) with ${runc} (${fileSizeMb(find('runc'))})`,
  };
}
