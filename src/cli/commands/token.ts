/** `tiphys token create`, `list` and `delete`. */
import { parseDuration } from '#base/duration.ts';
import { realClock } from '#os/clock.real.ts';
import { createJoinToken, deleteJoinToken, listJoinTokens } from '#platform/join-tokens.ts';
import { joinTokenMs, joinTokenMsMax } from '#platform/limits.ts';
import { pathsOf } from '#platform/paths.ts';
import { print, table, UsageError } from '../output.ts';
import { requireRoot } from './up.ts';

export async function createToken(options: {
  ttl?: string;
  address?: string;
  description?: string;
  json?: boolean;
  server?: boolean;
  etcdBinary?: string;
}): Promise<void> {
  requireRoot('tiphys token create');
  if (options.etcdBinary !== undefined && options.server !== true)
    throw new UsageError('--etcd-binary is for further servers: it goes with --server');
  const ttlMs = options.ttl === undefined ? joinTokenMs : Number((parseDuration(options.ttl) ?? 0n) / 1_000_000n);
  if (ttlMs < 1000 || ttlMs > joinTokenMsMax)
    throw new UsageError(`--ttl takes a time like 30m or 24h, from 1s to ${joinTokenMsMax / 3_600_000}h`);
  const { command, id, isFirst } = await createJoinToken(pathsOf(process.env), {
    ttlMs,
    ...(options.address === undefined ? {} : { address: options.address }),
    ...(options.description === undefined ? {} : { description: options.description }),
    isServer: options.server === true,
    ...(options.etcdBinary === undefined ? {} : { etcdBinary: options.etcdBinary }),
  });
  if (options.json === true) {
    print(JSON.stringify({ id, command, expires: new Date(realClock.now() + ttlMs).toISOString() }));
    return;
  }
  if (isFirst) process.stderr.write('note: the API server listens on all addresses of this machine from now on\n');
  print(command);
}

export async function listTokens(options: { json?: boolean }): Promise<void> {
  requireRoot('tiphys token list');
  const tokens = await listJoinTokens(pathsOf(process.env));
  if (options.json === true) print(JSON.stringify(tokens));
  else if (tokens.length === 0) print("No tokens. 'tiphys token create' makes one.");
  else
    print(
      table([
        ['ID', 'EXPIRES', 'FOR A', 'DESCRIPTION'],
        ...tokens.map(({ id, expires, role, description }) => [id, expires, role, description]),
      ]),
    );
}

export async function deleteToken(token: string): Promise<void> {
  requireRoot('tiphys token delete');
  print(`Token ${await deleteJoinToken(pathsOf(process.env), token)} is deleted.`);
}
