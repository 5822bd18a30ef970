/**
 * Links, addresses, routes and neighbours, as operations that are carried out by rtnetlink messages (rtnetlink(7)) in a
 * named network namespace. Operations are data; `Netlink.run` carries out a list in order and stops at the first that
 * fails.
 *
 * An operation that finds its work done (adding what is there, deleting what is not) succeeds only where it says
 * `ignore`.
 */
export type NetOperation =
  | { op: 'addBridge'; name: string; mac?: string; mtu?: number }
  | { op: 'addDummy'; name: string }
  | {
      op: 'addVeth';
      name: string;
      mac?: string;
      mtu?: number;
      master?: string;
      peer: {
        name: string;
        mac?: string;
        index?: number;
        /** Path of a pinned network namespace. */ namespace?: string;
      };
    }
  /** A link on top of another of this namespace, made in the other one where `namespace` says so. */
  | {
      op: 'addMacvlan';
      name: string;
      parent: string;
      mode: keyof typeof macvlanMode;
      mac?: string;
      mtu?: number;
      index?: number;
      namespace?: string;
    }
  | {
      op: 'addIpvlan';
      name: string;
      parent: string;
      mode: keyof typeof ipvlanMode;
      flag: keyof typeof ipvlanFlag;
      mtu?: number;
      index?: number;
      namespace?: string;
    }
  | { op: 'addVlan'; name: string; parent: string; id: number }
  | { op: 'addVxlan'; name: string; id: number; port: number; local: string; mac?: string; mtu?: number }
  | {
      op: 'setLink';
      name: string;
      up?: boolean;
      master?: string;
      noMaster?: boolean;
      mac?: string;
      mtu?: number;
      newName?: string;
      namespace?: string;
      hairpin?: boolean;
      /** Of a bridge's port: it does not reach other isolated ports. */ isolated?: boolean;
      /** A text on the link (ifalias). */ alias?: string;
    }
  | { op: 'deleteLink'; name: string }
  /** `address` with prefix length, e.g. `172.17.0.1/16`. */
  | { op: 'addAddress'; link: string; address: string; broadcast?: string; scope?: 'global' | 'link' | 'host' }
  | { op: 'deleteAddress'; link: string; address: string }
  /** `destination` is `default` or a prefix. */
  | {
      op: 'addRoute';
      destination: string;
      link?: string;
      via?: string;
      source?: string;
      scope?: 'global' | 'link';
      onLink?: boolean;
      replace?: boolean;
      metric?: number;
      kind?: 'unicast' | 'blackhole';
    }
  | { op: 'deleteRoute'; destination: string; link?: string; via?: string }
  /** `forwarding`: an entry of a VXLAN's forwarding table (mac → remote address) instead of a neighbour. */
  | { op: 'addNeighbour'; link: string; address: string; mac: string; forwarding?: boolean }
  | { op: 'deleteNeighbour'; link: string; address: string; mac?: string; forwarding?: boolean }
  /** A file below /proc/sys, as seen from the namespace. A missing file is an error. */
  /** The kernel forgets the flows to these UDP ports, so that the next packet of each goes by the rules of now. */
  | { op: 'forgetUdpFlows'; ports: number[] }
  | { op: 'sysctl'; path: string; value: string };

/** As the kernel numbers them (linux/if_link.h). */
export const macvlanMode = { private: 1, vepa: 2, bridge: 4, passthru: 8 } as const;
export const ipvlanMode = { l2: 0, l3: 1, l3s: 2 } as const;
export const ipvlanFlag = { bridge: 0, private: 1, vepa: 2 } as const;

export type NetStep = NetOperation & { /** Codes that count as success. */ ignore?: string[] };

export interface NetProgram {
  /** Path of a pinned network namespace; absent: the host's. */ namespace?: string;
  steps: NetStep[];
}

export interface LinkInfo {
  index: number;
  name: string;
  up: boolean;
  mac: string;
  mtu: number;
  master: number;
  kind: string;
  /** The text on the link; empty without one. */ alias: string;
}
export interface AddressInfo {
  linkIndex: number;
  address: string;
  prefix: number;
}
export interface RouteInfo {
  family: 'IPv4' | 'IPv6';
  destination: string;
  via: string;
  linkIndex: number;
  table: number;
}

export interface Netlink {
  run(programs: NetProgram[]): Promise<void>;
  listLinks(namespace?: string): Promise<LinkInfo[]>;
  listAddresses(namespace?: string): Promise<AddressInfo[]>;
  listRoutes(namespace?: string): Promise<RouteInfo[]>;
}

/* Message encoding: struct nlmsghdr, family headers and attributes (netlink(7)). */

export const messageType = {
  newLink: 16,
  delLink: 17,
  getLink: 18,
  setLink: 19,
  newAddress: 20,
  delAddress: 21,
  getAddress: 22,
  newRoute: 24,
  delRoute: 25,
  getRoute: 26,
  newNeighbour: 28,
  delNeighbour: 29,
} as const;
export const messageFlag = {
  request: 1,
  multi: 2,
  ack: 4,
  replace: 0x100,
  exclusive: 0x200,
  dump: 0x300,
  create: 0x400,
  append: 0x800,
} as const;

/** struct rtattr: length, type, payload, padded to four bytes. */
export function attribute(type: number, ...payload: Uint8Array[]): Buffer {
  const body = Buffer.concat(payload);
  const out = Buffer.alloc((4 + body.length + 3) & ~3);
  out.writeUInt16LE(4 + body.length, 0);
  out.writeUInt16LE(type, 2);
  body.copy(out, 4);
  return out;
}

export function u32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32LE(value >>> 0);
  return out;
}

export function u16(value: number): Buffer {
  const out = Buffer.alloc(2);
  out.writeUInt16LE(value);
  return out;
}

export function u16be(value: number): Buffer {
  const out = Buffer.alloc(2);
  out.writeUInt16BE(value);
  return out;
}
export function u8(value: number): Buffer {
  return Buffer.from([value]);
}
export function text(value: string): Buffer {
  return Buffer.from(`${value}\0`);
}
export function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(':', ''), 'hex');
}

export interface NetlinkMessage {
  type: number;
  flags: number;
  /** The structure that this type begins with. */
  header: Uint8Array;
  attributes?: readonly Uint8Array[];
}

/** struct nlmsghdr and what follows it. */
export function message(sequence: number, { type, flags, header, attributes = [] }: NetlinkMessage): Buffer {
  const body = Buffer.concat([header, ...attributes]);
  const out = Buffer.alloc(16 + body.length);
  out.writeUInt32LE(out.length, 0);
  out.writeUInt16LE(type, 4);
  out.writeUInt16LE(flags, 6);
  out.writeUInt32LE(sequence, 8);
  body.copy(out, 16);
  return out;
}

/** struct ifinfomsg. */
export function linkHeader(index: number, flags = 0, change = 0, family = 0): Buffer {
  const out = Buffer.alloc(16);
  out.writeUInt8(family, 0);
  out.writeInt32LE(index, 4);
  out.writeUInt32LE(flags, 8);
  out.writeUInt32LE(change, 12);
  return out;
}

/** Attributes of a message body, by type. */
export function parseAttributes(bytes: Buffer): Map<number, Buffer> {
  const out = new Map<number, Buffer>();
  for (let at = 0; at + 4 <= bytes.length;) {
    const length = bytes.readUInt16LE(at);
    if (length < 4 || at + length > bytes.length) break;
    out.set(bytes.readUInt16LE(at + 2) & 0x3fff, bytes.subarray(at + 4, at + length));
    at += (length + 3) & ~3;
  }
  return out;
}
