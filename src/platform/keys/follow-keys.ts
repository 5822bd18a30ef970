/**
 * How a server takes up what becomes of the key-ring, whose file this process, a command, or a person changes: keys
 * that encrypt are taken up at once, and everything is sealed with the first of them; where other authorities sign or
 * hold, the process ends, and its supervisor starts one that has them from the beginning. Each step may be cut off, and
 * is done again after the next start.
 */
import type { EncryptionKey, KeyRing } from '#apiserver/keys.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Random } from '#os/clock.ts';
import { loadKeyRing } from '../identity.ts';
import { keyPollMs } from '../limits.ts';
import type { Paths } from '../paths.ts';

export interface FollowOptions {
  paths: Paths;
  /** With which this process began. */
  ring: KeyRing;
  /** Seals everything with the first; answers how many objects. */
  sealWith(keys: readonly EncryptionKey[]): Promise<number>;
  /** Ends this process. */
  restart(): void;
  random: Random;
  clock: Clock;
  log: Logger;
}

export interface KeysState {
  /** Generation. */
  taken: number;
  /** Name of the key that everything is sealed with; '' while that is not known. */
  sealedWith: string;
}

/** What a process that has begun with other ones has to begin anew for. */
function authoritiesOf({ ca, frontProxy, etcd, former }: KeyRing): string {
  return JSON.stringify([ca.keyPem, frontProxy.keyPem, etcd?.keyPem, former?.ca, former?.frontProxy, former?.etcd]);
}

export class KeyFollower implements Disposable {
  readonly #options: FollowOptions;
  readonly #begunWith: string;
  #taken: string | undefined;
  // What an earlier process said need not hold for the store as it is now.
  #state: KeysState = { taken: 0, sealedWith: '' };
  #isEnding = false;
  #timer = { cancel(): void {} };

  constructor(options: FollowOptions) {
    this.#options = options;
    const { ring } = options;
    this.#begunWith = authoritiesOf(ring);
    void this.#look();
  }

  get state(): KeysState {
    return this.#state;
  }

  [Symbol.dispose](): void {
    this.#isEnding = true;
    this.#timer.cancel();
  }

  async #look(): Promise<void> {
    const { clock, log } = this.#options;
    try {
      await this.#follow();
    } catch (error) {
      log.error('keys cannot be taken up', { error });
    }
    if (!this.#isEnding) this.#timer = clock.setTimer(keyPollMs, () => void this.#look(), { background: true });
  }

  async #follow(): Promise<void> {
    const { paths, random, clock, log, ring: begunWith, sealWith, restart } = this.#options;
    const ring = loadKeyRing(paths, { random, clock });
    // The cluster's own etcd gets its authority while a server runs.
    const { etcd: _etcd, ...withoutEtcd } = ring;
    if (authoritiesOf(begunWith.etcd === undefined ? withoutEtcd : ring) !== this.#begunWith) {
      log.info('other authorities sign or hold: this process ends, and begins anew', { generation: ring.generation });
      this.#isEnding = true;
      restart();
      return;
    }
    const ids = ring.encryption.map(({ id }) => id).join(' ');
    const taken = `${ring.generation ?? 0} ${ids}`;
    if (taken === this.#taken) return;
    const sealed = await sealWith(ring.encryption);
    this.#taken = taken;
    const key = ring.encryption[0]?.id ?? '';
    this.#state = { taken: ring.generation ?? 0, sealedWith: key };
    if (sealed > 0) log.info('Secrets are encrypted with another key', { key, objects: sealed });
  }
}
