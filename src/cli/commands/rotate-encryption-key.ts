/** `tiphys rotate-encryption-key`: Secrets are encrypted with a new key from now on, those that are there too. */
import { realClock, realRandom } from '#os/clock.real.ts';
import { rotateEncryptionKey } from '#platform/encryption-keys.ts';
import { partStatus } from '#platform/launch.ts';
import { pathsOf } from '#platform/paths.ts';
import { withLock } from '#platform/up.ts';
import { print, UsageError } from '../output.ts';

export async function rotateKey(options: { data?: string }): Promise<void> {
  const paths = pathsOf(process.env, options.data);
  const key = await withLock(paths, async () => {
    if (!partStatus(paths, 'server').ready) throw new UsageError("the API server does not run: 'tiphys up' first");
    return rotateEncryptionKey(paths, { random: realRandom, clock: realClock });
  });
  print(`Secrets are encrypted with ${key}. The key before it stays in the key-ring until the next change.`);
}
