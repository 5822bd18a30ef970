/**
 * Reads a kubeconfig (Kubernetes documentation, "Organizing Cluster Access Using kubeconfig Files"): one context as
 * connection options.
 */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { load } from 'js-yaml';
import type { Json } from '#base/objects.ts';
import type { HttpTransportOptions } from './transport-http.ts';

export interface KubeconfigContext extends Omit<HttpTransportOptions, 'clock'> {
  context: string;
  namespace: string;
  ca?: string;
  certificate?: string;
  key?: string;
}

function named(list: Json, name: string | undefined, field: string): Json {
  const found = Array.isArray(list) ? list.find((entry: Json) => entry?.name === name) : undefined;
  return found?.[field] ?? {};
}

/** The chosen (or current) context of a kubeconfig text. Relative file names are resolved against `directory`. */
function parseKubeconfig(text: string, context?: string, directory = '.'): KubeconfigContext {
  const config = (load(text) ?? {}) as Json;
  const contextName: string | undefined = context ?? config['current-context'];
  const chosen = named(config.contexts, contextName, 'context');
  const cluster = named(config.clusters, chosen.cluster, 'cluster');
  const user = named(config.users, chosen.user, 'user');
  if (typeof cluster.server !== 'string')
    throw new Error(`kubeconfig: context ${JSON.stringify(contextName ?? '')} names no cluster with a server`);
  const pem = (holder: Json, field: string): string | undefined => {
    if (typeof holder[`${field}-data`] === 'string')
      return Buffer.from(holder[`${field}-data`], 'base64').toString('utf8');
    if (typeof holder[field] === 'string') return readFileSync(resolve(directory, holder[field]), 'utf8');
    return undefined;
  };
  const ca = pem(cluster, 'certificate-authority');
  const certificate = pem(user, 'client-certificate');
  const key = pem(user, 'client-key');
  const tokenFile: string | undefined = user.tokenFile;
  const token =
    typeof user.token === 'string'
      ? user.token
      : tokenFile === undefined
        ? undefined
        : () => readFileSync(resolve(directory, tokenFile), 'utf8').trim();
  return {
    context: contextName ?? '',
    namespace: chosen.namespace ?? 'default',
    server: cluster.server,
    ...(ca === undefined ? {} : { ca }),
    ...(certificate === undefined ? {} : { certificate }),
    ...(key === undefined ? {} : { key }),
    ...(token === undefined ? {} : { token }),
    ...(cluster['insecure-skip-tls-verify'] === true ? { insecureSkipTlsVerify: true } : {}),
    ...(typeof cluster['tls-server-name'] === 'string' ? { serverName: cluster['tls-server-name'] } : {}),
  };
}

export function loadKubeconfig(path: string, context?: string): KubeconfigContext {
  return parseKubeconfig(readFileSync(path, 'utf8'), context, dirname(path));
}
