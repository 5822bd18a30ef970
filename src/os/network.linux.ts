/** `Netlink`, `Namespaces` and `Nft` by one worker thread, so that their operations keep their order. */
import type { AddressInfo, LinkInfo, Netlink, RouteInfo } from './netlink.ts';
import type { Namespaces } from './namespaces.ts';
import type { Nft } from './nft.ts';
import { startSyscallWorker } from './worker-call.linux.ts';
import type { SyscallWorker } from './worker-call.linux.ts';

export interface NetworkDoor {
  netlink: Netlink;
  namespaces: Namespaces;
  nft: Nft;
  close(): Promise<void>;
}

export function createNetworkDoor(worker: SyscallWorker = startSyscallWorker('network')): NetworkDoor {
  const list = <T>(what: 'links' | 'addresses' | 'routes', namespace?: string): Promise<T> =>
    worker.call('runNetlink', { list: what, ...(namespace === undefined ? {} : { namespace }) }) as Promise<T>;
  return {
    netlink: {
      async run(programs) {
        await worker.call('runNetlink', { programs });
      },
      listLinks: (namespace) => list<LinkInfo[]>('links', namespace),
      listAddresses: (namespace) => list<AddressInfo[]>('addresses', namespace),
      listRoutes: (namespace) => list<RouteInfo[]>('routes', namespace),
    },
    namespaces: {
      create: (request) => worker.call('createNamespaces', request),
      remove: (path) => worker.call('removeNamespace', { path }),
    },
    nft: {
      async run(text, namespace) {
        await worker.call('runNft', { text, ...(namespace === undefined ? {} : { namespace }) });
      },
      list: (text) => worker.call('runNft', { text, json: true }),
    },
    close: () => worker.close(),
  };
}
