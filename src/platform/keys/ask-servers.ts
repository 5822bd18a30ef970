/**
 * The servers of the cluster, as a command on the machine of one of them asks them for their keys and gives them
 * others. All of them must answer: one that is left behind could read nothing that the others write.
 */
import type { KeyRing } from '#apiserver/keys.ts';
import { trustedAuthorities } from '#apiserver/keys.ts';
import type { Node } from '#api/core.v1.ts';
import { ApiError } from '#base/errors.ts';
import { joinHostPort } from '#base/ip.ts';
import { kinds } from '#base/kinds.ts';
import { controlPlaneRole, machineAnnotations, serversGroup } from '#base/node-identity.ts';
import { messageOf } from '#base/thrown.ts';
import { issueCertificate } from '#base/x509.ts';
import { createHttpTransport } from '#client/transport-http.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { accessCluster } from '../cluster-access.ts';
import { hostName } from '../host.ts';
import { loadKeyRing } from '../identity.ts';
import { nodePlan, type Instance } from '../instance.ts';
import { keysAnswerMsMax, keysAskMsMax, keysStepMs, keysTakenMsMax } from '../limits.ts';
import type { Paths } from '../paths.ts';
import { retryWhile } from '../retry.ts';
import { openMessage, readAnswer, sealMessage, type KeysAnswer } from './messages.ts';
import { keysPath } from './serve-keys.ts';

const means = { random: realRandom, clock: realClock };

export interface KeysServer {
  name: string;
  url: string;
}

interface ServerNode {
  metadata: Pick<Node['metadata'], 'name' | 'labels' | 'annotations'>;
}

/** Of the Nodes: this machine's server, which is reached at home, and the others. */
export function serversIn(nodes: readonly ServerNode[], { self, port }: { self: string; port: number }): KeysServer[] {
  const others = nodes
    .filter(({ metadata }) => metadata.name !== self && metadata.labels?.[controlPlaneRole] !== undefined)
    .map(({ metadata: { name, annotations } }) => {
      const address = annotations?.[machineAnnotations.address];
      if (address === undefined)
        throw new ApiError('ServiceUnavailable', `server ${name} has not said yet where it is reached: try again`);
      return { name, url: `https://${joinHostPort(address, String(port))}` };
    });
  return [{ name: self, url: `https://127.0.0.1:${port}` }, ...others];
}

/** All Nodes of the cluster, and its servers. */
export async function listServers(paths: Paths, instance: Instance): Promise<{ nodes: Node[]; servers: KeysServer[] }> {
  const items = await retryWhile({ untilMs: realClock.monotonic() + keysAnswerMsMax, stepMs: keysStepMs }, async () => {
    await using stack = new AsyncDisposableStack();
    return (await accessCluster(paths, stack).list(kinds.Node)).items;
  });
  const self = nodePlan(instance, 1, hostName()).name;
  return { nodes: items, servers: serversIn(items, { self, port: instance.apiPort }) };
}

/** Asks one; with a ring it is to take that up. Rejects with whose fault it is. */
async function askServer(paths: Paths, { name, url }: KeysServer, ring?: KeyRing): Promise<KeysAnswer> {
  const own = loadKeyRing(paths, means);
  const who = { commonName: `${serversGroup}:${hostName()}`, organizations: [serversGroup], client: true, days: 1 };
  const { certificatePem, keyPem } = issueCertificate(who, own.ca, realRandom, realClock);
  const ca = trustedAuthorities(own, 'ca');
  await using transport = createHttpTransport({
    server: url,
    ca,
    certificate: certificatePem,
    key: keyPem,
    clock: realClock,
  });
  const nonce = realRandom.uuid();
  const body = sealMessage(own, 'request', { nonce, ...(ring === undefined ? {} : { ring }) }, realRandom);
  try {
    const signal = AbortSignal.timeout(keysAskMsMax);
    const answer: unknown = await transport.send({ method: 'POST', path: keysPath, body, signal });
    return readAnswer(openMessage(own, 'answer', answer), nonce);
  } catch (cause) {
    const error = new ApiError('ServiceUnavailable', `server ${name} (${url}): ${messageOf(cause)}`);
    error.cause = cause;
    throw error;
  }
}

/** Asks all. Rejects where one does not answer, and says what helps: one that begins anew is waited for. */
export async function askServers(paths: Paths, servers: readonly KeysServer[]): Promise<KeysAnswer[]> {
  const untilMs = realClock.monotonic() + keysAnswerMsMax;
  return Promise.all(
    servers.map((server) =>
      retryWhile({ untilMs, stepMs: keysStepMs }, () => askServer(paths, server)).catch((error: unknown) => {
        throw new ApiError(
          'ServiceUnavailable',
          `${messageOf(error)}. All servers must answer, or one would be left with keys that do not hold: 'tiphys up' there, or 'tiphys remove ${server.name}' if it is lost for good`,
        );
      }),
    ),
  );
}

/** The ring that counts. */
export function newestOf(answers: readonly KeysAnswer[]): KeyRing {
  return answers
    .map(({ ring }) => ring)
    .reduce((one, other) => (generationOf(other) > generationOf(one) ? other : one));
}

export function generationOf({ generation = 0 }: KeyRing): number {
  return generation;
}

/**
 * Each server works with the ring, one after the other, so that at most one begins anew at a time. Rejects with Timeout
 * where one does not; running the command again goes on.
 */
export async function spreadRing(
  paths: Paths,
  servers: readonly KeysServer[],
  ring: KeyRing,
  isDone: (answer: KeysAnswer) => boolean = () => true,
): Promise<void> {
  for (const server of servers) {
    const untilMs = realClock.monotonic() + keysTakenMsMax;
    for (;;) {
      const answer = await askServer(paths, server, ring).catch((error: unknown) => messageOf(error));
      const isTaken = typeof answer !== 'string' && answer.taken >= generationOf(ring) && isDone(answer);
      if (isTaken) break;
      if (realClock.monotonic() > untilMs)
        throw new ApiError(
          'Timeout',
          typeof answer === 'string'
            ? `${answer}. Run this again when it answers`
            : `server ${server.name} has not taken up the keys yet: its log says why; run this again`,
        );
      await realClock.sleep(keysStepMs);
    }
  }
}
