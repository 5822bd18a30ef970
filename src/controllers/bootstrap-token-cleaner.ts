/**
 * Takes expired bootstrap tokens away (Kubernetes documentation, "Authenticating with Bootstrap Tokens": the token
 * cleaner). A token without an expiration stays.
 */
import type { Secret } from '#api/core.v1.ts';
import { keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import { type Controller, type ControllerContext, createQueue, deleteIfPresent } from './runtime.ts';

const type = 'bootstrap.kubernetes.io/token';

/** When a token's Secret is to go, in milliseconds since 1970; undefined for never. */
function expirationMs(secret: Secret): number | undefined {
  const text = Buffer.from(secret.data?.['expiration'] ?? '', 'base64').toString('utf8');
  if (text === '') return undefined;
  const atMs = Date.parse(text);
  // What is no time has passed: such a token is not accepted either.
  return Number.isNaN(atMs) ? 0 : atMs;
}

export function startBootstrapTokenCleaner(context: ControllerContext): Controller {
  const { clock, informers } = context;
  const secrets = informers.informer(kinds.Secret, { fieldSelector: `type=${type}` });
  const queue = createQueue(context, 'bootstrap-token-cleaner', async (key) => {
    const secret = secrets.get(key);
    const atMs = secret === undefined || secret.metadata.namespace !== 'kube-system' ? undefined : expirationMs(secret);
    if (secret === undefined || atMs === undefined) return undefined;
    if (atMs > clock.now()) return { requeueAfterMs: atMs - clock.now() };
    await deleteIfPresent(context, kinds.Secret, secret);
    return undefined;
  });
  const enqueue = (secret: Secret): void => queue.add(keyOf(secret));
  secrets.addHandler({ added: enqueue, updated: enqueue });
  return { name: 'bootstrap-token-cleaner', queues: [queue] };
}
