/**
 * The addresses of the configuration as sockets to listen on: certificates are read, groups looked up, and what systemd
 * handed over is found (sd_listen_fds(3)).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { isLoopback } from '#base/ip.ts';
import { messageOf } from '#base/thrown.ts';
import type { Listen, ServerTls } from '#docker/server.ts';
import type { Logger } from '#observe/log.ts';
import { readIfExists } from '#os/files.ts';
import type { DaemonConfig } from './config.ts';
import { parseHost, showHost, type Host } from './hosts.ts';

const firstDescriptor = 3;

export interface Listening {
  listen: Listen[];
  /** What `docker info` says of addresses that anybody may use. */
  warnings: string[];
}

/** `environment`: LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES, DOCKER_CERT_PATH, HOME. */
export function planListening(
  config: DaemonConfig,
  environment: Record<string, string | undefined>,
  { log, defaultHost }: { log: Logger; defaultHost: string },
): Listening {
  const tls = readTls(config, environment);
  const given = config.list('hosts');
  // The same said twice is one: a second socket would take the place of the first.
  const hosts = [...new Set(given.length === 0 ? [defaultHost] : given)].map((text) =>
    parseHost(text, tls !== undefined),
  );
  const group = groupId(config, log);
  const warnings: string[] = [];
  const listen = hosts.flatMap((host): Listen[] => {
    switch (host.type) {
      case 'unix':
        return [{ type: 'unix', path: host.path, ...(group === undefined ? {} : { groupId: group }) }];
      case 'fd':
        return descriptorsOf(host.name, environment).map((descriptor) => ({ type: 'fd', descriptor }));
      default:
        warnings.push(...warningsOf(host, tls, log));
        return [{ type: 'tcp', address: host.address, port: host.port, ...(tls === undefined ? {} : { tls }) }];
    }
  });
  return { listen, warnings };
}

/** As dockerd has it: `tlsverify` said at all means TLS. */
function readTls(config: DaemonConfig, environment: Record<string, string | undefined>): ServerTls | undefined {
  const verifyByEnvironment = (environment['DOCKER_TLS_VERIFY'] ?? '') !== '';
  const verify = config.bool('tlsverify') || (!config.isSet('tlsverify') && verifyByEnvironment);
  if (!config.bool('tls') && !config.isSet('tlsverify') && !verify) return undefined;
  // `--tls` alone verifies nobody.
  const directory = environment['DOCKER_CERT_PATH'] || join(environment['HOME'] ?? '/root', '.docker');
  const read = (key: string, name: string, what: string): string => {
    const path = config.text(key) || join(directory, name);
    try {
      return readFileSync(path, 'utf8');
    } catch (error) {
      throw new ApiError(
        'BadRequest',
        `invalid TLS configuration: could not load ${what} ${path}: ${messageOf(error)}`,
      );
    }
  };
  return {
    certificate: read('tlscert', 'cert.pem', 'certificate'),
    key: read('tlskey', 'key.pem', 'key'),
    ...(verify ? { clientAuthority: read('tlscacert', 'ca.pem', 'CA certificate') } : {}),
  };
}

function warningsOf(host: Host & { type: 'tcp' }, tls: ServerTls | undefined, log: Logger): string[] {
  if (tls?.clientAuthority !== undefined) return [];
  const how = tls === undefined ? 'without encryption' : 'without TLS client verification';
  const shown = `${tls === undefined ? 'http' : 'https'}://${showHost(host).slice('tcp://'.length)}`;
  log.warn('whoever reaches this address is root on this machine: use --tlsverify', { host: showHost(host) });
  if (isLoopback(host.address) || host.address === 'localhost') return [];
  return [
    `[DEPRECATION NOTICE]: API is accessible on ${shown} ${how}.\n` +
      '         Access to the remote API is equivalent to root access on the host. Refer\n' +
      "         to the 'Docker daemon attack surface' section in the documentation for\n" +
      '         more information: https://docs.docker.com/go/attack-surface/',
  ];
}

function descriptorsOf(name: string, environment: Record<string, string | undefined>): number[] {
  const count = Number(environment['LISTEN_FDS'] ?? 0);
  if (!(count > 0) || environment['LISTEN_PID'] !== String(process.pid))
    throw new ApiError(
      'BadRequest',
      'failed to load listeners: no sockets found via socket activation: make sure the service was started by systemd',
    );
  const all = Array.from({ length: count }, (_, index) => firstDescriptor + index);
  if (name === '') return all;
  const names = (environment['LISTEN_FDNAMES'] ?? '').split(':');
  const found = all.filter((descriptor, index) => String(descriptor) === name || names[index] === name);
  if (found.length === 0)
    throw new ApiError(
      'BadRequest',
      `failed to load listeners: no sockets found via socket activation: no socket ${name}`,
    );
  return found;
}

/** Of the usual group, which may not be there, the socket is root's; another that is not there is a mistake. */
function groupId(config: DaemonConfig, log: Logger): number | undefined {
  const name = config.text('group');
  if (name === '' || name === 'root') return undefined;
  if (/^\d+$/.test(name)) return Number(name);
  for (const line of (readIfExists('/etc/group') ?? '').split('\n')) {
    const [group, , id] = line.split(':');
    if (group === name) return Number(id);
  }
  if (config.isSet('group')) throw new ApiError('BadRequest', `failed to load listeners: group ${name} not found`);
  log.debug('there is no group docker: the socket is for root', {});
  return undefined;
}
