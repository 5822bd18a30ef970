/**
 * Keeps the kernel's Service rules true: watches Services and EndpointSlices, plans, and applies the difference.
 * Changes within a few milliseconds go together. At start the whole table is made anew in one transaction, so that
 * Services answer before, during and after, and what a dead process left is gone. See `service-rules.ts` for the rules
 * themselves.
 */
import type { Service } from '#api/core.v1.ts';
import type { EndpointSlice } from '#api/discovery.v1.ts';
import { whenSettled } from '#base/promises.ts';
import type { InformerFactory } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { Clock, Timer } from '#os/clock.ts';
import type { Nft } from '#os/nft.ts';
import type { Logger } from '#observe/log.ts';
import { rulesBatchElementsMax, rulesDelayMs } from './limits.ts';
import {
  baseTable,
  diffRules,
  emptyRuleSet,
  planRules,
  servicePorts,
  type RuleSet,
  type ServicePort,
} from './service-rules.ts';

export interface ServiceProxyOptions {
  informers: InformerFactory;
  nft: Nft;
  clock: Clock;
  log: Logger;
  nodeName: string;
  /** nftables table of this node. */
  table: string;
  podRange: string;
  /** Forgets tracked UDP flows to an address that is no endpoint any more. */
  forgetUdp(service: { ip: string; port: number }): Promise<void>;
}

export interface ServiceProxy extends AsyncDisposable {
  /** Resolves when the rules reflect the first list. */
  ready: Promise<void>;
}

const labelService = 'kubernetes.io/service-name';

function serviceKeyOf(slice: EndpointSlice): string {
  return `${slice.metadata.namespace}/${slice.metadata.labels?.[labelService] ?? ''}`;
}

// walk service-packet 2/4: each node watches Services and EndpointSlices and plans the difference.
export function runServiceProxy(options: ServiceProxyOptions): ServiceProxy {
  const { informers, nft, clock, log, table } = options;
  const services = informers.informer(kinds.Service);
  const slices = informers.informer(kinds.EndpointSlice).addIndex('service', serviceKeyOf);
  /** Ports by Service, so that a change plans one Service and not all. */
  const ports = new Map<string, ServicePort[]>();
  const dirty = new Set<string>();
  let applied: RuleSet = emptyRuleSet();
  let started = false;
  let closed = false;
  let timer: Timer | undefined;
  let work: Promise<void> = Promise.resolve();

  const refresh = (key: string): void => {
    const service = services.get(key);
    const planned = service === undefined ? [] : servicePorts(service, slices.by('service', key), options.nodeName);
    if (planned.length === 0) ports.delete(key);
    else ports.set(key, planned);
  };
  const sync = async (): Promise<void> => {
    if (closed) return;
    for (const key of dirty) refresh(key);
    dirty.clear();
    const wanted = planRules([...ports.values()].flat(), options.podRange);
    const commands = diffRules(table, applied, wanted);
    const staleUdp = [...applied.chains.keys()].length > 0 ? udpChanges(applied, wanted) : [];
    if (started && commands.length === 0) return;
    try {
      // The first text replaces the table; one transaction, so that no packet sees a half.
      await nft.run(started ? commands.join('\n') : `${baseTable(table)}\n${commands.join('\n')}`);
      applied = wanted;
      started = true;
    } catch (error) {
      log.error('service rules could not be applied; making the table anew', { error: error as Error });
      started = false;
      applied = emptyRuleSet();
      schedule(1_000);
      return;
    }
    // Flows that nobody forgets end by themselves, after half a minute of silence.
    for (const service of staleUdp) await options.forgetUdp(service).catch(() => {});
  };
  const schedule = (delayMs = rulesDelayMs): void => {
    if (timer !== undefined || closed) return;
    timer = clock.setTimer(delayMs, () => {
      timer = undefined;
      work = work.then(sync);
    });
  };
  const touch = (key: string): void => {
    dirty.add(key);
    if (dirty.size > rulesBatchElementsMax) log.debug('many services changed at once', { count: dirty.size });
    if (started) schedule();
  };
  const ready = (async () => {
    await Promise.all([services.synced, slices.synced]);
    const keyOf = (service: Service): string => `${service.metadata.namespace}/${service.metadata.name}`;
    services.addHandler({
      added: (service) => touch(keyOf(service)),
      updated: (service) => touch(keyOf(service)),
      deleted: (service) => touch(keyOf(service)),
    });
    slices.addHandler({
      added: (slice) => touch(serviceKeyOf(slice)),
      updated: (slice) => touch(serviceKeyOf(slice)),
      deleted: (slice) => touch(serviceKeyOf(slice)),
    });
    work = work.then(sync);
    await work;
  })();
  ready.catch((error: unknown) => log.error('service proxy could not start', { error }));
  return {
    ready,
    async [Symbol.asyncDispose]() {
      closed = true;
      timer?.cancel();
      await whenSettled(work);
    },
  };
}

/** UDP addresses whose endpoints changed: tracked flows would keep the old endpoint for as long as packets come. */
function udpChanges(before: RuleSet, after: RuleSet): { ip: string; port: number }[] {
  const out: { ip: string; port: number }[] = [];
  for (const [key, verdict] of before.services) {
    const [ip, protocol, port] = key.split(' . ');
    if (protocol !== 'udp') continue;
    const chain = verdict.replace('goto ', '');
    if (after.services.get(key) === verdict && after.chains.get(chain)?.join() === before.chains.get(chain)?.join())
      continue;
    out.push({ ip: ip!, port: Number(port) });
  }
  return out;
}
