/**
 * Tokens that another server knows (Kubernetes, "Webhook Token Authentication"): asked by a TokenReview, and what it
 * said is remembered for a while. A question is asked once, however many wait for it, and so many at a time.
 */
import { createHash } from 'node:crypto';
import type { UserInfo } from '#base/api-request.ts';
import { entriesOf, fieldOf, textOf, textsOf } from '#base/unknown.ts';
import type { Clock } from '#os/clock.ts';
import { knownTokensMax, tokenQuestionsMax, tokenWebhookMs, tokenWebhookTriesMax } from '../limits.ts';
import { askAgain, type AskedServer } from '../webhook-kubeconfig.ts';

export interface TokenWebhookOptions {
  server: AskedServer;
  version: 'v1' | 'v1beta1';
  cacheMs: number;
  clock: Clock;
}

interface Known {
  user: UserInfo | undefined;
  untilMs: number;
}

export class TokenWebhook {
  readonly #options: TokenWebhookOptions;
  readonly #known = new Map<string, Known>();
  readonly #asking = new Map<string, Promise<UserInfo | undefined>>();

  constructor(options: TokenWebhookOptions) {
    this.#options = options;
  }

  /** Undefined where it knows nobody. Rejects where it cannot be asked; that is not remembered. */
  async identify(token: string, audiences: readonly string[]): Promise<UserInfo | undefined> {
    const { clock, cacheMs } = this.#options;
    const key = createHash('sha256')
      .update(JSON.stringify([token, audiences]))
      .digest('base64');
    const known = this.#known.get(key);
    if (known !== undefined && clock.monotonic() < known.untilMs) return known.user;
    const asked = this.#asking.get(key);
    if (asked !== undefined) return asked;
    if (this.#asking.size >= tokenQuestionsMax) throw new Error('too many tokens are being looked up');
    const question = this.#ask(token, audiences).finally(() => this.#asking.delete(key));
    this.#asking.set(key, question);
    const user = await question;
    if (this.#known.size >= knownTokensMax) this.#known.clear();
    if (cacheMs > 0) this.#known.set(key, { user, untilMs: clock.monotonic() + cacheMs });
    return user;
  }

  close(): void {
    this.#options.server.close();
  }

  async #ask(token: string, audiences: readonly string[]): Promise<UserInfo | undefined> {
    const { server, version, clock } = this.#options;
    const apiVersion = `authentication.k8s.io/${version}`;
    const review = {
      apiVersion,
      kind: 'TokenReview',
      metadata: {},
      spec: { token, ...(audiences.length === 0 ? {} : { audiences }) },
    };
    const answer = await askAgain(
      (ms) => clock.sleep(ms),
      { attempts: tokenWebhookTriesMax, firstMs: 500 },
      () => server.ask(review, tokenWebhookMs),
    );
    if (textOf(answer, 'apiVersion') !== apiVersion || textOf(answer, 'kind') !== 'TokenReview')
      throw new Error(`webhook answered no TokenReview of ${apiVersion}`);
    const status = fieldOf(answer, 'status');
    if (fieldOf(status, 'authenticated') !== true) {
      const error = textOf(status, 'error') ?? '';
      if (error !== '') throw new Error(error);
      return undefined;
    }
    const accepted = textsOf(fieldOf(status, 'audiences'));
    // One that does not speak of audiences takes all of them.
    if (accepted.length > 0 && !accepted.some((audience) => audiences.includes(audience))) return undefined;
    return userOf(fieldOf(status, 'user'));
  }
}

function userOf(user: unknown): UserInfo {
  const uid = textOf(user, 'uid') ?? '';
  const extra = Object.fromEntries(entriesOf(fieldOf(user, 'extra')).map(([key, values]) => [key, textsOf(values)]));
  return {
    name: textOf(user, 'username') ?? '',
    groups: textsOf(fieldOf(user, 'groups')),
    ...(uid === '' ? {} : { uid }),
    ...(Object.keys(extra).length === 0 ? {} : { extra }),
  };
}
