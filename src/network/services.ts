/**
 * Keeps the kernel's Service rules true: watches Services and EndpointSlices, plans, and applies the difference.
 * Changes within a few milliseconds go together. At start the whole table is made anew in one transaction, so that
 * Services answer before, during and after, and what a dead process left is gone. See `service-rules.ts` for the rules
 * themselves.
 */
import type { Node, Service } from '#api/core.v1.ts';
import type { EndpointSlice } from '#api/discovery.v1.ts';
import { whenSettled } from '#base/promises.ts';
import type { Informer, InformerFactory } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { Clock, Timer } from '#os/clock.ts';
import type { Nft } from '#os/nft.ts';
import type { Logger } from '#observe/log.ts';
import { rulesBatchElementsMax, rulesDelayMs, rulesRetryMs } from './limits.ts';
import {
  baseTable,
  diffRules,
  emptyRuleSet,
  planRules,
  servicePorts,
  type PodRanges,
  type RuleSet,
  type ServicePort,
} from './service-rules.ts';

/** A port of a Service's address, or without one a node port. */
export interface UdpTarget {
  ip?: string;
  port: number;
}

export interface ServiceProxyOptions {
  informers: InformerFactory;
  nft: Nft;
  clock: Clock;
  log: Logger;
  nodeName: string;
  /** Of which one is this node. */
  nodes: Pick<Informer<Node>, 'get' | 'addHandler'>;
  /** nftables table of this node. */
  table: string;
  podRanges: PodRanges;
  /** Forgets tracked UDP flows to what leads to other endpoints now. */
  forgetUdp(target: UdpTarget): Promise<void>;
}

export interface ServiceProxy extends AsyncDisposable {
  /** Resolves when the rules reflect the first list. */
  ready: Promise<void>;
}

const labelService = 'kubernetes.io/service-name';

function serviceKeyOf(slice: EndpointSlice): string {
  return `${slice.metadata.namespace}/${slice.metadata.labels?.[labelService] ?? ''}`;
}

const zoneOf = (node: Node | undefined): string | undefined => node?.metadata.labels?.['topology.kubernetes.io/zone'];

// walk service-packet 2/4: each node watches Services and EndpointSlices and plans the difference.
export function runServiceProxy(options: ServiceProxyOptions): ServiceProxy {
  const { informers, nft, clock, log, table, nodes, nodeName } = options;
  let zone = zoneOf(nodes.get(nodeName));
  const services = informers.informer(kinds.Service);
  const slices = informers.informer(kinds.EndpointSlice).addIndex('service', serviceKeyOf);
  /** Ports by Service, so that a change plans one Service and not all. */
  const ports = new Map<string, ServicePort[]>();
  const dirty = new Set<string>();
  let applied: RuleSet = emptyRuleSet();
  let started = false;
  let closed = false;
  let following: { remove(): void } | undefined;
  let timer: Timer | undefined;
  let work: Promise<void> = Promise.resolve();

  const refresh = (key: string): void => {
    const service = services.get(key);
    const planned = service === undefined ? [] : servicePorts(service, slices.by('service', key), { nodeName, zone });
    if (planned.length === 0) ports.delete(key);
    else ports.set(key, planned);
  };
  const sync = async (): Promise<void> => {
    if (closed) return;
    for (const key of dirty) refresh(key);
    dirty.clear();
    const wanted = planRules([...ports.values()].flat(), options.podRanges);
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
      schedule(rulesRetryMs);
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
    const see = (node: Node): void => {
      if (node.metadata.name !== nodeName || zoneOf(node) === zone) return;
      zone = zoneOf(node);
      for (const service of services.list()) touch(keyOf(service));
    };
    following = nodes.addHandler({ added: see, updated: see });
    work = work.then(sync);
    await work;
  })();
  ready.catch((error: unknown) => log.error('service proxy could not start', { error }));
  return {
    ready,
    async [Symbol.asyncDispose]() {
      closed = true;
      following?.remove();
      timer?.cancel();
      await whenSettled(work);
    },
  };
}

/** UDP ports whose endpoints changed: tracked flows would keep the old endpoint for as long as packets come. */
export function udpChanges(before: RuleSet, after: RuleSet): UdpTarget[] {
  const isSame = (old: string, now: string | undefined): boolean =>
    now === old && linesBehind(before, old) === linesBehind(after, old);
  const out: UdpTarget[] = [];
  for (const [key, verdict] of before.services) {
    const [ip, protocol, port] = key.split(' . ');
    if (protocol === 'udp' && !isSame(verdict, after.services.get(key))) out.push({ ip: ip!, port: Number(port) });
  }
  for (const [key, verdict] of before.nodePorts) {
    const [protocol, port] = key.split(' . ');
    if (protocol === 'udp' && !isSame(verdict, after.nodePorts.get(key))) out.push({ port: Number(port) });
  }
  return out;
}

/** All that a verdict leads to, through chains that point at others. */
function linesBehind(rules: RuleSet, verdict: string): string {
  const chain = /goto (\S+)$/.exec(verdict)?.[1];
  const lines = chain === undefined ? [] : (rules.chains.get(chain) ?? []);
  return lines.map((line) => `${line}\n${linesBehind(rules, line)}`).join('');
}
