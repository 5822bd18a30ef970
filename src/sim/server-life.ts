/** One life of a simulated cluster's API server, and the keys that it keeps through all of them. */
import { createKeyRing, type KeyRing } from '#apiserver/keys.ts';
import { ApiError } from '#base/errors.ts';
import { realClock } from '#os/clock.real.ts';
import type { SimRandom } from '#os/clock.sim.ts';

/** Keys are made when somebody first needs them: most runs never do. */
export function lazyKeys(random: SimRandom): KeyRing {
  let ring: KeyRing | undefined;
  // Real clients judge certificates by the real time.
  const made = (): KeyRing => (ring ??= { ...createKeyRing(random, realClock), encryption: [] });
  return {
    format: 1,
    get ca() {
      return made().ca;
    },
    get frontProxy() {
      return made().frontProxy;
    },
    get serviceAccount() {
      return made().serviceAccount;
    },
    encryption: [],
  };
}

/** What a client is told while the server is down. */
export const serverIsDown = (): ApiError =>
  new ApiError('ServiceUnavailable', 'the server is currently unable to handle the request (it is down)');

/** Requests that are under way when it ends are never answered. */
export class ServerLife {
  readonly #underWay = new Set<(error: unknown) => void>();

  run<T>(work: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#underWay.add(reject);
      work.then(resolve, reject).finally(() => this.#underWay.delete(reject));
    });
  }

  /** Ends this life; answers the next. */
  next(): ServerLife {
    for (const reject of this.#underWay) reject(serverIsDown());
    return new ServerLife();
  }
}
