/**
 * What macvlan and ipvlan networks stand on: the link of the host that their options name, a VLAN of one, or a link of
 * the instance's own. Source: moby 28, `libnetwork/drivers/macvlan`, `libnetwork/drivers/ipvlan`.
 */
import { ApiError } from '#base/errors.ts';
import { codeOf, messageOf } from '#base/thrown.ts';
import { linkMark, linkName } from '#net/kernel-names.ts';
import { planParent, type UpperKind } from '#net/parent-links.ts';
import type { EngineContext } from './context.ts';
import { isLinkName } from './network-options.ts';
import type { NetworkRecord } from './network-record.ts';

export interface Parent {
  link: string;
  /** The instance has made it, and takes it away with the last network on it. */
  isOwn: boolean;
}

type Options = Readonly<Record<string, string>>;

function refuse(message: string): never {
  throw new ApiError('InternalError', message);
}

const macvlanModes = ['bridge', 'private', 'vepa', 'passthru'] as const;
const ipvlanModes = ['l2', 'l3', 'l3s'] as const;
const ipvlanFlags = ['bridge', 'private', 'vepa'] as const;

/** Throws where a mode is none. */
export function upperKindOf(driver: 'macvlan' | 'ipvlan', options: Options): UpperKind {
  if (driver === 'macvlan') {
    const text = options['macvlan_mode'] || 'bridge';
    const mode = macvlanModes.find((name) => name === text);
    if (mode === undefined)
      refuse(`requested macvlan mode '${text}' is not valid, 'bridge' mode is the macvlan driver default`);
    return { driver, mode };
  }
  const [modeText, flagText] = [options['ipvlan_mode'] || 'l2', options['ipvlan_flag'] || 'bridge'];
  const mode = ipvlanModes.find((name) => name === modeText);
  if (mode === undefined)
    refuse(`requested ipvlan mode '${modeText}' is not valid, 'l2' mode is the ipvlan driver default`);
  const flag = ipvlanFlags.find((name) => name === flagText);
  if (flag === undefined)
    refuse(`requested ipvlan flag '${flagText}' is not valid, 'bridge' is the ipvlan driver default`);
  return { driver, mode, flag };
}

/** Finds the parent, or makes it. */
export async function openParent(
  context: EngineContext,
  record: NetworkRecord,
  others: readonly NetworkRecord[],
): Promise<Parent> {
  const asked = record.options['parent'] ?? '';
  const { driver } = record;
  if (driver !== 'macvlan' && driver !== 'ipvlan') throw new Error(`no parent for ${driver}`);
  const kind = upperKindOf(driver, record.options);
  if (asked === 'lo') refuse(`loopback interface is not a valid ${driver} parent link`);
  const link = asked === '' ? linkName(context.instanceId, 'b', record.id) : asked;
  checkSharing(record, kind, link, others);
  const links = await context.os.netlink.listLinks();
  const found = links.find(({ name }) => name === link);
  if (found !== undefined) return { link, isOwn: found.alias === linkMark(context.instanceId) };
  const vlan = asked === '' ? undefined : parseVlan(asked, (name) => links.some((other) => other.name === name));
  await context.os.netlink.run([planParent(link, vlan, linkMark(context.instanceId))]).catch((error: unknown) => {
    refuse(`failed to create ${link} ${vlan === undefined ? 'parent' : 'vlan'} link: ${reasonOf(error)}`);
  });
  return { link, isOwn: true };
}

/** A link has one network of ipvlan, or many of macvlan unless one of them wants it for itself. */
function checkSharing(record: NetworkRecord, kind: UpperKind, link: string, others: readonly NetworkRecord[]): void {
  for (const other of others) {
    if (other.id === record.id || other.parent?.link !== link || other.driver !== kind.driver) continue;
    if (other.driver === 'ipvlan')
      refuse(`network di-${other.id.slice(0, 12)} is already using parent interface ${link}`);
    if (kind.mode === 'passthru')
      refuse(`cannot use mode passthru, macvlan network ${other.id} is already using parent interface ${link}`);
    if (upperKindOf('macvlan', other.options).mode === 'passthru')
      refuse(`macvlan network ${other.id} is already using parent interface ${link} in mode passthru`);
  }
}

/** `eth0.10`: a VLAN of `eth0`. */
function parseVlan(name: string, isThere: (link: string) => boolean): { parent: string; id: number } {
  if (!name.includes('.')) refuse(`invalid subinterface vlan name ${name}, example formatting is eth0.10`);
  const [parent = '', text = '', ...more] = name.split('.');
  if (more.length > 0)
    refuse(`required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received ${name}`);
  if (!/^\d+$/.test(text)) refuse(`unable to parse a valid vlan id from: ${text} (ex. eth0.10 for vlan 10)`);
  if (!isLinkName(name) || !isThere(parent)) refuse(`-o parent interface was not found on the host: ${parent}`);
  const id = Number(text);
  if (id > 4094 || id < 1) refuse(`vlan id must be between 1-4094, received: ${id}`);
  return { parent, id };
}

export async function closeParent(
  context: EngineContext,
  record: NetworkRecord,
  others: readonly NetworkRecord[],
): Promise<void> {
  const { parent } = record;
  if (parent?.isOwn !== true) return;
  if (others.some((other) => other.id !== record.id && other.parent?.link === parent.link)) return;
  await context.os.netlink.run([{ steps: [{ op: 'deleteLink', name: parent.link, ignore: ['ENODEV'] }] }]);
}

/** What is wrong when a container's link on top of the parent cannot be made; anything else is thrown as it is. */
export function explainUpperLink(error: unknown): never {
  const kind = /^netlink add (macvlan|ipvlan) /.exec(messageOf(error))?.[1];
  if (kind === undefined) throw error;
  refuse(`failed to set up container networking: failed to create the ${kind} port: ${reasonOf(error)}`);
}

const reasons: Readonly<Record<string, string>> = {
  EBUSY: 'device or resource busy',
  EEXIST: 'file exists',
  EINVAL: 'invalid argument',
  ENODEV: 'no such device',
  EOPNOTSUPP: 'operation not supported',
  EPERM: 'operation not permitted',
};

/** The kernel's reason in Go's words. */
function reasonOf(error: unknown): string {
  const code = codeOf(error) ?? messageOf(error);
  return reasons[code] ?? code;
}
