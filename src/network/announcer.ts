/**
 * Has on this machine's link the addresses that it is to announce (`announced-addresses.ts`), and tells the link of
 * each that comes: the kernel answers who asks for it from then on, and who has known another machine learns of this
 * one.
 *
 * Which addresses are of this program is written down before they are added: whoever comes after a process that was
 * killed takes away what is not to be there any more, and nothing else.
 */
import { parseAddressPool } from '#base/address-pool.ts';
import { kinds } from '#base/kinds.ts';
import { clusterConfig } from '#base/node-identity.ts';
import { whenSettled } from '#base/promises.ts';
import { itemsOf } from '#base/unknown.ts';
import type { InformerFactory } from '#client/informer.ts';
import { findUnderlay, type Underlay } from '#net/underlay.ts';
import type { Logger } from '#observe/log.ts';
import { announceAddress } from '#os/announce.linux.ts';
import type { Clock, Timer } from '#os/clock.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import type { Netlink, NetStep } from '#os/netlink.ts';
import { planAnnounced } from './announced-addresses.ts';
import { announceAgainMs, machineRoutesDelayMs, machineRoutesLookMs } from './limits.ts';

export interface AnnouncerOptions {
  informers: InformerFactory;
  netlink: Netlink;
  clock: Clock;
  log: Logger;
  /** Where the addresses that were added are written down. */
  file: string;
  /** This machine's address for others, where it was said. */
  address: string | undefined;
}

/** Addresses that an earlier process, or this one, has added. */
function noted(file: string): string[] {
  const found: unknown = JSON.parse(readIfExists(file) ?? '[]');
  return itemsOf(found).filter((each) => typeof each === 'string');
}

/** On this link, of those that were noted. */
async function present(netlink: Netlink, link: string, addresses: readonly string[]): Promise<string[]> {
  const [links, all] = await Promise.all([netlink.listLinks(), netlink.listAddresses()]);
  const index = links.find(({ name }) => name === link)?.index;
  return all
    .filter(({ linkIndex, address, prefix }) => linkIndex === index && prefix === 32 && addresses.includes(address))
    .map(({ address }) => address);
}

const removal = (link: string, address: string): NetStep => ({
  op: 'deleteAddress',
  link,
  address: `${address}/32`,
  ignore: ['EADDRNOTAVAIL', 'ENODEV'],
});

/** When the platform ends here. */
export async function removeAnnounced(netlink: Netlink, file: string): Promise<void> {
  const addresses = noted(file);
  if (addresses.length === 0) return;
  const links = await netlink.listLinks();
  const all = await netlink.listAddresses();
  const steps = all
    .filter(({ address, prefix }) => prefix === 32 && addresses.includes(address))
    .flatMap(({ address, linkIndex }) =>
      links.filter(({ index }) => index === linkIndex).map(({ name }) => removal(name, address)),
    );
  if (steps.length > 0) await netlink.run([{ steps }]);
  writeFileAtomic(file, '[]');
}

export function runAnnouncer(options: AnnouncerOptions): AsyncDisposable {
  const { informers, netlink, clock, log, file } = options;
  const services = informers.informer(kinds.Service);
  const slices = informers.informer(kinds.EndpointSlice);
  const nodes = informers.informer(kinds.Node);
  const configs = informers.informer(kinds.ConfigMap, {
    namespace: clusterConfig.namespace,
    fieldSelector: `metadata.name=${clusterConfig.name}`,
  });
  const all = [services, slices, nodes, configs];
  let isKnown = false;
  let isClosed = false;
  let timer: Timer | undefined;
  let work: Promise<void> = Promise.resolve();

  const wantedOn = ({ address, prefix }: Underlay): string[] => {
    const pool = parseAddressPool(configs.list()[0]?.data?.['loadBalancerPool']);
    if (pool === undefined) return [];
    const machine = options.address ?? address;
    return planAnnounced({
      services: services.list(),
      slices: slices.list(),
      nodes: nodes.list(),
      pool,
      machine,
      prefix,
    });
  };
  /** What is announced from here now. */
  let held: readonly string[] = [];
  const tell = (link: string, addresses: readonly string[]): void => {
    try {
      for (const address of addresses) if (!isClosed && held.includes(address)) announceAddress(link, address);
    } catch (error) {
      log.warn('the link is not told of addresses', { link, error });
    }
  };
  const sync = async (): Promise<void> => {
    if (!isKnown || (noted(file).length === 0 && (configs.list()[0]?.data?.['loadBalancerPool'] ?? '') === '')) return;
    const underlay = await findUnderlay(netlink, options.address);
    if (underlay === undefined) return;
    const wanted = wantedOn(underlay);
    const before = noted(file);
    const there = await present(netlink, underlay.link, [...before, ...wanted]);
    const added = wanted.filter((address) => !there.includes(address));
    if (added.length > 0) writeFileAtomic(file, JSON.stringify([...new Set([...before, ...wanted])]));
    const steps: NetStep[] = [
      ...there.filter((address) => !wanted.includes(address)).map((address) => removal(underlay.link, address)),
      ...added.map((address): NetStep => ({
        op: 'addAddress',
        link: underlay.link,
        address: `${address}/32`,
        ignore: ['EEXIST'],
      })),
    ];
    if (steps.length > 0) await netlink.run([{ steps }]);
    if (JSON.stringify(wanted) !== JSON.stringify(noted(file))) writeFileAtomic(file, JSON.stringify(wanted));
    if (added.length > 0) log.info('addresses are announced from here', { addresses: added });
    held = wanted;
    tell(underlay.link, wanted);
    // The first may be lost, or be taken for the echo of an older one.
    if (added.length > 0) clock.setTimer(announceAgainMs, () => tell(underlay.link, added), { background: true });
  };
  const look = async (): Promise<void> => {
    if (isClosed) return;
    try {
      await sync();
    } catch (error) {
      log.error('addresses could not be announced', { error });
    }
    schedule(machineRoutesLookMs);
  };
  const schedule = (delayMs: number): void => {
    timer?.cancel();
    if (isClosed) return;
    timer = clock.setTimer(
      delayMs,
      () => {
        work = work.then(look);
      },
      { background: true },
    );
  };
  const soon = (): void => schedule(machineRoutesDelayMs);
  for (const informer of [services, slices, configs])
    informer.addHandler({ added: soon, updated: soon, deleted: soon });
  nodes.addHandler({ added: soon, updated: soon, deleted: soon });
  void Promise.all(all.map((informer) => informer.synced)).then(() => {
    isKnown = true;
    soon();
  });
  return {
    async [Symbol.asyncDispose]() {
      isClosed = true;
      timer?.cancel();
      await whenSettled(work);
    },
  };
}
