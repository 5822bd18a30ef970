/** `tiphys certs` and `tiphys rotate-encryption-key`: other keys for the cluster, on all of its servers. */
import { realClock } from '#os/clock.real.ts';
import { endFormerAuthorities, rotateAuthorities, rotateEncryptionKey } from '#platform/keys/change-keys.ts';
import { pathsOf } from '#platform/paths.ts';
import { print, seconds } from '../output.ts';
import { requireRoot } from './up.ts';

interface KeyOptions {
  data?: string;
}

const on = (servers: readonly string[]): string =>
  servers.length === 1 ? 'this server' : `servers ${servers.join(', ')}`;

export async function rotateKey({ data }: KeyOptions): Promise<void> {
  const { key, wasBegun, servers } = await rotateEncryptionKey(pathsOf(process.env, data));
  const finished = wasBegun ? ', by a change that was begun before and is finished now' : '';
  print(
    `Secrets are encrypted with ${key} on ${on(servers)}${finished}. The key before it stays in the key-ring until the next change.`,
  );
}

export async function rotateCertificates({ data }: KeyOptions): Promise<void> {
  requireRoot('tiphys certs rotate');
  const begun = realClock.monotonic();
  const { wasBegun, servers, late } = await rotateAuthorities(pathsOf(process.env, data));
  const how = wasBegun ? 'Other authorities signed already, and' : 'Other authorities';
  print(`${how} sign on ${on(servers)} after ${seconds(realClock.monotonic() - begun)}; no container was restarted.`);
  if (late.length > 0) print(`  note: ${late.join(', ')} will have certificates of them when they run again`);
  print(
    "What those of before have signed holds until 'tiphys certs finish': give people their kubeconfigs anew, and programs that keep the authority in memory a new start, before that.",
  );
}

export async function finishCertificates({ data, force }: KeyOptions & { force?: boolean }): Promise<void> {
  requireRoot('tiphys certs finish');
  const begun = realClock.monotonic();
  const { wasBegun, servers, late } = await endFormerAuthorities(pathsOf(process.env, data), force === true);
  print(
    `What the authorities of before have signed holds no more${wasBegun ? ' since an earlier run' : ''} on ${on(servers)} after ${seconds(realClock.monotonic() - begun)}.`,
  );
  if (late.length > 0)
    print(`  note: ${late.join(', ')} are locked out: 'tiphys leave --force' there, then join again`);
}
