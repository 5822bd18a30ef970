/** The commands that change the cluster's keys, from a server's machine; what they do, step by step: `rotate.ts`. */
import type { KeyRing } from '#apiserver/keys.ts';
import type { Node } from '#api/core.v1.ts';
import { ApiError } from '#base/errors.ts';
import { machineAnnotations } from '#base/node-identity.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { instanceHere } from '../cluster-access.ts';
import { runsServer, type Instance } from '../instance.ts';
import { authorityHashOf } from '../join-token.ts';
import { partStatus } from '../launch.ts';
import { keysStepMs, nodesCurrentMsMax } from '../limits.ts';
import type { Paths } from '../paths.ts';
import { withLock } from '../up.ts';
import { askServers, generationOf, listServers, newestOf, spreadRing } from './ask-servers.ts';
import type { KeysAnswer } from './messages.ts';
import { planAuthorities, planEndOfFormer, planNextKey, planUseOfNextKey } from './rotate.ts';

const means = { random: realRandom, clock: realClock };

/** One change at a time from this machine; of two machines the later one is refused by the servers. */
async function changing<T>(paths: Paths, change: (instance: Instance) => Promise<T>): Promise<T> {
  return withLock(paths, async () => {
    const instance = instanceHere(paths);
    if (!runsServer(instance))
      throw new ApiError('BadRequest', 'this machine is a worker: keys are changed on a server');
    // One that begins anew is waited for.
    if (partStatus(paths, 'server').supervisor === undefined)
      throw new ApiError('ServiceUnavailable', "the API server does not run here: 'tiphys up' first");
    return change(instance);
  });
}

export interface KeyChange {
  /** Name of the key that encrypts now. */
  key: string;
  /** A change that had been interrupted was finished, and no other one begun. */
  wasBegun: boolean;
  servers: string[];
}

/** Everything is sealed with another key when this resolves. */
export async function rotateEncryptionKey(paths: Paths): Promise<KeyChange> {
  return changing(paths, async (instance) => {
    const { servers } = await listServers(paths, instance);
    const isSealed = (ring: KeyRing) => (answer: KeysAnswer) => answer.sealedWith === ring.encryption[0]?.id;
    const answers = await askServers(paths, servers);
    let ring = newestOf(answers);
    const wasBegun =
      ring.encryption.some(({ isNext }) => isNext) ||
      answers.some((answer) => generationOf(answer.ring) < generationOf(ring));
    await spreadRing(paths, servers, ring, isSealed(ring));
    const planned = planUseOfNextKey(ring) ?? (wasBegun ? undefined : planNextKey(ring, means));
    for (let step = planned; step !== undefined; step = planUseOfNextKey(ring)) {
      ring = step;
      await spreadRing(paths, servers, ring, isSealed(ring));
    }
    return { key: ring.encryption[0]?.id ?? '', wasBegun, servers: servers.map(({ name }) => name) };
  });
}

export interface AuthorityChange {
  wasBegun: boolean;
  servers: string[];
  /** Nodes that have no certificates of the authority that signs now. */
  late: string[];
}

/** Other authorities sign, on all servers; those of before hold too. */
export async function rotateAuthorities(paths: Paths): Promise<AuthorityChange> {
  return changing(paths, async (instance) => {
    const { servers } = await listServers(paths, instance);
    const kept = newestOf(await askServers(paths, servers));
    const planned = planAuthorities(kept, means);
    const ring = planned ?? kept;
    await spreadRing(paths, servers, ring, ({ hasEtcdBegun }) => hasEtcdBegun);
    const late = await awaitNodes(paths, instance, ring);
    return { wasBegun: planned === undefined, servers: servers.map(({ name }) => name), late };
  });
}

/** Those of before hold no more. Refused while nodes need them, unless it is forced: such nodes have to join again. */
export async function endFormerAuthorities(paths: Paths, isForced: boolean): Promise<AuthorityChange> {
  return changing(paths, async (instance) => {
    const { servers, nodes } = await listServers(paths, instance);
    const kept = newestOf(await askServers(paths, servers));
    // Ended before, and perhaps not on all servers.
    const wasBegun = kept.former === undefined;
    const late = wasBegun ? [] : lateNodes(nodes, kept);
    if (late.length > 0 && !isForced)
      throw new ApiError(
        'Conflict',
        `nodes have certificates of the former authority: ${late.join(', ')}. Each renews them within seconds when it runs ('tiphys nodes'); --force locks them out, until they 'tiphys leave --force' and join again`,
      );
    const isDone = ({ hasEtcdBegun }: KeysAnswer): boolean => hasEtcdBegun;
    await spreadRing(paths, servers, kept, isDone);
    if (!wasBegun) await spreadRing(paths, servers, planEndOfFormer(kept), isDone);
    return { wasBegun, servers: servers.map(({ name }) => name), late };
  });
}

interface NamedNode {
  metadata: Pick<Node['metadata'], 'name' | 'annotations'>;
}

/** Those that have not said that all of their certificates are of the authority that signs. */
export function lateNodes(nodes: readonly NamedNode[], { ca }: KeyRing): string[] {
  const wanted = authorityHashOf(ca.certificatePem);
  return nodes
    .filter(({ metadata }) => metadata.annotations?.[machineAnnotations.authority] !== wanted)
    .map(({ metadata }) => metadata.name);
}

async function awaitNodes(paths: Paths, instance: Instance, ring: KeyRing): Promise<string[]> {
  const untilMs = realClock.monotonic() + nodesCurrentMsMax;
  for (;;) {
    const { nodes } = await listServers(paths, instance);
    const late = lateNodes(nodes, ring);
    const lives = (name: string): boolean =>
      nodes
        .find(({ metadata }) => metadata.name === name)
        ?.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') === true;
    // Whoever is away is not waited for.
    if (!late.some(lives) || realClock.monotonic() > untilMs) return late;
    await realClock.sleep(5 * keysStepMs);
  }
}
