/**
 * Reads a kubeconfig (Kubernetes documentation, "Organizing Cluster Access Using kubeconfig Files"): one context as
 * connection options.
 */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { load } from 'js-yaml';
import { fieldOf, itemsOf, textOf } from '#base/unknown.ts';
import type { HttpTransportOptions } from './transport-http.ts';

export interface KubeconfigContext extends Omit<HttpTransportOptions, 'clock' | 'server'> {
  server: string;
  context: string;
  namespace: string;
  ca?: string;
  certificate?: string;
  key?: string;
}

function named(list: unknown, name: string | undefined, field: string): unknown {
  return fieldOf(
    itemsOf(list).find((entry) => fieldOf(entry, 'name') === name),
    field,
  );
}

/** The chosen (or current) context of a kubeconfig text. Relative file names are resolved against `directory`. */
function parseKubeconfig(text: string, context?: string, directory = '.'): KubeconfigContext {
  const config: unknown = load(text);
  const contextName = context ?? textOf(config, 'current-context');
  const chosen = named(fieldOf(config, 'contexts'), contextName, 'context');
  const cluster = named(fieldOf(config, 'clusters'), textOf(chosen, 'cluster'), 'cluster');
  const user = named(fieldOf(config, 'users'), textOf(chosen, 'user'), 'user');
  const server = textOf(cluster, 'server');
  if (server === undefined)
    throw new Error(`kubeconfig: context ${JSON.stringify(contextName ?? '')} names no cluster with a server`);
  const pem = (holder: unknown, field: string): string | undefined => {
    const [data, file] = [textOf(holder, `${field}-data`), textOf(holder, field)];
    if (data !== undefined) return Buffer.from(data, 'base64').toString('utf8');
    return file === undefined ? undefined : readFileSync(resolve(directory, file), 'utf8');
  };
  const ca = pem(cluster, 'certificate-authority');
  const certificate = pem(user, 'client-certificate');
  const key = pem(user, 'client-key');
  const tokenFile = textOf(user, 'tokenFile');
  const token =
    textOf(user, 'token') ??
    (tokenFile === undefined ? undefined : () => readFileSync(resolve(directory, tokenFile), 'utf8').trim());
  const serverName = textOf(cluster, 'tls-server-name');
  return {
    context: contextName ?? '',
    namespace: textOf(chosen, 'namespace') ?? 'default',
    server,
    ...(ca === undefined ? {} : { ca }),
    ...(certificate === undefined ? {} : { certificate }),
    ...(key === undefined ? {} : { key }),
    ...(token === undefined ? {} : { token }),
    ...(fieldOf(cluster, 'insecure-skip-tls-verify') === true ? { insecureSkipTlsVerify: true } : {}),
    ...(serverName === undefined ? {} : { serverName }),
  };
}

export function loadKubeconfig(path: string, context?: string): KubeconfigContext {
  return parseKubeconfig(readFileSync(path, 'utf8'), context, dirname(path));
}
