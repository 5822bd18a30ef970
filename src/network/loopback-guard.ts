/**
 * Node ports on 127.0.0.1 lead to Pods on other machines, too. For that the kernel must let packets with a loopback
 * source out by the link to those (`route_localnet`), which is the user's: then a neighbour on that link could send to
 * what listens on loopback alone. So a rule that drops such packets stands before the setting is changed, and goes
 * after it. The rule's set names the links that were changed, so that nothing else is changed back.
 */
import { fieldOf, itemsOf } from '#base/unknown.ts';
import { readIfExists } from '#os/files.ts';
import type { Netlink, NetStep } from '#os/netlink.ts';
import type { Nft } from '#os/nft.ts';

export interface LoopbackDoors {
  netlink: Netlink;
  nft: Nft;
  /** nftables table of the guard's own. */
  table: string;
}

const settingOf = (link: string): string => `net/ipv4/conf/${link}/route_localnet`;

/** No-op where it is open already. */
export async function openLoopback({ netlink, nft, table }: LoopbackDoors, link: string): Promise<void> {
  if (readIfExists(`/proc/sys/${settingOf(link)}`)?.trim() !== '0') return;
  await nft.run(`
table ip ${table} {
  set opened { type ifname; }
  chain guard { type filter hook prerouting priority raw; policy accept; }
}
flush chain ip ${table} guard
add rule ip ${table} guard iifname @opened ip daddr 127.0.0.0/8 drop
add element ip ${table} opened { "${link}" }
`);
  await netlink.run([{ steps: [{ op: 'sysctl', path: settingOf(link), value: '1' }] }]);
}

/** All links that were opened, also by a process before. */
export async function closeLoopback({ netlink, nft, table }: LoopbackDoors): Promise<void> {
  const listed = async (what: string): Promise<readonly unknown[]> =>
    itemsOf(fieldOf(JSON.parse(await nft.list(what)), 'nftables'));
  const isThere = (entry: unknown): boolean => {
    const found = fieldOf(entry, 'table');
    return fieldOf(found, 'family') === 'ip' && fieldOf(found, 'name') === table;
  };
  if (!(await listed('list tables')).some(isThere)) return;
  const sets = await listed(`list set ip ${table} opened`);
  const links = sets.flatMap((entry) => itemsOf(fieldOf(fieldOf(entry, 'set'), 'elem'))).map(String);
  await netlink.run([
    { steps: links.map((link): NetStep => ({ op: 'sysctl', path: settingOf(link), value: '0', ignore: ['ENOENT'] })) },
  ]);
  await nft.run(`delete table ip ${table}`);
}
