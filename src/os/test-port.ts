/** For tests: ports of 127.0.0.1 for servers that are told theirs. */
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import { linuxPortHolder } from './ports.ts';

/**
 * A port on which nobody listens. It is outside the host's range for ports that nobody chose: one of those may be a
 * connection's before the server that was told it has started. It is outside Kubernetes' range for NodePorts too.
 */
export async function freePort(): Promise<number> {
  const [first, last] = linuxPortHolder.dynamicRange();
  const [from, to] = first > 20_000 ? [12_000, Math.min(first, 30_000)] : [last + 1, 65_536];
  for (;;) {
    const port = randomInt(from, to);
    if (await isFree(port)) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
