/**
 * What a server answers to another one, or to a command on a server's machine, that asks for the cluster's keys or
 * changes them. Only who shows a certificate for servers is heard, and only what servers can seal is understood
 * (`messages.ts`).
 */
import type { PlatformPath } from '#apiserver/context.ts';
import type { KeyRing } from '#apiserver/keys.ts';
import { ApiError } from '#base/errors.ts';
import { serversGroup } from '#base/node-identity.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Random } from '#os/clock.ts';
import { keepEtcdCertificate, knowsAuthorities } from '../etcd/member.ts';
import { loadKeyRing, writeKeyRing } from '../identity.ts';
import { loadInstance } from '../instance.ts';
import type { Paths } from '../paths.ts';
import type { KeysState } from './follow-keys.ts';
import { openMessage, readRequest, sealMessage, type KeysAnswer } from './messages.ts';

export const keysPath = '/tiphys/keys';

export interface KeysEndpointOptions {
  paths: Paths;
  state(): KeysState;
  random: Random;
  clock: Clock;
  log: Logger;
}

export function keysEndpoint(options: KeysEndpointOptions): PlatformPath {
  const { paths, random, clock, state } = options;
  return {
    group: serversGroup,
    serve: async (body) => {
      const own = loadKeyRing(paths, { random, clock });
      const { nonce, ring } = readRequest(openMessage(own, 'request', body));
      const kept = ring === undefined ? own : take(own, ring, options);
      const answer: KeysAnswer = { nonce, ring: kept, ...state(), hasEtcdBegun: knowsAuthorities(paths) };
      return sealMessage(own, 'answer', answer, random);
    },
  };
}

/** Nothing is between the look and the writing: this process is the only one that writes what another one sends. */
function take(own: KeyRing, sent: KeyRing, { paths, random, clock, log }: KeysEndpointOptions): KeyRing {
  const [before, after] = [own.generation ?? 0, sent.generation ?? 0];
  if (after < before)
    throw new ApiError('Conflict', `this server has keys of generation ${before}, later than ${after}`);
  if (after === before) return own;
  writeKeyRing(paths, sent);
  log.info('keys were taken from another server', { generation: after });
  const instance = loadInstance(paths);
  if (instance?.member !== undefined) keepEtcdCertificate(paths, instance.member, sent, { random, clock });
  return sent;
}
