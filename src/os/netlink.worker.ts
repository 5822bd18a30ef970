/**
 * rtnetlink(7) inside a worker: turns operations (netlink.ts) into messages, sends each and waits for its
 * acknowledgement. A socket belongs to the namespace in which it was opened, so the thread enters the namespace, works,
 * and comes back.
 */
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { familyOf, ipBytes, ipOfBytes } from '#base/ip.ts';
import { sysctlNamespace } from '#base/sysctls.ts';
import { SystemError, call, cloneFlag } from './libc.linux.ts';
import {
  attribute,
  ipvlanFlag,
  ipvlanMode,
  linkHeader,
  macBytes,
  macvlanMode,
  message,
  messageFlag,
  messageType,
  parseAttributes,
  text,
  u16,
  u16be,
  u32,
  u8,
} from './netlink.ts';
import type { AddressInfo, LinkInfo, NetlinkMessage, NetProgram, NetStep, RouteInfo } from './netlink.ts';

const { request, ack, create, exclusive, replace, dump, append } = messageFlag;
const protocolNumber = { route: 0, netfilter: 12 } as const;
const receiveBuffer = Buffer.alloc(256 * 1024);

class Socket {
  #fd: number;
  #sequence = 1;
  constructor(protocol: number = protocolNumber.route) {
    this.#fd = call('socket', 'netlink', 16, 3 | 0x80000, protocol);
    const extendedAck = u32(1);
    call('setsockopt', 'netlink', this.#fd, 270, 11, extendedAck, 4);
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** Sends one message; the parts of a dump, or nothing for an acknowledgement. */
  exchange(what: string, asked: NetlinkMessage): Buffer[] {
    const sequence = this.#sequence++;
    const bytes = message(sequence, { ...asked, flags: asked.flags | request | ack });
    call('send', what, this.#fd, bytes, bytes.length, 0);
    const parts: Buffer[] = [];
    for (;;) {
      const length = call('recv', what, this.#fd, receiveBuffer, receiveBuffer.length, 0);
      for (let at = 0; at + 16 <= length;) {
        const size = receiveBuffer.readUInt32LE(at);
        const kind = receiveBuffer.readUInt16LE(at + 4);
        if (receiveBuffer.readUInt32LE(at + 8) === sequence) {
          if (kind === 3) return parts;
          if (kind === 2) {
            const code = receiveBuffer.readInt32LE(at + 16);
            if (code !== 0) throw new SystemError('netlink', -code, what);
            if ((asked.flags & dump) !== dump) return parts;
          } else parts.push(Buffer.from(receiveBuffer.subarray(at + 16, at + size)));
        }
        at += (size + 3) & ~3;
      }
    }
  }

  linkIndex(name: string): number {
    const [part] = this.exchange(`link ${name}`, {
      type: messageType.getLink,
      flags: 0,
      header: linkHeader(0),
      attributes: [attribute(3, text(name))],
    });
    if (part === undefined) throw new SystemError('netlink', 19, `link ${name}`);
    return part.readInt32LE(4);
  }
}

/** Runs inside a namespace given by path, with a socket of that namespace. */
function withNamespace<T>(path: string | undefined, run: (socket: Socket) => T): T {
  const home = path === undefined ? -1 : openSync('/proc/thread-self/ns/net', 'r');
  try {
    if (path !== undefined) {
      const target = openSync(path, 'r');
      try {
        call('setns', path, target, cloneFlag.newNet);
      } finally {
        closeSync(target);
      }
    }
    const socket = new Socket();
    try {
      return run(socket);
    } finally {
      socket.close();
    }
  } finally {
    if (home >= 0) {
      call('setns', 'home', home, cloneFlag.newNet);
      closeSync(home);
    }
  }
}

export type NetlinkRequest =
  | { programs: NetProgram[] }
  | { list: 'links' | 'addresses' | 'routes'; namespace?: string };

export function runNetlink(argument: NetlinkRequest): LinkInfo[] | AddressInfo[] | RouteInfo[] | undefined {
  if ('list' in argument)
    return withNamespace(argument.namespace, (socket) =>
      ({ links: listLinks, addresses: listAddresses, routes: listRoutes })[argument.list](socket),
    );
  for (const program of argument.programs) {
    withNamespace(program.namespace, (socket) => {
      for (const step of program.steps) {
        try {
          runStep(socket, step);
        } catch (error) {
          if (step.ignore?.includes((error as { code?: string }).code ?? '') !== true) throw error;
        }
      }
    });
  }
  return undefined;
}

function runStep(socket: Socket, step: NetStep): void {
  switch (step.op) {
    case 'addBridge':
      return addLink(socket, step, 'bridge');
    case 'addDummy':
      return addLink(socket, { name: step.name }, 'dummy');
    case 'addVeth':
      return addVeth(socket, step);
    case 'addMacvlan':
      return addUpperLink(socket, step, 'macvlan', attribute(1, u32(macvlanMode[step.mode])));
    case 'addIpvlan':
      return addUpperLink(
        socket,
        step,
        'ipvlan',
        Buffer.concat([attribute(1, u16(ipvlanMode[step.mode])), attribute(2, u16(ipvlanFlag[step.flag]))]),
      );
    case 'addVlan':
      return addUpperLink(socket, step, 'vlan', attribute(1, u16(step.id)));
    case 'addVxlan':
      return addLink(
        socket,
        step,
        'vxlan',
        Buffer.concat([
          attribute(1, u32(step.id)),
          attribute(4, ipBytes(step.local)),
          attribute(15, u16be(step.port)),
          attribute(7, u8(0)),
        ]),
      );
    case 'setLink':
      return setLink(socket, step);
    case 'deleteLink':
      socket.exchange(`delete ${step.name}`, {
        type: messageType.delLink,
        flags: 0,
        header: linkHeader(0),
        attributes: [attribute(3, text(step.name))],
      });
      return;
    case 'addAddress':
      return changeAddress(socket, step, messageType.newAddress, create | exclusive);
    case 'deleteAddress':
      return changeAddress(socket, step, messageType.delAddress, 0);
    case 'addRoute':
      return changeRoute(
        socket,
        step,
        messageType.newRoute,
        step.replace === true ? create | replace : create | exclusive,
      );
    case 'deleteRoute':
      return changeRoute(socket, step, messageType.delRoute, 0);
    case 'addNeighbour':
      return changeNeighbour(
        socket,
        step,
        messageType.newNeighbour,
        step.forwarding === true ? create | append : create | replace,
      );
    case 'deleteNeighbour':
      return changeNeighbour(socket, step, messageType.delNeighbour, 0);
    case 'forgetUdpFlows':
      return forgetUdpFlows(new Set(step.ports));
    case 'sysctl':
      writeNetworkSysctl(step.path, step.value);
      return;
  }
}

/** Of this namespace's network: names of links are part of the path, and some of them are a user's. */
function writeNetworkSysctl(path: string, value: string): void {
  if (!path.startsWith('net/') || sysctlNamespace(path) !== 'network')
    throw new Error(`sysctl "${path}" is not one of the network's`);
  writeFileSync(`/proc/sys/${path}`, value);
}

const linkAttribute = {
  address: 1,
  name: 3,
  mtu: 4,
  parent: 5,
  master: 10,
  info: 18,
  namespaceFd: 28,
  protocolInfo: 12,
  alias: 20,
} as const;

function addLink(
  socket: Socket,
  { name, mac, mtu }: { name: string; mac?: string; mtu?: number },
  kind: string,
  data?: Buffer,
): void {
  const attributes = [
    attribute(linkAttribute.name, text(name)),
    attribute(linkAttribute.info, attribute(1, text(kind)), ...(data === undefined ? [] : [attribute(2, data)])),
  ];
  if (mac !== undefined) attributes.push(attribute(linkAttribute.address, macBytes(mac)));
  if (mtu !== undefined) attributes.push(attribute(linkAttribute.mtu, u32(mtu)));
  socket.exchange(`add ${kind} ${name}`, {
    type: messageType.newLink,
    flags: create | exclusive,
    header: linkHeader(0),
    attributes,
  });
}

interface UpperLink {
  name: string;
  parent: string;
  mac?: string;
  mtu?: number;
  index?: number;
  namespace?: string;
}

function addUpperLink(socket: Socket, step: UpperLink, kind: string, data: Buffer): void {
  const target = step.namespace === undefined ? -1 : openSync(step.namespace, 'r');
  try {
    const attributes = [
      attribute(linkAttribute.name, text(step.name)),
      attribute(linkAttribute.parent, u32(socket.linkIndex(step.parent))),
      attribute(linkAttribute.info, attribute(1, text(kind)), attribute(2, data)),
    ];
    if (step.mac !== undefined) attributes.push(attribute(linkAttribute.address, macBytes(step.mac)));
    if (step.mtu !== undefined) attributes.push(attribute(linkAttribute.mtu, u32(step.mtu)));
    if (target >= 0) attributes.push(attribute(linkAttribute.namespaceFd, u32(target)));
    socket.exchange(`add ${kind} ${step.name}`, {
      type: messageType.newLink,
      flags: create | exclusive,
      header: linkHeader(step.index ?? 0),
      attributes,
    });
  } finally {
    if (target >= 0) closeSync(target);
  }
}

function addVeth(socket: Socket, step: Extract<NetStep, { op: 'addVeth' }>): void {
  const target = step.peer.namespace === undefined ? -1 : openSync(step.peer.namespace, 'r');
  try {
    const peer = [linkHeader(step.peer.index ?? 0), attribute(linkAttribute.name, text(step.peer.name))];
    if (step.peer.mac !== undefined) peer.push(attribute(linkAttribute.address, macBytes(step.peer.mac)));
    if (step.mtu !== undefined) peer.push(attribute(linkAttribute.mtu, u32(step.mtu)));
    if (target >= 0) peer.push(attribute(linkAttribute.namespaceFd, u32(target)));
    const attributes = [
      attribute(linkAttribute.name, text(step.name)),
      attribute(linkAttribute.info, attribute(1, text('veth')), attribute(2, attribute(1, ...peer))),
    ];
    if (step.mac !== undefined) attributes.push(attribute(linkAttribute.address, macBytes(step.mac)));
    if (step.mtu !== undefined) attributes.push(attribute(linkAttribute.mtu, u32(step.mtu)));
    if (step.master !== undefined) attributes.push(attribute(linkAttribute.master, u32(socket.linkIndex(step.master))));
    socket.exchange(`add veth ${step.name}`, {
      type: messageType.newLink,
      flags: create | exclusive,
      header: linkHeader(0, 1, 1),
      attributes,
    });
  } finally {
    if (target >= 0) closeSync(target);
  }
}

function setLink(socket: Socket, step: Extract<NetStep, { op: 'setLink' }>): void {
  const index = socket.linkIndex(step.name);
  const target = step.namespace === undefined ? -1 : openSync(step.namespace, 'r');
  try {
    const attributes: Buffer[] = [];
    if (step.newName !== undefined) attributes.push(attribute(linkAttribute.name, text(step.newName)));
    if (step.mac !== undefined) attributes.push(attribute(linkAttribute.address, macBytes(step.mac)));
    if (step.mtu !== undefined) attributes.push(attribute(linkAttribute.mtu, u32(step.mtu)));
    if (step.master !== undefined) attributes.push(attribute(linkAttribute.master, u32(socket.linkIndex(step.master))));
    if (step.alias !== undefined) attributes.push(attribute(linkAttribute.alias, Buffer.from(step.alias)));
    if (step.noMaster === true) attributes.push(attribute(linkAttribute.master, u32(0)));
    if (target >= 0) attributes.push(attribute(linkAttribute.namespaceFd, u32(target)));
    const flags = step.up === true ? 1 : 0;
    socket.exchange(`set ${step.name}`, {
      type: messageType.newLink,
      flags: 0,
      header: linkHeader(index, flags, step.up === undefined ? 0 : 1),
      attributes,
    });
    const port = [
      ...(step.hairpin === undefined ? [] : [attribute(4, u8(step.hairpin ? 1 : 0))]),
      ...(step.isolated === undefined ? [] : [attribute(33, u8(step.isolated ? 1 : 0))]),
    ];
    if (port.length > 0)
      socket.exchange(`bridge port ${step.name}`, {
        type: messageType.setLink,
        flags: 0,
        header: linkHeader(index, 0, 0, 7),
        attributes: [attribute(linkAttribute.protocolInfo | 0x8000, ...port)],
      });
  } finally {
    if (target >= 0) closeSync(target);
  }
}

const scopeNumber = { global: 0, link: 253, host: 254 } as const;

function changeAddress(
  socket: Socket,
  step: { link: string; address: string; broadcast?: string; scope?: keyof typeof scopeNumber },
  type: number,
  flags: number,
): void {
  const { bytes, length } = prefixOf(step.address);
  const header = Buffer.alloc(8);
  header.writeUInt8(bytes.length === 4 ? 2 : 10, 0);
  header.writeUInt8(length, 1);
  header.writeUInt8(bytes.length === 4 ? 0 : 2, 2);
  header.writeUInt8(scopeNumber[step.scope ?? 'global'], 3);
  header.writeUInt32LE(socket.linkIndex(step.link), 4);
  const attributes = [attribute(2, bytes), attribute(1, bytes)];
  if (step.broadcast !== undefined) attributes.push(attribute(4, ipBytes(step.broadcast)));
  socket.exchange(`address ${step.address} on ${step.link}`, { type, flags, header, attributes });
}

/** `10.0.0.1/24`, or one address alone. */
function prefixOf(text: string): { bytes: Uint8Array; length: number } {
  const [address = '', length] = text.split('/');
  const bytes = ipBytes(address);
  return { bytes, length: length === undefined ? bytes.length * 8 : Number(length) };
}

function changeRoute(
  socket: Socket,
  step: {
    destination: string;
    link?: string;
    via?: string;
    source?: string;
    scope?: keyof typeof scopeNumber;
    onLink?: boolean;
    metric?: number;
    kind?: string;
  },
  type: number,
  flags: number,
): void {
  const any = step.destination === 'default';
  const { bytes, length } = prefixOf(
    any ? (familyOf(step.via ?? '') === 'IPv6' ? '::/0' : '0.0.0.0/0') : step.destination,
  );
  const header = Buffer.alloc(12);
  header.writeUInt8(bytes.length === 4 ? 2 : 10, 0);
  header.writeUInt8(length, 1);
  header.writeUInt8(254, 4);
  header.writeUInt8(type === messageType.delRoute ? 0 : 3, 5);
  const scope = step.scope ?? (step.via === undefined && step.kind !== 'blackhole' ? 'link' : 'global');
  header.writeUInt8(type === messageType.delRoute ? 255 : scopeNumber[scope], 6);
  header.writeUInt8(step.kind === 'blackhole' ? 6 : type === messageType.delRoute ? 0 : 1, 7);
  header.writeUInt32LE(step.onLink === true ? 4 : 0, 8);
  const attributes: Buffer[] = [];
  if (!any) attributes.push(attribute(1, bytes));
  if (step.via !== undefined) attributes.push(attribute(5, ipBytes(step.via)));
  if (step.source !== undefined) attributes.push(attribute(7, ipBytes(step.source)));
  if (step.link !== undefined) attributes.push(attribute(4, u32(socket.linkIndex(step.link))));
  if (step.metric !== undefined) attributes.push(attribute(6, u32(step.metric)));
  socket.exchange(`route ${step.destination}`, { type, flags, header, attributes });
}

function changeNeighbour(
  socket: Socket,
  step: { link: string; address: string; mac?: string; forwarding?: boolean },
  type: number,
  flags: number,
): void {
  const bytes = ipBytes(step.address);
  const header = Buffer.alloc(12);
  header.writeUInt8(step.forwarding === true ? 7 : bytes.length === 4 ? 2 : 10, 0);
  header.writeInt32LE(socket.linkIndex(step.link), 4);
  header.writeUInt16LE(0x80, 8);
  header.writeUInt8(step.forwarding === true ? 2 : 0, 10);
  const attributes = [attribute(1, bytes)];
  if (step.mac !== undefined) attributes.push(attribute(2, macBytes(step.mac)));
  socket.exchange(`neighbour ${step.address} on ${step.link}`, { type, flags, header, attributes });
}

/** Message types of connection tracking (nfnetlink_conntrack): subsystem 1. */
const flowMessage = { get: 0x101, delete: 0x102 } as const;
const udp = 17;

function forgetUdpFlows(ports: Set<number>): void {
  const socket = new Socket(protocolNumber.netfilter);
  try {
    for (const family of [2, 10]) forgetFlowsOf(socket, Buffer.from([family, 0, 0, 0]), ports);
  } finally {
    socket.close();
  }
}

function forgetFlowsOf(socket: Socket, header: Buffer, ports: Set<number>): void {
  for (const part of socket.exchange('flows', { type: flowMessage.get, flags: dump, header })) {
    const tuple = parseAttributes(part.subarray(header.length)).get(1);
    const protocol = parseAttributes(parseAttributes(tuple ?? Buffer.alloc(0)).get(2) ?? Buffer.alloc(0));
    if (tuple === undefined || protocol.get(1)?.[0] !== udp || !ports.has(protocol.get(3)?.readUInt16BE(0) ?? 0))
      continue;
    try {
      socket.exchange('a flow', {
        type: flowMessage.delete,
        flags: 0,
        header,
        attributes: [attribute(1 | 0x8000, tuple)],
      });
    } catch (error) {
      if ((error as { code?: string }).code !== 'ENOENT') throw error;
    }
  }
}

function listLinks(socket: Socket): LinkInfo[] {
  return socket.exchange('links', { type: messageType.getLink, flags: dump, header: linkHeader(0) }).map((part) => {
    const found = parseAttributes(part.subarray(16));
    const info = found.get(linkAttribute.info);
    const kind = info === undefined ? '' : (parseAttributes(info).get(1)?.toString().replace(/\0.*$/s, '') ?? '');
    return {
      index: part.readInt32LE(4),
      up: (part.readUInt32LE(8) & 1) === 1,
      kind,
      name: found.get(linkAttribute.name)?.toString().replace(/\0.*$/s, '') ?? '',
      mac:
        found
          .get(linkAttribute.address)
          ?.toString('hex')
          .replace(/(..)(?=.)/g, '$1:') ?? '',
      mtu: found.get(linkAttribute.mtu)?.readUInt32LE(0) ?? 0,
      master: found.get(linkAttribute.master)?.readUInt32LE(0) ?? 0,
      alias: found.get(linkAttribute.alias)?.toString().replace(/\0.*$/s, '') ?? '',
    };
  });
}

function listAddresses(socket: Socket): AddressInfo[] {
  return socket
    .exchange('addresses', { type: messageType.getAddress, flags: dump, header: Buffer.alloc(8) })
    .map((part) => {
      const found = parseAttributes(part.subarray(8));
      return {
        linkIndex: part.readUInt32LE(4),
        prefix: part.readUInt8(1),
        address: ipOfBytes(found.get(2) ?? found.get(1) ?? Buffer.alloc(4)),
      };
    });
}

function listRoutes(socket: Socket): RouteInfo[] {
  return socket
    .exchange('routes', { type: messageType.getRoute, flags: dump, header: Buffer.alloc(12) })
    .flatMap((part) => {
      const family = ({ 2: 'IPv4', 10: 'IPv6' } as const)[part.readUInt8(0)];
      if (family === undefined) return [];
      const found = parseAttributes(part.subarray(12));
      const destination = found.get(1);
      const via = found.get(5);
      return [
        {
          family,
          destination: destination === undefined ? 'default' : `${ipOfBytes(destination)}/${part.readUInt8(1)}`,
          via: via === undefined ? '' : ipOfBytes(via),
          linkIndex: found.get(4)?.readUInt32LE(0) ?? 0,
          table: part.readUInt8(4),
        },
      ];
    });
}
