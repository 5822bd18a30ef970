/**
 * Where the engine listens: `unix://PATH`, `tcp://HOST:PORT` (with TLS where it is asked for), `fd://` (sockets that
 * systemd opened and handed over, sd_listen_fds(3)). Addresses are read as dockerd's `-H` reads them.
 */
import { ApiError } from '#base/errors.ts';

const defaultUnixSocket = '/var/run/docker.sock';

export type Host =
  | { type: 'unix'; path: string }
  | { type: 'tcp'; address: string; port: number }
  /** `name`: a number or name of one socket; all of them where it is empty. */
  | { type: 'fd'; name: string };

export function showHost(host: Host): string {
  switch (host.type) {
    case 'unix':
      return `unix://${host.path}`;
    case 'tcp':
      return `tcp://${host.address.includes(':') ? `[${host.address}]` : host.address}:${host.port}`;
    case 'fd':
      return `fd://${host.name}`;
  }
}

/** An empty text is the unix socket at its usual place, or with TLS port 2376. */
export function parseHost(text: string, withTls: boolean): Host {
  const host = text.trim();
  const refuse = (reason: string): never => {
    throw new ApiError('BadRequest', `invalid bind address (${host}): ${reason}`);
  };
  if (host === '')
    return withTls ? { type: 'tcp', address: '127.0.0.1', port: 2376 } : { type: 'unix', path: defaultUnixSocket };
  const match = /^([a-z+]*):\/\/(.*)$/.exec(host);
  const [, protocol = 'tcp', rest = host] = match ?? [];
  switch (protocol) {
    case 'unix':
      if (rest.includes('://')) refuse(`invalid unix address: ${rest}`);
      return { type: 'unix', path: rest === '' ? defaultUnixSocket : rest };
    case 'fd':
      return { type: 'fd', name: rest === '*' ? '' : rest };
    case 'tcp':
      return parseTcp(rest, withTls, refuse);
    default:
      return refuse(`unsupported proto '${protocol}'`);
  }
}

function parseTcp(text: string, withTls: boolean, refuse: (reason: string) => never): Host {
  if (text.includes('/')) refuse('should not contain a path element');
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*))(?::(.*))?$/.exec(text);
  if (match === null) return refuse('too many colons in address');
  const port = match[3] ?? '';
  const number = port === '' ? (withTls ? 2376 : 2375) : Number(port);
  if (!/^\d*$/.test(port) || number < 1 || number > 65_535) refuse(`invalid port: ${port}`);
  return { type: 'tcp', address: (match[1] ?? match[2]) || '127.0.0.1', port: number };
}
