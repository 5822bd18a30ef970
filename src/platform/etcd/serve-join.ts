/**
 * What a server answers to a machine that would be a further one: the cluster's keys, and where its state lies. Only
 * who holds a token made for servers is answered, on a connection that the token's hash has vouched for; the
 * administrator is not: whoever may read all Secrets must not have the authority's key by it.
 *
 * While the state lies in SQLite the first who asks begins its move to an etcd of the cluster's own (`own-etcd.ts`),
 * and is told to ask again.
 */
import { existsSync, readFileSync } from 'node:fs';
import type { KeyRing } from '#apiserver/keys.ts';
import type { PlatformPath } from '#apiserver/context.ts';
import { ApiError } from '#base/errors.ts';
import { serverGroup } from '#base/node-identity.ts';
import { textOf } from '#base/unknown.ts';
import type { Logger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { loadKeyRing } from '../identity.ts';
import { currentEndpoints, type EtcdChoice } from '../cluster-store.ts';
import { loadInstance, type NetworkMode } from '../instance.ts';
import { startCommand } from '../launch.ts';
import { attemptStartMsMax } from '../limits.ts';
import type { Paths } from '../paths.ts';
import { kubernetesVersion } from '../version.ts';
import { findEtcd } from './member.ts';
import { forgetOutcome, isAttempting, moveOutcome, type MoveOutcome } from './own-etcd.ts';

export const serversPath = '/tiphys/servers';

/** Where the state lies: in the cluster's own etcd, or in one of the user's, whose files come along. */
export type SharedState =
  | { own: true; endpoints: string[] }
  | { own: false; endpoints: string[]; prefix?: string; files: EtcdFiles };

/** In PEM. */
export interface EtcdFiles {
  ca?: string;
  cert?: string;
  key?: string;
}

export type Admission =
  | { state: 'moving' }
  | {
      state: 'ready';
      keys: KeyRing;
      etcd: SharedState;
      network?: NetworkMode;
      moved?: MoveOutcome;
      /** The server has flags of kube-apiserver's, which name files of its machine. */
      hasFlags: boolean;
    };

export function serversEndpoint(paths: Paths, log: Logger): PlatformPath {
  return {
    group: serverGroup,
    serve: async (body) => {
      const answer = admit(paths, body);
      if (answer.state === 'ready') log.info('a further server was given the keys', { node: textOf(body, 'node') });
      return answer;
    },
  };
}

function admit(paths: Paths, body: unknown): Admission {
  const instance = loadInstance(paths);
  if (instance === undefined) throw new ApiError('NotFound', 'there is no instance');
  const version = textOf(body, 'kubernetesVersion') ?? 'unknown';
  if (minorOf(version) !== minorOf(kubernetesVersion))
    throw new ApiError(
      'BadRequest',
      `servers of one cluster are of one version: this one has ${kubernetesVersion}, the machine that would join ${version}`,
    );
  // Whoever moved it says how long that took, and ends.
  if (instance.etcd === undefined || isAttempting(paths)) return beginMove(paths, instance.etcdBinary);
  const moved = moveOutcome(paths);
  return {
    state: 'ready',
    keys: loadKeyRing(paths, { random: realRandom, clock: realClock }),
    etcd:
      instance.member === undefined
        ? usersEtcd(instance.etcd)
        : { own: true, endpoints: currentEndpoints(paths, instance.etcd) },
    ...(instance.network === undefined ? {} : { network: instance.network }),
    ...(moved === undefined ? {} : { moved }),
    hasFlags: (instance.kubeApiserverArgs ?? []).length > 0,
  };
}

function minorOf(version: string): string {
  return version.split('.').slice(0, 2).join('.');
}

function beginMove(paths: Paths, binary: string | undefined): Admission {
  if (isAttempting(paths)) return { state: 'moving' };
  const outcome = moveOutcome(paths);
  forgetOutcome(paths);
  if (outcome?.problem !== undefined) throw new ApiError('Conflict', `the state does not move: ${outcome.problem}`);
  findEtcd(binary);
  // It takes a moment until it says that it is there.
  if (realClock.monotonic() < startedAtMs + attemptStartMsMax) return { state: 'moving' };
  startedAtMs = realClock.monotonic();
  startCommand(paths, 'own-etcd');
  return { state: 'moving' };
}

let startedAtMs = Number.NEGATIVE_INFINITY;

function usersEtcd({ endpoints, prefix, cafile, certfile, keyfile }: EtcdChoice): SharedState {
  const read = (path: string | undefined): string | undefined =>
    path === undefined || !existsSync(path) ? undefined : readFileSync(path, 'utf8');
  const [ca, cert, key] = [read(cafile), read(certfile), read(keyfile)];
  return {
    own: false,
    endpoints,
    ...(prefix === undefined ? {} : { prefix }),
    files: {
      ...(ca === undefined ? {} : { ca }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
    },
  };
}
