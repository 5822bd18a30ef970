/** `tiphys rotate-encryption-key`: Secrets are encrypted with a new key from now on, those that are there too. */
import { realClock, realRandom } from '#os/clock.real.ts';
import { rotateEncryptionKey } from '#platform/encryption-keys.ts';
import { loadInstance } from '#platform/instance.ts';
import { partStatus } from '#platform/launch.ts';
import { pathsOf } from '#platform/paths.ts';
import { withLock } from '#platform/up.ts';
import { print, UsageError } from '../output.ts';

export async function rotateKey(options: { data?: string; alone?: boolean }): Promise<void> {
  const paths = pathsOf(process.env, options.data);
  if (loadInstance(paths)?.etcd !== undefined && options.alone !== true)
    throw new UsageError(
      'the state is on an etcd: another server on it could not read what this one encrypts. Say --alone where there is none; for several, see docs/access.md',
    );
  const key = await withLock(paths, async () => {
    if (!partStatus(paths, 'server').ready) throw new UsageError("the API server does not run: 'tiphys up' first");
    return rotateEncryptionKey(paths, { random: realRandom, clock: realClock });
  });
  print(`Secrets are encrypted with ${key}. The key before it stays in the key-ring until the next change.`);
}
