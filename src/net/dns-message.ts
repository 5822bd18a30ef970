/**
 * DNS messages as servers need them: one question in, an answer out that fits. Names are compressed against the
 * question and against each other; what does not fit is left out record by record and marked (TC), so that a client
 * that does not come back by TCP still has something.
 * Sources: RFC 1035 (4.1, 4.1.4), RFC 2181 (9: what is left out of the additional section needs no mark), RFC 6891
 * (EDNS), RFC 2782 (SRV targets are not compressed).
 */
import dnsPacket from 'dns-packet';
import { dnsUdpBytesMax } from './limits.ts';

export const dnsCode = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 } as const;
export type DnsCode = keyof typeof dnsCode;
export const dnsFlag = {
  response: 0x8000,
  authoritative: 0x0400,
  truncated: 0x0200,
  recursionDesired: 0x0100,
  recursionAvailable: 0x0080,
} as const;

/** Types that servers here know by name; others are numbers, `TYPE99` (RFC 3597). */
const typeNumbers: Readonly<Record<string, number>> = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  ANY: 255,
};
const typeNames = new Map(Object.entries(typeNumbers).map(([name, number]) => [number, name]));

const headerBytes = 12;
const optType = 41;
const nameBytesMax = 255;
const plainUdpBytes = 512;
/** Root name, type, size, extended code and flags, no options. */
const optBytes = 11;

export interface DnsQuestion {
  id: number;
  flags: number;
  /** Labels with dots between; a dot or backslash inside a label is escaped. In the asker's own case. */
  name: string;
  /** `A`, `SRV`, …; `TYPE99` for others. */
  type: string;
  /** The question section as it came. */
  bytes: Buffer;
  /** The asker speaks EDNS, so the answer must. */
  edns: boolean;
  /** What an answer over UDP may have. */
  udpBytesMax: number;
}

export interface DnsRecord {
  name: string;
  type: string;
  ttl?: number | undefined;
  data: unknown;
}
export interface DnsAnswer {
  code: DnsCode;
  /** `dnsFlag`s. */
  flags: number;
  answers: readonly DnsRecord[];
  authorities?: readonly DnsRecord[];
  additionals?: readonly DnsRecord[];
}

/** The end of the name at `start`, without following pointers; undefined when it is none. */
function skipName(message: Buffer, start: number): number | undefined {
  for (let bytes = 0, at = start; at < message.length;) {
    const length = message[at]!;
    if (length === 0) return at + 1;
    if ((length & 0xc0) === 0xc0) return at + 2 <= message.length ? at + 2 : undefined;
    if ((length & 0xc0) !== 0 || (bytes += length + 1) > nameBytesMax) return undefined;
    at += length + 1;
  }
  return undefined;
}

/** The end of the record at `at`. */
function skipRecord(message: Buffer, at: number): number | undefined {
  const named = skipName(message, at);
  if (named === undefined || named + 10 > message.length) return undefined;
  const end = named + 10 + message.readUInt16BE(named + 8);
  return end <= message.length ? end : undefined;
}

function readLabels(message: Buffer, start: number, end: number): string | undefined {
  const labels: string[] = [];
  let at = start;
  while (at < end && message[at] !== 0) {
    const length = message[at]!;
    if ((length & 0xc0) !== 0) return undefined;
    labels.push(message.toString('latin1', at + 1, at + 1 + length).replace(/[.\\]/g, '\\$&'));
    at += length + 1;
  }
  return labels.join('.');
}

/** One ordinary question; else the code that it is answered with, or undefined for what is no query at all. */
export function parseDnsQuery(message: Buffer): DnsQuestion | DnsCode | undefined {
  if (message.length < headerBytes) return undefined;
  const flags = message.readUInt16BE(2);
  if ((flags & dnsFlag.response) !== 0) return undefined;
  if ((flags & 0x7800) !== 0) return 'NOTIMP';
  const named = skipName(message, headerBytes);
  if (message.readUInt16BE(4) !== 1 || named === undefined || named + 4 > message.length) return 'FORMERR';
  const name = readLabels(message, headerBytes, named);
  if (name === undefined) return 'FORMERR';
  const question: DnsQuestion = {
    id: message.readUInt16BE(0),
    flags,
    name,
    type: typeNames.get(message.readUInt16BE(named)) ?? `TYPE${message.readUInt16BE(named)}`,
    bytes: Buffer.from(message.subarray(headerBytes, named + 4)),
    edns: false,
    udpBytesMax: plainUdpBytes,
  };
  let at: number | undefined = named + 4;
  // A query has next to nothing behind its question: more than a few records are not looked through.
  const records = Math.min(4, message.readUInt16BE(6) + message.readUInt16BE(8) + message.readUInt16BE(10));
  for (let left = records; left > 0 && at !== undefined; left--) {
    const next: number | undefined = skipRecord(message, at);
    if (next !== undefined && message[at] === 0 && message.readUInt16BE(at + 1) === optType)
      Object.assign(question, {
        edns: true,
        udpBytesMax: Math.min(dnsUdpBytesMax, Math.max(plainUdpBytes, message.readUInt16BE(at + 3))),
      });
    at = next;
  }
  return question;
}

/** Builds a message and knows where each name was written. */
class Writer {
  readonly #parts: Buffer[] = [];
  readonly #names = new Map<string, number>();
  length = 0;

  add(bytes: Buffer): void {
    this.#parts.push(bytes);
    this.length += bytes.length;
  }

  /** Remembers the names at and below the one that begins here. */
  note(labels: readonly string[], start: number): void {
    let at = start;
    for (let i = 0; i < labels.length; i++) {
      const key = labels.slice(i).join('.').toLowerCase();
      if (at < 0x4000 && !this.#names.has(key)) this.#names.set(key, at);
      at += labelBytes(labels[i]!).length + 1;
    }
  }

  /** A name, with a pointer for the part of it that stands earlier in the message. */
  name(labels: readonly string[], compress: boolean): Buffer {
    const parts: Buffer[] = [];
    for (let i = 0; i < labels.length; i++) {
      const known = compress ? this.#names.get(labels.slice(i).join('.').toLowerCase()) : undefined;
      if (known !== undefined) return Buffer.concat([...parts, Buffer.from([0xc0 | (known >> 8), known & 0xff])]);
      const bytes = labelBytes(labels[i]!);
      parts.push(Buffer.from([bytes.length]), bytes);
    }
    return Buffer.concat([...parts, Buffer.from([0])]);
  }

  toBuffer(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

function labelBytes(label: string): Buffer {
  return Buffer.from(label.replace(/\\(.)/g, '$1'), 'latin1').subarray(0, 63);
}
function labelsOf(name: string): string[] {
  return name.match(/(?:\\.|[^.\\])+/g) ?? [];
}

const compressed = new Set(['CNAME', 'PTR', 'NS']);

function dataOf(writer: Writer, record: DnsRecord): Buffer {
  if (compressed.has(record.type)) return writer.name(labelsOf(String(record.data)), true);
  const codec = dnsPacket as unknown as { record(type: string): { encode(data: unknown): Buffer } };
  return codec.record(record.type).encode(record.data).subarray(2);
}

/** Adds a record if it fits. */
function addRecord(writer: Writer, record: DnsRecord, limit: number): boolean {
  const labels = labelsOf(record.name);
  const name = writer.name(labels, true);
  const data = dataOf(writer, record);
  if (writer.length + name.length + 10 + data.length > limit) return false;
  const head = Buffer.alloc(10);
  head.writeUInt16BE(typeNumbers[record.type]!, 0);
  head.writeUInt16BE(1, 2);
  head.writeUInt32BE(record.ttl ?? 0, 4);
  head.writeUInt16BE(data.length, 8);
  if ((name[0]! & 0xc0) !== 0xc0) writer.note(labels, writer.length);
  const dataAt = writer.length + name.length + 10;
  writer.add(name);
  writer.add(head);
  writer.add(data);
  if (compressed.has(record.type) && (data[0]! & 0xc0) !== 0xc0) writer.note(labelsOf(String(record.data)), dataAt);
  if (record.type === 'SRV') writer.note(labelsOf((record.data as { target: string }).target), dataAt + 6);
  return true;
}

/** An answer of at most `limit` bytes. `flags` beyond those of every response: authoritative, recursion available. */
export function encodeDnsAnswer(question: DnsQuestion, { code, flags, ...sections }: DnsAnswer, limit: number): Buffer {
  const writer = new Writer();
  const room = limit - (question.edns ? optBytes : 0);
  const header = Buffer.alloc(headerBytes);
  writer.add(header);
  writer.note(labelsOf(question.name), headerBytes);
  writer.add(question.bytes);
  let truncated = false;
  const put = (records: readonly DnsRecord[], isNeeded: boolean): number => {
    let count = 0;
    for (const record of records) {
      if (truncated || !addRecord(writer, record, room)) {
        truncated ||= isNeeded;
        break;
      }
      count++;
    }
    return count;
  };
  const counts = [
    put(sections.answers, true),
    put(sections.authorities ?? [], true),
    put(sections.additionals ?? [], false),
  ];
  if (question.edns) {
    writer.add(optRecord());
    counts[2]!++;
  }
  header.writeUInt16BE(question.id, 0);
  header.writeUInt16BE(
    dnsFlag.response |
      (question.flags & dnsFlag.recursionDesired) |
      flags |
      (truncated ? dnsFlag.truncated : 0) |
      dnsCode[code],
    2,
  );
  header.writeUInt16BE(1, 4);
  counts.forEach((count, index) => header.writeUInt16BE(count, 6 + index * 2));
  return writer.toBuffer();
}

function optRecord(): Buffer {
  const bytes = Buffer.alloc(optBytes);
  bytes.writeUInt16BE(optType, 1);
  bytes.writeUInt16BE(dnsUdpBytesMax, 3);
  return bytes;
}

/** The header of a query with a code, and its question where there is one. */
export function dnsFailure(message: Buffer, code: DnsCode): Buffer {
  const question = parseDnsQuery(message);
  if (typeof question === 'object')
    return encodeDnsAnswer(question, { code, flags: dnsFlag.recursionAvailable, answers: [] }, plainUdpBytes);
  const header = Buffer.alloc(headerBytes);
  message.copy(header, 0, 0, 2);
  header.writeUInt16BE((message.readUInt16BE(2) & 0x7900) | dnsFlag.response | dnsCode[code], 2);
  return header;
}

/**
 * Somebody else's answer, cut between two records where it is too long: pointers lead back only, so what is kept
 * stands.
 */
export function cutDnsAnswer(message: Buffer, limit: number): Buffer {
  if (message.length <= limit) return message;
  const counts = [6, 8, 10].map((at) => message.readUInt16BE(at));
  const kept = [0, 0, 0];
  const named = skipName(message, headerBytes);
  let end = named === undefined || message.readUInt16BE(4) !== 1 ? headerBytes : named + 4;
  walk: for (let section = 0; end > headerBytes && section < 3; section++) {
    for (; kept[section]! < counts[section]!; kept[section]!++) {
      const next = skipRecord(message, end);
      if (next === undefined || next > limit) break walk;
      end = next;
    }
  }
  const out = Buffer.from(message.subarray(0, end));
  if (end === headerBytes) out.writeUInt16BE(0, 4);
  kept.forEach((count, section) => out.writeUInt16BE(count, 6 + section * 2));
  out.writeUInt16BE(out.readUInt16BE(2) | dnsFlag.truncated, 2);
  return out;
}

/** True when this is an answer to this query: its number, and its question in the very bytes. */
export function isDnsAnswerTo(query: Buffer, answer: Buffer): boolean {
  if (
    answer.length < headerBytes ||
    (answer.readUInt16BE(2) & dnsFlag.response) === 0 ||
    answer.readUInt16BE(0) !== query.readUInt16BE(0)
  )
    return false;
  const end = skipName(query, headerBytes);
  if (end === undefined || end + 4 > query.length || answer.readUInt16BE(4) !== 1) return answer.readUInt16BE(4) === 0;
  return (
    answer
      .subarray(headerBytes, end + 4)
      .toString('latin1')
      .toLowerCase() ===
    query
      .subarray(headerBytes, end + 4)
      .toString('latin1')
      .toLowerCase()
  );
}
