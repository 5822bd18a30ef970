/**
 * kube-apiserver's flags that this server has too, as `tiphys up --kube-apiserver-arg NAME=VALUE` gives them. Names,
 * defaults and values are kube-apiserver's (Kubernetes, "kube-apiserver"); one that is not known is refused by name.
 */
import { parseDuration } from '#base/duration.ts';
import { ApiError } from '#base/errors.ts';

type FlagKind = 'text' | 'list' | 'number' | 'boolean' | 'duration';

const batchFlags = (backend: 'log' | 'webhook') =>
  ({
    [`audit-${backend}-batch-buffer-size`]: 'number',
    [`audit-${backend}-batch-max-size`]: 'number',
    [`audit-${backend}-batch-max-wait`]: 'duration',
    [`audit-${backend}-batch-throttle-enable`]: 'boolean',
    [`audit-${backend}-batch-throttle-qps`]: 'number',
    [`audit-${backend}-batch-throttle-burst`]: 'number',
  }) as const;

const known: Readonly<Record<string, FlagKind>> = {
  'audit-policy-file': 'text',
  'audit-log-path': 'text',
  'audit-log-format': 'text',
  'audit-log-maxage': 'number',
  'audit-log-maxbackup': 'number',
  'audit-log-maxsize': 'number',
  'audit-log-mode': 'text',
  ...batchFlags('log'),
  'audit-webhook-config-file': 'text',
  'anonymous-auth': 'boolean',
  'authentication-config': 'text',
  'authentication-token-webhook-config-file': 'text',
  'authentication-token-webhook-cache-ttl': 'duration',
  'authentication-token-webhook-version': 'text',
  'authorization-config': 'text',
  'authorization-mode': 'list',
  'authorization-webhook-config-file': 'text',
  'authorization-webhook-cache-authorized-ttl': 'duration',
  'authorization-webhook-cache-unauthorized-ttl': 'duration',
  'authorization-webhook-version': 'text',
  'oidc-issuer-url': 'text',
  'oidc-client-id': 'text',
  'oidc-ca-file': 'text',
  'oidc-username-claim': 'text',
  'oidc-username-prefix': 'text',
  'oidc-groups-claim': 'text',
  'oidc-groups-prefix': 'text',
  'oidc-required-claim': 'list',
  'oidc-signing-algs': 'list',
  'requestheader-client-ca-file': 'text',
  'requestheader-allowed-names': 'list',
  'requestheader-username-headers': 'list',
  'requestheader-uid-headers': 'list',
  'requestheader-group-headers': 'list',
  'requestheader-extra-headers-prefix': 'list',
  'audit-webhook-initial-backoff': 'duration',
  'audit-webhook-mode': 'text',
  ...batchFlags('webhook'),
};

/** Flags by their names; each may have come several times. */
export class ServerFlags {
  readonly #given = new Map<string, string[]>();

  /** `NAME=VALUE`, with or without dashes before it; a boolean may stand alone. Throws BadRequest. */
  constructor(words: readonly string[]) {
    for (const word of words) {
      const [, name = '', value = 'true'] = /^(?:--)?([a-z0-9-]+)(?:=([\s\S]*))?$/.exec(word) ?? [];
      const kind = known[name];
      if (kind === undefined) throw new ApiError('BadRequest', `unknown flag: --${name || word}`);
      const wrong = problemOf(kind, value);
      if (wrong !== undefined || (!word.includes('=') && kind !== 'boolean'))
        throw new ApiError(
          'BadRequest',
          `invalid argument ${JSON.stringify(word.includes('=') ? value : '')} for "--${name}" flag: ${wrong ?? 'flag needs an argument'}`,
        );
      this.#given.set(name, [...(this.#given.get(name) ?? []), value]);
    }
  }

  has(name: string): boolean {
    return this.#given.has(name);
  }

  /** '' where it was not given. */
  text(name: string): string {
    return this.#given.get(name)?.at(-1) ?? '';
  }

  oneOf<T extends string>(name: string, choices: readonly [T, ...T[]]): T {
    const given = this.text(name);
    if (given === '') return choices[0];
    const found = choices.find((choice) => choice === given);
    if (found !== undefined) return found;
    throw new ApiError('BadRequest', `invalid value ${JSON.stringify(given)} for --${name}: ${choices.join(', ')}`);
  }

  number(name: string, otherwise: number): number {
    return this.has(name) ? Number(this.text(name)) : otherwise;
  }

  boolean(name: string, otherwise: boolean): boolean {
    return this.has(name) ? /^(1|t|true)$/i.test(this.text(name)) : otherwise;
  }

  /** Milliseconds. */
  duration(name: string, otherwiseMs: number): number {
    return this.has(name) ? Number(parseDuration(this.text(name)) ?? 0n) / 1e6 : otherwiseMs;
  }

  /** By commas, and by flags that came several times. */
  list(name: string): string[] {
    return (this.#given.get(name) ?? []).flatMap((value) => value.split(',')).filter((value) => value !== '');
  }

  /** As they were given, commas and all. */
  each(name: string): readonly string[] {
    return this.#given.get(name) ?? [];
  }
}

function problemOf(kind: FlagKind, value: string): string | undefined {
  switch (kind) {
    case 'number':
      return /^\d+(\.\d+)?$/.test(value) ? undefined : 'must be a number that is not negative';
    case 'boolean':
      return /^(1|t|true|0|f|false)$/i.test(value) ? undefined : 'must be true or false';
    case 'duration':
      return parseDuration(value) === undefined && value !== '0' ? 'invalid duration' : undefined;
    case 'text':
    case 'list':
      return undefined;
  }
}
