/**
 * Tells the neighbours on a link that an address is here (RFC 5227, "ARP announcement"): whoever knows it already takes
 * the new hardware address, others answer nothing.
 */
import { readFileSync } from 'node:fs';
import { ipBytes } from '#base/ip.ts';
import { call, tryCall } from './libc.linux.ts';

const packetFamily = 17;
const rawType = 3;
const closeOnExec = 0o2000000;
const arpProtocol = 0x0806;
const broadcast = Buffer.alloc(6, 0xff);

/** Of IPv4, on an Ethernet link of this network namespace. Throws a SystemError where the link is gone. */
export function announceAddress(link: string, address: string): void {
  const mac = Buffer.from(readFileSync(`/sys/class/net/${link}/address`, 'utf8').trim().replaceAll(':', ''), 'hex');
  if (mac.length !== 6) return;
  const index = call('if_nametoindex', link, link);
  const descriptor = call('socket', link, packetFamily, rawType | closeOnExec, 0);
  try {
    // struct sockaddr_ll: family, protocol, index, and what is not needed.
    const at = Buffer.alloc(20);
    at.writeUInt16LE(packetFamily, 0);
    at.writeUInt16BE(arpProtocol, 2);
    at.writeInt32LE(index, 4);
    call('bind', link, descriptor, at, at.length);
    const frame = frameOf(mac, ipBytes(address));
    call('send', link, descriptor, frame, frame.length, 0);
  } finally {
    tryCall('close', descriptor);
  }
}

/** A request for its own address (RFC 826; Ethernet, IPv4). */
function frameOf(mac: Uint8Array, ip: Uint8Array): Uint8Array {
  const head = Buffer.from('080600010800060400' + '01', 'hex');
  return Buffer.concat([broadcast, mac, head, mac, ip, Buffer.alloc(6), ip]);
}
