/**
 * An authenticating proxy (Kubernetes, "Authenticating Proxy"): who shows a certificate of the proxies' own authority,
 * with one of the allowed names, says in headers who asks. Of anybody else such headers mean nothing.
 */
import type { ApiRequest, UserInfo } from '#base/api-request.ts';
import { ApiError } from '#base/errors.ts';
import { readConfig } from '../read-config.ts';
import type { ServerFlags } from '../server-flags.ts';

export interface ProxyConfig {
  /** PEM: the authority of the proxies' certificates. */
  ca: string;
  /** Of certificates; none: any. */
  allowedNames: readonly string[];
  usernameHeaders: readonly string[];
  uidHeaders: readonly string[];
  groupHeaders: readonly string[];
  extraPrefixes: readonly string[];
}

/** Undefined where no flag asks for it. Throws BadRequest. */
export function proxyConfigOf(flags: ServerFlags): ProxyConfig | undefined {
  const file = flags.text('requestheader-client-ca-file');
  const names = ['allowed-names', 'username-headers', 'uid-headers', 'group-headers', 'extra-headers-prefix'];
  if (file === '') {
    const other = names.find((name) => flags.has(`requestheader-${name}`));
    if (other === undefined) return undefined;
    throw new ApiError('BadRequest', `--requestheader-${other} needs --requestheader-client-ca-file`);
  }
  const lower = (name: string): string[] =>
    flags.list(`requestheader-${name}`).map((each) => each.trim().toLowerCase());
  const usernameHeaders = lower('username-headers');
  if (usernameHeaders.length === 0)
    throw new ApiError('BadRequest', '--requestheader-username-headers: at least one header is required');
  return {
    ca: readConfig(file, 'requestheader-client-ca-file'),
    allowedNames: flags.list('requestheader-allowed-names'),
    usernameHeaders,
    uidHeaders: lower('uid-headers'),
    groupHeaders: lower('group-headers'),
    extraPrefixes: lower('extra-headers-prefix'),
  };
}

/** A header that came several times is handed over as lines. */
const valuesOf = (text: string | undefined): string[] => (text ?? '').split('\n').filter((value) => value !== '');

/** Who a proxy says that asks; undefined where it names nobody. */
export function identifyByHeaders({ headers }: ApiRequest, config: ProxyConfig): UserInfo | undefined {
  const first = (names: readonly string[]): string =>
    names.map((name) => (headers[name] ?? '').split('\n')[0] ?? '').find((value) => value !== '') ?? '';
  const name = first(config.usernameHeaders);
  if (name === '') return undefined;
  const uid = first(config.uidHeaders);
  const groups = config.groupHeaders.flatMap((header) => valuesOf(headers[header]));
  const extra: Record<string, string[]> = Object.create(null);
  for (const prefix of config.extraPrefixes)
    for (const [header, value] of Object.entries(headers)) {
      if (!header.startsWith(prefix)) continue;
      const key = decoded(header.slice(prefix.length));
      extra[key] = [...(extra[key] ?? []), ...valuesOf(value)];
    }
  return {
    name,
    groups,
    ...(uid === '' ? {} : { uid }),
    ...(Object.keys(extra).length === 0 ? {} : { extra: { ...extra } }),
  };
}

function decoded(key: string): string {
  try {
    return decodeURIComponent(key).toLowerCase();
  } catch {
    return key;
  }
}
