/**
 * Which API servers there are, where several share a store: each holds a lease in it with its address, and the
 * endpoints of the `kubernetes` Service are the addresses of all. A server that dies is out when its lease ends; one
 * that stops in order takes it back. As kube-apiserver's reconciler does ("lease").
 */
import { isObject } from '#base/unknown.ts';
import type { Timer } from '#os/clock.ts';
import type { StoredValue } from '#store/store.ts';
import type { Server } from './context.ts';
import { serverLeaseSeconds, serverLeaseSteps } from './limits.ts';

export const serverLeasePrefix = '/registry/masterleases/';

export interface Advertised {
  address: string;
  port: number;
}

function parse({ value }: StoredValue): Advertised[] {
  const found: unknown = JSON.parse(Buffer.from(value).toString());
  const { address, port } = isObject(found) ? found : {};
  return typeof address === 'string' && typeof port === 'number' ? [{ address, port }] : [];
}

/** Addresses of all servers, this one's among them; none where it advertises none. */
export async function advertisedServers(server: Server): Promise<Advertised[]> {
  const { advertise } = server.options;
  if (advertise === undefined) return [];
  const { values } = await server.store.list(serverLeasePrefix);
  const own = leaseKey(advertise);
  const others = values.filter(({ key }) => key !== own).flatMap(parse);
  return [advertise, ...others].sort((a, b) => (leaseKey(a) < leaseKey(b) ? -1 : 1));
}

function leaseKey({ address, port }: Advertised): string {
  return `${serverLeasePrefix}${address}:${port}`;
}

/** Holds this server's lease until it is stopped. A server that has its store alone holds none. */
export class ServerLease {
  readonly #server: Server;
  readonly #isShared: boolean;
  #lease: number | undefined;
  #timer: Timer | undefined;
  #stopped = false;

  constructor(server: Server) {
    this.#server = server;
    this.#isShared = server.options.advertise !== undefined && server.store.isShared;
  }

  async start(): Promise<void> {
    if (this.#isShared) await this.#renew();
  }

  async #renew(): Promise<void> {
    const { store, clock, log } = this.#server;
    try {
      if (this.#lease === undefined) await this.#take();
      else await store.keepLeaseAlive(this.#lease);
    } catch (error) {
      log.warn("this server's lease was not renewed", { error });
      // It may have ended: the next one is a new one.
      this.#lease = undefined;
    }
    if (this.#stopped) return;
    const delayMs = (serverLeaseSeconds * 1000) / serverLeaseSteps;
    this.#timer = clock.setTimer(delayMs, () => void this.#renew(), { background: true });
  }

  async #take(): Promise<void> {
    const { store, options } = this.#server;
    if (options.advertise === undefined) return;
    const lease = await store.grantLease(serverLeaseSeconds);
    const value = Buffer.from(JSON.stringify(options.advertise));
    await store.txn([], [{ type: 'put', key: leaseKey(options.advertise), value, lease }]);
    this.#lease = lease;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    // Where the store does not answer, the lease ends by itself.
    if (this.#lease !== undefined) await this.#server.store.revokeLease(this.#lease).catch(() => undefined);
  }
}
