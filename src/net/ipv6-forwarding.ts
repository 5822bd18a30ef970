/**
 * Forwarding of version 6, which is off on most hosts and has to be on for all links or none. A host that forwards
 * takes no routes from router advertisements any more, unless it is told to: so that it keeps its own, links that take
 * them are told before.
 */
import { listDirectory, readIfExists } from '#os/files.ts';
import type { NetProgram } from '#os/netlink.ts';

const root = '/proc/sys/net/ipv6/conf';

/** Undefined where nothing is to be done. */
export function planIpv6Forwarding(): NetProgram | undefined {
  const isOn = (name: string): boolean => readIfExists(`${root}/${name}/forwarding`)?.trim() === '1';
  if (isOn('all') && isOn('default')) return undefined;
  const listening = listDirectory(root).filter((link) => readIfExists(`${root}/${link}/accept_ra`)?.trim() === '1');
  return {
    steps: [
      ...listening.map((link) => ({
        op: 'sysctl' as const,
        path: `net/ipv6/conf/${link}/accept_ra`,
        value: '2',
        // A link that went meanwhile.
        ignore: ['ENOENT'],
      })),
      { op: 'sysctl', path: 'net/ipv6/conf/default/forwarding', value: '1' },
      { op: 'sysctl', path: 'net/ipv6/conf/all/forwarding', value: '1' },
    ],
  };
}
