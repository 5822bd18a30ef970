/**
 * Keys that encrypt Secrets at rest, and how they change: a new key is put before those that are there, in the file of
 * the key-ring; the server takes it up, seals everything with it, and says so in a file of the run directory. Until
 * then the old key is in the ring, so that each step may be cut off. The old key leaves the ring with the next change:
 * until then history that watches may still read, and backups, need it.
 */
import type { EncryptionKey } from '#apiserver/keys.ts';
import { ApiError } from '#base/errors.ts';
import { textOf } from '#base/unknown.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Random } from '#os/clock.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import { loadKeyRing, writeKeyRing } from './identity.ts';
import { waitUntil } from './launch.ts';
import { keyPollMs, sealingMsMax } from './limits.ts';
import { files, type Paths } from './paths.ts';

interface Means {
  random: Random;
  clock: Clock;
}

export interface FollowOptions extends Means {
  paths: Paths;
  log: Logger;
  /** Seals everything with the first; answers how many objects. */
  sealWith(keys: readonly EncryptionKey[]): Promise<number>;
}

/** The key that everything is sealed with, as the server has said; '' where it has not. */
const sealedKey = (paths: Paths): string => {
  const text = readIfExists(files.sealed(paths));
  return text === undefined ? '' : (textOf(JSON.parse(text), 'key') ?? '');
};

/** Takes up the ring's keys now, and whenever they change. */
export function followEncryptionKeys({ paths, random, clock, log, sealWith }: FollowOptions): Disposable {
  // What an earlier process said need not hold for the store as it is now.
  writeFileAtomic(files.sealed(paths), JSON.stringify({ key: '' }));
  let taken = '';
  let stopped = false;
  let timer = { cancel(): void {} };
  const look = async (): Promise<void> => {
    try {
      const { encryption } = loadKeyRing(paths, { random, clock });
      const ids = encryption.map(({ id }) => id).join(' ');
      if (ids !== taken) {
        const sealed = await sealWith(encryption);
        taken = ids;
        writeFileAtomic(files.sealed(paths), JSON.stringify({ key: encryption[0]?.id ?? '' }));
        if (sealed > 0) log.info('Secrets are encrypted with another key', { key: encryption[0]?.id, objects: sealed });
      }
    } catch (error) {
      log.error('encryption keys cannot be taken up', { error });
    }
    if (!stopped) timer = clock.setTimer(keyPollMs, () => void look(), { background: true });
  };
  void look();
  return {
    [Symbol.dispose]() {
      stopped = true;
      timer.cancel();
    },
  };
}

/** Answers the new key's name once everything is sealed with it. Throws Timeout where that takes long: it goes on. */
export async function rotateEncryptionKey(paths: Paths, { random, clock }: Means): Promise<string> {
  const ring = loadKeyRing(paths, { random, clock });
  const [current] = ring.encryption;
  const isWhole = current !== undefined && sealedKey(paths) === current.id;
  const numbers = ring.encryption.map(({ id }) => Number(/^key(\d+)$/.exec(id)?.[1] ?? 0));
  const added = { id: `key${Math.max(0, ...numbers) + 1}`, key: Buffer.from(random.bytes(32)).toString('base64') };
  // What another key has sealed may be there yet: none leaves the ring before everything was sealed with a later one.
  const kept = isWhole ? [current] : ring.encryption;
  writeKeyRing(paths, { ...ring, encryption: [added, ...kept] });
  if (!(await waitUntil(clock, sealingMsMax, () => sealedKey(paths) === added.id, 100)))
    throw new ApiError(
      'Timeout',
      `the server has not encrypted everything with ${added.id} yet; it goes on, and after each start`,
    );
  return added.id;
}
