/** Where the store of a crash test lies, in one word of a command line: the path of a file, or `http://HOST:PORT/PREFIX`. */
import { silentLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { openEtcdStore } from '#store/etcd/etcd-store.ts';
import { openSqliteStore } from '#store/sqlite.ts';
import type { Store } from '#store/store.ts';

/** `synchronous`: of a file. */
export function openPlace(place: string, synchronous: 'FULL' | 'OFF' = 'FULL'): Promise<Store> {
  const means = { clock: realClock, log: silentLogger };
  if (!place.startsWith('http:')) return openSqliteStore({ path: place, synchronous, ...means });
  const { origin, pathname } = new URL(place);
  return openEtcdStore({ address: { endpoints: [origin] }, prefix: pathname, random: realRandom, ...means });
}
