/** Whether a registry takes a name and password: what `docker login` asks. */
import { RemoteError, basic, errorOf, parseChallenge, parseUrl } from './remote.ts';
import type { Endpoint, HttpTransport } from './remote.ts';

/**
 * Signs in to a registry as `docker login` does: asks `/v2/` and answers its challenge. Throws RemoteError 401 when it
 * refuses.
 */
export async function checkCredential(
  transport: HttpTransport,
  endpoint: Endpoint,
  signal?: AbortSignal,
): Promise<void> {
  const url = new URL(`${endpoint.url.replace(/\/$/, '')}/v2/`);
  const common = {
    ...(signal === undefined ? {} : { signal }),
    ...(endpoint.isInsecure === true ? { isInsecure: true } : {}),
  };
  const first = await transport.call({ method: 'GET', url, ...common });
  first.resume();
  if (first.statusCode === 200) {
    // A registry that lets everybody read still knows whether this credential is right.
    const again = await transport.call({
      method: 'GET',
      url,
      headers: { authorization: basic(endpoint.credential ?? {}) },
      ...common,
    });
    again.resume();
    if (again.statusCode === 401) throw new RemoteError(401, 'UNAUTHORIZED', 'unauthorized: authentication required');
    return;
  }
  const { scheme, parameters } = parseChallenge(first.headers['www-authenticate'] ?? '');
  const realm = scheme === 'bearer' ? parseUrl(parameters['realm'] ?? '') : url;
  if (scheme === 'bearer') {
    realm.searchParams.set('account', endpoint.credential?.username ?? '');
    if (parameters['service'] !== undefined) realm.searchParams.set('service', parameters['service']);
  }
  const answer = await transport.call({
    method: 'GET',
    url: realm,
    headers: { authorization: basic(endpoint.credential ?? {}) },
    ...common,
  });
  if (answer.statusCode !== 200) throw await errorOf(answer);
  answer.resume();
}
