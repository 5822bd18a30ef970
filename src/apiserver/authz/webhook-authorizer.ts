/**
 * A server that is asked whether a request may go on (Kubernetes, "Webhook Mode", "Using configuration file for
 * authorization"): by a SubjectAccessReview, only for requests that its conditions match; what it said is remembered.
 */
import { fromJson } from '#cel/json-values.ts';
import type { Program } from '#cel/program.ts';
import { messageOf } from '#base/thrown.ts';
import { fieldOf, textOf, type JsonObject } from '#base/unknown.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock } from '#os/clock.ts';
import { giveWay } from '#os/turn.ts';
import { accessQuestionsMax, accessWebhookTriesMax, claimsCostMax, knownAnswersMax } from '../limits.ts';
import { askAgain, type AskedServer } from '../webhook-kubeconfig.ts';
import type { Attributes } from './attributes.ts';

export interface WebhookAuthorizerOptions {
  name: string;
  server: AskedServer;
  version: 'v1' | 'v1beta1';
  timeoutMs: number;
  authorizedMs: number;
  unauthorizedMs: number;
  /** What a failure means: the request is refused, or others are asked. */
  failurePolicy: 'Deny' | 'NoOpinion';
  matchConditions: readonly Program[];
  clock: Clock;
  log: Logger;
}

export interface Verdict {
  decision: 'allow' | 'deny' | 'no opinion';
  reason: string;
}

export class WebhookAuthorizer {
  readonly #options: WebhookAuthorizerOptions;
  readonly #known = new Map<string, { verdict: Verdict; untilMs: number }>();
  readonly #asking = new Map<string, Promise<Verdict>>();

  constructor(options: WebhookAuthorizerOptions) {
    this.#options = options;
  }

  async decide(attributes: Attributes): Promise<Verdict> {
    const { name, log } = this.#options;
    try {
      const spec = specOf(attributes);
      if (!(await this.#isAsked(spec))) return noOpinion;
      return await this.#answer(spec);
    } catch (error) {
      log.warn('an authorization webhook failed', { name, why: messageOf(error) });
      return this.#options.failurePolicy === 'Deny'
        ? { decision: 'deny', reason: `authorization webhook ${JSON.stringify(name)} failed` }
        : noOpinion;
    }
  }

  close(): void {
    this.#options.server.close();
  }

  async #isAsked(spec: JsonObject): Promise<boolean> {
    let left = claimsCostMax;
    let failure: unknown;
    for (const program of this.#options.matchConditions)
      try {
        const { value, cost } = await program.evaluate({ variables: { request: fromJson(spec) } }, giveWay, left);
        left = Math.max(0, left - cost);
        if (value !== true) return false;
      } catch (error) {
        failure ??= error;
      }
    // One that is false decides, whatever went wrong with others.
    if (failure !== undefined) throw failure;
    return true;
  }

  async #answer(spec: JsonObject): Promise<Verdict> {
    const { clock, authorizedMs, unauthorizedMs } = this.#options;
    const key = JSON.stringify(spec);
    const known = this.#known.get(key);
    if (known !== undefined && clock.monotonic() < known.untilMs) return known.verdict;
    const asked = this.#asking.get(key);
    if (asked !== undefined) return asked;
    if (this.#asking.size >= accessQuestionsMax) throw new Error('too many requests wait for it');
    const question = this.#ask(spec).finally(() => this.#asking.delete(key));
    this.#asking.set(key, question);
    const verdict = await question;
    const keptMs = verdict.decision === 'allow' ? authorizedMs : unauthorizedMs;
    if (this.#known.size >= knownAnswersMax) this.#known.clear();
    // A question as long as a body is not worth remembering.
    if (keptMs > 0 && key.length <= 10_000) this.#known.set(key, { verdict, untilMs: clock.monotonic() + keptMs });
    return verdict;
  }

  async #ask(spec: JsonObject): Promise<Verdict> {
    const { server, version, timeoutMs, clock } = this.#options;
    const apiVersion = `authorization.k8s.io/${version}`;
    const { groups, ...rest } = spec;
    const review = {
      apiVersion,
      kind: 'SubjectAccessReview',
      metadata: {},
      spec: version === 'v1' ? spec : { ...rest, group: groups },
    };
    const answer = await askAgain(
      (ms) => clock.sleep(ms),
      { attempts: accessWebhookTriesMax, firstMs: 500 },
      () => server.ask(review, timeoutMs),
    );
    if (textOf(answer, 'kind') !== 'SubjectAccessReview' || textOf(answer, 'apiVersion') !== apiVersion)
      throw new Error(`webhook answered no SubjectAccessReview of ${apiVersion}`);
    const status = fieldOf(answer, 'status');
    const [allowed, denied] = [fieldOf(status, 'allowed') === true, fieldOf(status, 'denied') === true];
    if (allowed && denied) throw new Error('webhook returned both allow and deny response');
    const reason = textOf(status, 'reason') ?? '';
    return { decision: denied ? 'deny' : allowed ? 'allow' : 'no opinion', reason };
  }
}

const noOpinion: Verdict = { decision: 'no opinion', reason: '' };

/** The specification of a SubjectAccessReview; what is empty is left out. */
function specOf(a: Attributes): JsonObject {
  const whole = (fields: JsonObject): JsonObject =>
    Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== '' && value !== undefined));
  const { user, verb } = a;
  return whole({
    ...(a.isResource
      ? {
          resourceAttributes: whole({
            namespace: a.namespace,
            verb,
            group: a.group,
            version: a.version,
            resource: a.resource,
            subresource: a.subresource,
            name: a.name,
          }),
        }
      : { nonResourceAttributes: { path: a.path, verb } }),
    user: user.name,
    groups: user.groups,
    extra: user.extra,
    uid: user.uid,
  });
}
