/**
 * Credentials of `kubernetes.io/dockerconfigjson` and `kubernetes.io/dockercfg` Secrets that fit an image.
 * Rules: Kubernetes documentation, "Images / Interpretation of config.json" (globs in host names, path prefixes).
 */
import type { Secret } from '#api/core.v1.ts';
import { fieldOf, isObject } from '#base/unknown.ts';
import type { RegistryCredential } from '#engine/engine.ts';

/** `docker.io` for names without a host. */
function registryOf(image: string): string {
  const first = image.split('/')[0]!;
  return image.includes('/') && (first.includes('.') || first.includes(':') || first === 'localhost')
    ? first
    : 'docker.io';
}

function matches(pattern: string, image: string): boolean {
  const plain = pattern
    .replace(/^https?:\/\//, '')
    .replace(/\/(v1|v2)\/?$/, '')
    .replace(/\/$/, '');
  const [host, ...path] = plain.split('/');
  const registry = registryOf(image);
  const aliases = registry === 'docker.io' ? ['docker.io', 'index.docker.io', 'registry-1.docker.io'] : [registry];
  const glob = new RegExp(
    `^${host!
      .split('.')
      .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replaceAll('\\*', '[^.]*'))
      .join('\\.')}$`,
  );
  if (!aliases.some((name) => glob.test(name))) return false;
  if (path.length === 0) return true;
  const rest = registry === 'docker.io' ? image.replace(/^docker\.io\//, '') : image.slice(registry.length + 1);
  return rest.startsWith(path.join('/'));
}

export function matchCredentials(secret: Secret, image: string): RegistryCredential[] {
  const text: string | undefined = secret.data?.['.dockerconfigjson'] ?? secret.data?.['.dockercfg'];
  if (text === undefined) return [];
  let parsed: unknown;
  try {
    parsed = JSON.parse(Buffer.from(text, 'base64').toString('utf8'));
  } catch {
    return [];
  }
  const named = secret.data?.['.dockerconfigjson'] === undefined ? parsed : fieldOf(parsed, 'auths');
  const entries = Object.entries(isObject(named) ? named : {});
  return entries
    .filter(([pattern]) => matches(pattern, image))
    .sort(([a], [b]) => b.length - a.length)
    .map(([, entry]) => {
      const text = (field: string): string | undefined => {
        const value = fieldOf(entry, field);
        return typeof value === 'string' ? value : undefined;
      };
      const auth = text('auth');
      const [username, ...password] =
        auth === undefined
          ? [text('username') ?? '', text('password') ?? '']
          : Buffer.from(auth, 'base64').toString('utf8').split(':');
      const identityToken = text('identitytoken');
      return {
        username: username ?? '',
        password: password.join(':'),
        ...(identityToken === undefined ? {} : { identityToken }),
      };
    });
}
