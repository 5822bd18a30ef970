/**
 * `tiphys registry`: the registry without an engine, in the foreground. Plain where it is asked on loopback, with TLS
 * on any other address: passwords go over it. Users are made over a unix socket in the data directory, which only root
 * may open (`tiphys registry-user NAME --registry DIR`).
 *
 *   SIGHUP           reads the certificate again
 *   SIGTERM, SIGINT  ends it
 */
import { readFileSync } from 'node:fs';
import type { Server } from 'node:http';
import type { Server as SecureServer } from 'node:https';
import { join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { isLoopback } from '#base/ip.ts';
import { messageOf } from '#base/thrown.ts';
import { keepCollected } from '#content/collector.ts';
import { openContent } from '#content/content.ts';
import { createImageRecords } from '#content/image-records.ts';
import { createDockerServer } from '#docker/server.ts';
import { createLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { createAccess, type AnonymousPull } from '#registry/access.ts';
import { createRegistry, type Registry } from '#registry/registry.ts';
import { createRegistryServer, createSecureRegistryServer } from '#registry/server.ts';
import { makeDirectory, privateMode, registrySocket } from '../paths.ts';
import { writeStderrLine } from '../process-log.ts';
import { registryUserRoute } from '../registry-users.ts';
import { tiphysVersion } from '../version.ts';
import { showHost, type Host } from './hosts.ts';
import { tellSystemd } from './notify.ts';
import { endSignal } from './end-signal.ts';
import { textLine } from './text-log.ts';

export interface RegistrySettings {
  listen: (Host & { type: 'tcp' })[];
  data: string;
  /** Paths of PEM files. */
  tls?: { certificate: string; key: string };
  anonymousPull: AnonymousPull;
  isDebug: boolean;
}

export async function runRegistry(settings: RegistrySettings): Promise<void> {
  const log = createLogger(
    () => realClock.now(),
    (line) => writeStderrLine(textLine(line)),
    settings.isDebug ? 'debug' : 'info',
    'registry',
  );
  process.on('unhandledRejection', (error) => log.error('unhandled rejection', { error }));
  checkAddresses(settings);
  await using stack = new AsyncDisposableStack();
  makeDirectory(settings.data, privateMode);
  const content = await openContent({
    root: join(settings.data, 'content'),
    clock: realClock,
    random: realRandom,
    log: log.child('content'),
    processes: linuxProcesses,
  });
  stack.defer(() => content.close());
  const access = createAccess({
    content,
    clock: realClock,
    random: realRandom,
    anonymousPull: settings.anonymousPull,
  });
  const registry = createRegistry({
    content,
    images: createImageRecords(content),
    access,
    log,
    clock: realClock,
    domains: settings.listen.map((host) => showHost(host).slice('tcp://'.length)),
  });
  const administration = await createDockerServer({
    listen: [{ type: 'unix', path: registrySocket(settings.data) }],
    routes: [registryUserRoute(access)],
    log,
    serverVersion: tiphysVersion(),
  });
  stack.defer(() => administration.close());
  const servers = settings.listen.map((host) => ({ host, server: serverOf(registry, settings) }));
  for (const { host, server } of servers) await listen(server, host, stack);
  process.on('SIGHUP', () => {
    for (const { server } of servers)
      try {
        if ('setSecureContext' in server) server.setSecureContext(readCertificate(settings.tls));
      } catch (error) {
        log.error('the certificate stays as it was', { error: messageOf(error) });
      }
    log.info('read the certificate again');
  });
  stack.use(keepCollected(content, { clock: realClock, log: log.child('content') }));
  const ended = endSignal();
  tellSystemd('READY=1');
  log.info('registry is ready', {
    addresses: settings.listen.map(showHost).join(' '),
    users: access.users().length,
  });
  if (access.users().length === 0)
    log.info('nobody may write yet; make a user: tiphys registry-user NAME --registry DIR', { DIR: settings.data });
  const signal = await ended;
  log.info('stopping', { signal });
}

function checkAddresses({ listen: hosts, tls }: RegistrySettings): void {
  const open = hosts.find((host) => !isLoopback(host.address) && host.address !== 'localhost');
  if (tls === undefined && open !== undefined)
    throw new ApiError(
      'BadRequest',
      `passwords would go unencrypted to ${showHost(open)}: give --tls-cert and --tls-key, or listen on 127.0.0.1`,
    );
}

function readCertificate(tls: RegistrySettings['tls']): { cert: string; key: string } {
  if (tls === undefined) throw new Error('a registry without TLS has no certificate');
  return { cert: readFileSync(tls.certificate, 'utf8'), key: readFileSync(tls.key, 'utf8') };
}

function serverOf(registry: Registry, settings: RegistrySettings): Server | SecureServer {
  if (settings.tls === undefined) return createRegistryServer(registry);
  const server = createSecureRegistryServer(registry, { clients: 'strangers' });
  server.setSecureContext(readCertificate(settings.tls));
  return server;
}

async function listen(
  server: Server | SecureServer,
  host: Host & { type: 'tcp' },
  stack: AsyncDisposableStack,
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(host.port, host.address, () => resolve());
  });
  stack.defer(
    () =>
      new Promise<void>((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  );
}
