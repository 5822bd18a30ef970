/**
 * Which addresses of the user's pool Services have. A Service keeps what its status says; one that names an address
 * (`spec.loadBalancerIP`) gets that one or none; others get the lowest that is free. What was given and is not in any
 * status yet is remembered here, since Services are looked at side by side.
 */
import type { Service } from '#api/core.v1.ts';
import type { AddressPool } from '#base/address-pool.ts';
import { keyOf } from '#client/informer.ts';

export class PoolAllocation {
  readonly #given = new Map<string, string>();

  /** `services`: all there are. Answers none where none is free, or the one that it names is not its to have. */
  addressesFor(service: Service, pool: AddressPool, services: readonly Service[]): string[] {
    this.#learn(pool, services);
    const key = keyOf(service);
    const held = [...this.#given].find(([, holder]) => holder === key)?.[0];
    const wanted = service.spec.loadBalancerIP;
    const isFree = (address: string): boolean => [undefined, key].includes(this.#given.get(address));
    const isKept = held !== undefined && (wanted === undefined || wanted === '' || wanted === held);
    if (isKept) return [held];
    const found =
      wanted === undefined || wanted === ''
        ? pool.find(isFree)
        : pool.has(wanted) && isFree(wanted)
          ? wanted
          : undefined;
    if (held !== undefined) this.#given.delete(held);
    if (found === undefined) return [];
    this.#given.set(found, key);
    return [found];
  }

  /** Of Services that are gone, or have other addresses, nothing is kept. */
  #learn(pool: AddressPool, services: readonly Service[]): void {
    const balanced = new Map(services.filter(isBalanced).map((service) => [keyOf(service), service]));
    for (const [address, key] of this.#given) if (!balanced.has(key) || !pool.has(address)) this.#given.delete(address);
    for (const [key, { status }] of balanced)
      for (const { ip } of status?.loadBalancer?.ingress ?? [])
        if (ip !== undefined && pool.has(ip) && !this.#given.has(ip)) this.#given.set(ip, key);
  }
}

/** Whether a Service is one that gets an address here. */
export function isBalanced({ spec, metadata }: Service): boolean {
  return (
    spec?.type === 'LoadBalancer' && spec.loadBalancerClass === undefined && metadata.deletionTimestamp === undefined
  );
}
