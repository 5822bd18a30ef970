/**
 * Names of everything that an instance puts into the kernel. All carry the instance's id, so that several instances
 * live side by side and
 * `removeAllOf` finds what is its own by name alone.
 */
import { ipBytes } from '#base/ip.ts';
import { linkNameLengthMax } from './limits.ts';

/** `tph1a2b`: what every link of an instance begins with. */
export function linkPrefix(instanceId: string): string {
  return `tph${instanceId}`;
}

/**
 * `b` bridge, `v` host side of a container's veth, `p` host side of a Pod's veth, `n` the node's own address in its Pod
 * range, `x` VXLAN to other machines.
 */
export function linkName(instanceId: string, kind: 'b' | 'v' | 'p' | 'n' | 'x', id: string): string {
  return `${linkPrefix(instanceId)}${kind}${id}`.slice(0, linkNameLengthMax);
}

/** What stands on a link (ifalias) whose name the instance has not chosen. */
export function linkMark(instanceId: string): string {
  return `tiphys ${instanceId}`;
}

export function tableName(instanceId: string): string {
  return `tiphys_${instanceId}`;
}
/** `top` is where this program may make groups: `Cgroups.top`. */
export function cgroupRoot(instanceId: string, top: string): string {
  return `${top}/tiphys_${instanceId}`;
}
/** conmon processes, which must not end with the platform's own. */
export function monitorsCgroup(instanceId: string, top: string): string {
  return `${cgroupRoot(instanceId, top)}/monitors`;
}

/** A stable local MAC address for an address, as docker derived it: from the last four bytes. */
export function macOfIp(ip: string): string {
  return macOfBytes(ipBytes(ip).slice(-4));
}

/** Of four bytes, by which local addresses differ. */
export function macOfBytes(bytes: Uint8Array): string {
  return Buffer.from([0x02, 0x42, ...bytes])
    .toString('hex')
    .replace(/..(?=.)/g, '$&:');
}
