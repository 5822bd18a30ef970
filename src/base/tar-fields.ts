/** Fields of tar headers: text, octal and base-256 numbers, and the parts of an entry that its header describes. */
import { decodeFileName } from './file-names.ts';
import { TarError } from './tar.ts';
import type { TarExtent, TarHeader } from './tar.ts';

export function textOf(field: Buffer): string {
  const end = field.indexOf(0);
  return decodeFileName(end < 0 ? field : field.subarray(0, end));
}

/** Octal with padding, or GNU base-256. Values beyond 2^53 are refused. */
export function numberOf(field: Buffer): number {
  const first = field[0] ?? 0;
  if ((first & 0x80) !== 0) {
    const negative = (first & 0x40) !== 0;
    let value = BigInt(negative ? first | ~0xff : first & 0x7f);
    for (const byte of field.subarray(1)) value = (value << 8n) | BigInt(byte);
    if (value > BigInt(Number.MAX_SAFE_INTEGER) || value < BigInt(Number.MIN_SAFE_INTEGER))
      throw new TarError('archive/tar: invalid tar header');
    return Number(value);
  }
  const text = textOf(field).trim();
  if (text === '') return 0;
  if (!/^[0-7]+$/.test(text)) throw new TarError('archive/tar: invalid tar header');
  return Number.parseInt(text, 8);
}

export function paxNumber(value: Buffer): number {
  const number = Number(value.toString('latin1'));
  if (value.length === 0 || !Number.isFinite(number) || Math.abs(number) > Number.MAX_SAFE_INTEGER)
    throw new TarError('archive/tar: invalid tar header');
  return number;
}

/** Offset and length of each extent, by turns. */
export function extentsOf(numbers: readonly number[]): TarExtent[] {
  const extents: TarExtent[] = [];
  for (let at = 0; at < numbers.length; at += 2) {
    const [offset, length] = numbers.slice(at, at + 2);
    if (offset === undefined || length === undefined) throw new TarError('archive/tar: invalid tar header');
    extents.push({ offset, length });
  }
  return extents;
}

export interface Pending {
  longName?: string;
  longLink?: string;
  pax: [string, Buffer][];
}

/** The parts of an entry that follow its header block. */
export interface Layout {
  header: TarHeader;
  storedBytes: number;
  extents?: TarExtent[];
  sparseOld: boolean;
  sparseMapInData: boolean;
}
