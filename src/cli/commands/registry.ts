/** `tiphys registry`. */
import { resolve } from 'node:path';
import { parseHost } from '#platform/daemon/hosts.ts';
import { runRegistry } from '#platform/daemon/registry.ts';
import { UsageError } from '../output.ts';

interface RegistryCommandOptions {
  listen: string[];
  data?: string;
  tlsCert?: string;
  tlsKey?: string;
  anonymousPull: string;
  debug?: boolean;
}

const defaultAddress = '127.0.0.1:5000';

export async function registry(options: RegistryCommandOptions): Promise<void> {
  const addresses = options.listen.length === 0 ? [defaultAddress] : options.listen;
  const listen = addresses.map((text) => {
    const host = parseHost(`tcp://${text.replace(/^tcp:\/\//, '')}`, false);
    if (host.type !== 'tcp') throw new UsageError(`${JSON.stringify(text)} is not HOST:PORT`);
    return host;
  });
  const { anonymousPull, tlsCert, tlsKey } = options;
  if (anonymousPull !== 'none' && anonymousPull !== 'loopback' && anonymousPull !== 'all')
    throw new UsageError(`--anonymous-pull is none, loopback or all, not ${JSON.stringify(anonymousPull)}`);
  if ((tlsCert === undefined) !== (tlsKey === undefined))
    throw new UsageError('--tls-cert and --tls-key belong together');
  await runRegistry({
    listen,
    data: resolve(options.data ?? '/var/lib/tiphys-registry'),
    ...(tlsCert === undefined || tlsKey === undefined ? {} : { tls: { certificate: tlsCert, key: tlsKey } }),
    anonymousPull,
    isDebug: options.debug === true,
  });
}
