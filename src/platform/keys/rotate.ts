/**
 * How the cluster's keys change while it runs, on any number of servers. The ring that a change comes to is planned,
 * taken up by each server, and planned on, until nothing is left to do; who is killed between any two steps finds with
 * the next run where the servers are, since the ring of the highest generation says what was begun.
 *
 * | change | rings, each of which all servers have before the next one is made |
 * | --- | --- |
 * | key that encrypts | the next key is known to all · it is the first one, everything is sealed with it |
 * | authorities | others sign, and the former ones hold · the former ones hold no more |
 *
 * An authority is vouched for by the one before it, and what it issues says so: whoever knows the former one alone
 * believes it, so that nobody must learn of it before it signs. The step to the last ring is a command of its own,
 * because what the former authority has signed for people and programs outside is refused from then on.
 */
import type { AuthorityName, EncryptionKey, KeyRing } from '#apiserver/keys.ts';
import { ApiError } from '#base/errors.ts';
import { succeedCertificateAuthority } from '#base/x509.ts';
import type { Clock, Random } from '#os/clock.ts';
import { fingerprintOf } from '../cluster-store.ts';
import { generationOf } from './ask-servers.ts';

interface Means {
  random: Random;
  clock: Clock;
}

const next = (ring: KeyRing): KeyRing => ({ ...ring, generation: generationOf(ring) + 1 });

/** The first step of a change; undefined where one is under way. */
export function planNextKey(ring: KeyRing, { random }: Pick<Means, 'random'>): KeyRing | undefined {
  if (ring.encryption.some(({ isNext }) => isNext)) return undefined;
  const numbers = ring.encryption.map(({ id }) => Number(/^key(\d+)$/.exec(id)?.[1] ?? 0));
  const id = `key${Math.max(0, ...numbers) + 1}`;
  const added: EncryptionKey = { id, key: Buffer.from(random.bytes(32)).toString('base64'), isNext: true };
  // Everything is sealed with the first: those of before have nothing left to open but history.
  return { ...next(ring), encryption: [...ring.encryption.slice(0, 1), added] };
}

/** The second step: the next key is the first one. Undefined where there is none. */
export function planUseOfNextKey(ring: KeyRing): KeyRing | undefined {
  const added = ring.encryption.find(({ isNext }) => isNext);
  if (added === undefined) return undefined;
  const { isNext: _isNext, ...first } = added;
  return { ...next(ring), encryption: [first, ...ring.encryption.filter((each) => each !== added)] };
}

const authorityNames: AuthorityName[] = ['ca', 'frontProxy', 'etcd'];

/** Others sign. Undefined where that has been begun: former ones hold still. */
export function planAuthorities(ring: KeyRing, { random, clock }: Means): KeyRing | undefined {
  if (ring.former !== undefined) return undefined;
  const made: KeyRing = { ...next(ring), origin: fingerprintOf(ring), former: {} };
  for (const name of authorityNames) {
    const before = ring[name];
    if (before === undefined) continue;
    made[name] = succeedCertificateAuthority(before, random, clock);
    made.former = { ...made.former, [name]: before.certificatePem };
  }
  return made;
}

/** The former ones hold no more. Throws where there are none. */
export function planEndOfFormer(ring: KeyRing): KeyRing {
  const { former, ...rest } = ring;
  if (former === undefined)
    throw new ApiError('Conflict', "one authority holds, and no other: 'tiphys certs rotate' makes another one");
  const made = next(rest);
  for (const name of authorityNames) {
    const authority = made[name];
    if (authority === undefined) continue;
    const { crossPem: _crossPem, ...alone } = authority;
    made[name] = alone;
  }
  return made;
}
