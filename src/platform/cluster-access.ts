/** As whom this machine's commands speak to the cluster: its administrator, or on a worker that joined, its node. */
import { join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import type { Client } from '#client/client.ts';
import { loadKubeconfig } from '#client/kubeconfig.ts';
import { createClient } from '#client/rest-client.ts';
import { ServerChoice } from '#client/server-choice.ts';
import { createHttpTransport } from '#client/transport-http.ts';
import { realClock } from '#os/clock.real.ts';
import { readIfExists } from '#os/files.ts';
import { loadInstance, runsServer, type Instance } from './instance.ts';
import { knownServers } from './known-servers.ts';
import { files, type Paths } from './paths.ts';

/** Throws where there is no instance. */
export function instanceHere(paths: Paths): Instance {
  const instance = loadInstance(paths);
  if (instance === undefined)
    throw new ApiError(
      'NotFound',
      `there is no instance in ${paths.data}: 'tiphys up' makes one, 'tiphys join' a node`,
    );
  return instance;
}

/** Throws on a worker: it administers nothing. */
export function administer(paths: Paths, stack: AsyncDisposableStack): Client {
  const instance = instanceHere(paths);
  if (!runsServer(instance))
    throw new ApiError(
      'BadRequest',
      `this machine is a node of the cluster of ${instance.joined?.server}, which is administered there`,
    );
  if (readIfExists(files.adminConfig(paths)) === undefined)
    throw new ApiError('ServiceUnavailable', "Tiphys is not up here: 'tiphys up' starts it");
  const config = loadKubeconfig(files.adminConfig(paths));
  return createClient(stack.use(createHttpTransport({ ...config, clock: realClock })), 'tiphys');
}

/** A client that may at least read Nodes. */
export function accessCluster(paths: Paths, stack: AsyncDisposableStack): Client {
  const { joined } = instanceHere(paths);
  if (joined === undefined || joined.isServer === true) return administer(paths, stack);
  const server = new ServerChoice(knownServers(paths, joined.server));
  const transport = createHttpTransport({ server, ...nodeCredentials(paths), clock: realClock });
  return createClient(stack.use(transport), 'tiphys');
}

/** By which this machine's first node is known to API servers. */
export function nodeCredentials(paths: Paths): { ca: string; certificate: string; key: string } {
  const directory = files.nodePki(paths, 1);
  // Certificate and key stand in one file; TLS takes of it what it needs.
  const [ca, pair] = ['ca.crt', 'kubelet-client.pem'].map((name) => readIfExists(join(directory, name)));
  if (ca === undefined || pair === undefined)
    throw new ApiError('Unauthorized', `this machine has no certificate of the cluster's in ${directory}`);
  const key = /-----BEGIN (?:EC )?PRIVATE KEY-----[^-]+-----END (?:EC )?PRIVATE KEY-----/.exec(pair)?.[0] ?? '';
  return { ca, certificate: pair, key };
}
