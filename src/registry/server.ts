/**
 * The registry's server: plain HTTP for loopback, TLS anywhere else.
 */
import { createServer, type Server } from 'node:http';
import { createServer as createSecureServer, type Server as SecureServer } from 'node:https';
import type { Socket } from 'node:net';
import { connectionIdleMs, connectionsMax, connectionsPerSourceMax, requestHeadersMs } from './limits.ts';
import type { Registry } from './registry.ts';

/** A body may take as long as it comes: layers are large and lines are slow. */
const timeouts = { requestTimeout: 0, headersTimeout: requestHeadersMs };

export function createRegistryServer(registry: Registry): Server {
  return bound(createServer(timeouts, (request, response) => registry.handle(request, response)));
}

/**
 * Answers nobody until it is given a certificate, and the authority of its clients (`setSecureContext`). `strangers`
 * have passwords alone: no certificate makes one of them a node.
 */
export function createSecureRegistryServer(
  registry: Registry,
  { clients = 'nodes' }: { clients?: 'nodes' | 'strangers' } = {},
): SecureServer {
  const options = { ...timeouts, requestCert: clients === 'nodes', rejectUnauthorized: false };
  const server = createSecureServer(options, (request, response) => registry.handle(request, response));
  server.on('tlsClientError', () => undefined);
  return bound(server);
}

function bound<T extends Server | SecureServer>(server: T): T {
  server.maxConnections = connectionsMax;
  // One address cannot take all of them.
  const counts = new Map<string, number>();
  server.on('connection', (socket: Socket) => {
    const address = socket.remoteAddress ?? '';
    const count = (counts.get(address) ?? 0) + 1;
    if (count > connectionsPerSourceMax) {
      socket.destroy();
      return;
    }
    counts.set(address, count);
    socket.once('close', () => {
      const left = counts.get(address)! - 1;
      if (left === 0) counts.delete(address);
      else counts.set(address, left);
    });
  });
  server.setTimeout(connectionIdleMs);
  return server;
}
