/**
 * The bootstrap token of this machine: by it a node process that has no certificate yet asks for its first one. The
 * server process makes it, keeps its Secret in the cluster, and leaves it with the cluster's authority in a kubeconfig
 * that only root reads. It holds a day; at half of that the next one takes its place.
 */
import { bootstrapGroup } from '#base/node-identity.ts';
import { isReason } from '#base/errors.ts';
import { timestamp } from '#base/timestamp.ts';
import type { Client } from '#client/client.ts';
import { kinds } from '#base/kinds.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Random } from '#os/clock.ts';
import { writeFileAtomic } from '#os/files.ts';
import { kubeconfigText } from './identity.ts';
import { bootstrapTokenMs, bootstrapTokenRetryMs } from './limits.ts';

export interface BootstrapTokenOptions {
  client: Client;
  /** The kubeconfig to write. */
  file: string;
  server: string;
  ca: string;
  clock: Clock;
  random: Random;
  log: Logger;
}

const letters = 'abcdefghijklmnopqrstuvwxyz0123456789';

/** Each letter as likely as any other: bytes that do not divide evenly are drawn again. */
function word(random: Random, length: number): string {
  let out = '';
  while (out.length < length)
    for (const byte of random.bytes(length)) {
      const isEven = byte < 256 - (256 % letters.length);
      if (isEven && out.length < length) out += letters[byte % letters.length];
    }
  return out;
}

/** A new token: `ID.SECRET`. */
export function drawToken(random: Random): { id: string; secret: string } {
  return { id: word(random, 6), secret: word(random, 16) };
}

export interface TokenContent {
  id: string;
  secret: string;
  expiresAtMs: number;
  /** Groups of who holds it, beside `system:bootstrappers`. */
  groups: string[];
  description: string;
}

export async function createTokenSecret(client: Client, token: TokenContent): Promise<void> {
  await client.create(kinds.Secret, {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: tokenSecretName(token.id), namespace: 'kube-system' },
    type: bootstrapTokenType,
    stringData: {
      'token-id': token.id,
      'token-secret': token.secret,
      expiration: timestamp(token.expiresAtMs),
      'usage-bootstrap-authentication': 'true',
      'auth-extra-groups': token.groups.join(','),
      description: token.description,
    },
  });
}

export const bootstrapTokenType = 'bootstrap.kubernetes.io/token';

export function tokenSecretName(id: string): string {
  return `bootstrap-token-${id}`;
}

export class BootstrapToken implements Disposable {
  readonly #options: BootstrapTokenOptions;
  #id: string | undefined;
  #timer = { cancel(): void {} };
  #closed = false;

  constructor(options: BootstrapTokenOptions) {
    this.#options = options;
  }

  /** Makes a token, and the next one when it is time. */
  async run(): Promise<void> {
    let nextMs = bootstrapTokenMs / 2;
    try {
      await this.#replace();
    } catch (error) {
      this.#options.log.warn('no bootstrap token', { error });
      nextMs = bootstrapTokenRetryMs;
    }
    if (!this.#closed) this.#timer = this.#options.clock.setTimer(nextMs, () => void this.run(), { background: true });
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#timer.cancel();
  }

  async #replace(): Promise<void> {
    const { client, file, server, ca, clock, random } = this.#options;
    const { id, secret } = drawToken(random);
    await createTokenSecret(client, {
      id,
      secret,
      expiresAtMs: clock.now() + bootstrapTokenMs,
      groups: [bootstrapGroup],
      description: 'Nodes of this machine get their first certificate by it.',
    });
    const user = { token: `${id}.${secret}` };
    writeFileAtomic(file, kubeconfigText({ server, ca, user }), { mode: 0o600 });
    const before = this.#id;
    this.#id = id;
    if (before === undefined) return;
    await client.delete(kinds.Secret, tokenSecretName(before), 'kube-system').catch((error: unknown) => {
      if (!isReason(error, 'NotFound')) throw error;
    });
  }
}
