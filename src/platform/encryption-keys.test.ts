/** The key-ring on the way from one encryption key to the next. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { EncryptionKey } from '#apiserver/keys.ts';
import { silentLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { followEncryptionKeys, rotateEncryptionKey } from './encryption-keys.ts';
import { establishKeyRing, loadKeyRing } from './identity.ts';

test('a new key seals first, the one before it stays, and older ones leave once nothing is sealed with them', async () => {
  const home = mkdtempSync(join(tmpdir(), 'tiphys-keys-'));
  try {
    const paths = { home, data: join(home, 'data'), run: join(home, 'run') };
    for (const directory of [paths.data, paths.run]) mkdirSync(directory);
    const means = { random: realRandom, clock: realClock };
    establishKeyRing(paths, means);
    const ids = (): string[] => loadKeyRing(paths, means).encryption.map(({ id }) => id);
    const taken: string[] = [];
    let failures = 1;
    const sealWith = async (keys: readonly EncryptionKey[]): Promise<number> => {
      if (failures-- > 0) throw new Error('the store does not answer');
      taken.push(keys.map(({ id }) => id).join(' '));
      return 1;
    };
    using _following = followEncryptionKeys({ paths, ...means, log: silentLogger, sealWith });
    assert.equal(await rotateEncryptionKey(paths, means), 'key2');
    assert.deepEqual(ids(), ['key2', 'key1']);
    assert.equal(await rotateEncryptionKey(paths, means), 'key3');
    assert.deepEqual(ids(), ['key3', 'key2']);
    assert.deepEqual(taken.slice(-2), ['key2 key1', 'key3 key2']);
  } finally {
    rmSync(home, { recursive: true });
  }
});
