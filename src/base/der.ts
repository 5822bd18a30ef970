/**
 * A writer for the part of DER (ITU-T X.690) that certificates need. Values are built inside out as byte arrays;
 * nothing is read here, since Node parses certificates itself.
 */
export type Der = Uint8Array;

function concat(parts: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(parts);
}

/** Tag, length, content. */
export function tlv(tag: number, content: Uint8Array): Der {
  const length = content.length;
  const head: number[] = [tag];
  if (length < 0x80) head.push(length);
  else {
    const bytes: number[] = [];
    for (let left = length; left > 0; left >>>= 8) bytes.unshift(left & 0xff);
    head.push(0x80 | bytes.length, ...bytes);
  }
  return concat([Uint8Array.from(head), content]);
}

export const sequence = (...parts: Der[]): Der => tlv(0x30, concat(parts));
export const setOf = (...parts: Der[]): Der => tlv(0x31, concat(parts));
export const octetString = (content: Uint8Array): Der => tlv(0x04, content);
export const boolean = (value: boolean): Der => tlv(0x01, Uint8Array.of(value ? 0xff : 0));
export const utf8String = (text: string): Der => tlv(0x0c, Buffer.from(text, 'utf8'));
/** An explicit context tag `[number]`. */
export const explicit = (number: number, content: Der): Der => tlv(0xa0 | number, content);
/** A primitive implicit context tag `[number]`. */
export const implicit = (number: number, content: Uint8Array): Der => tlv(0x80 | number, content);

/** Unsigned big-endian bytes as INTEGER. */
export function integer(bytes: Uint8Array | number): Der {
  let raw = typeof bytes === 'number' ? Uint8Array.of(bytes) : bytes;
  let start = 0;
  while (start < raw.length - 1 && raw[start] === 0) start++;
  raw = raw.subarray(start);
  return tlv(0x02, (raw[0] ?? 0) & 0x80 ? concat([Uint8Array.of(0), raw]) : raw);
}

export function bitString(content: Uint8Array, unusedBits = 0): Der {
  return tlv(0x03, concat([Uint8Array.of(unusedBits), content]));
}

export function objectId(dotted: string): Der {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const out = [first * 40 + second];
  for (const part of rest) {
    const septets = [part & 0x7f];
    for (let left = Math.floor(part / 128); left > 0; left = Math.floor(left / 128))
      septets.unshift(0x80 | (left & 0x7f));
    out.push(...septets);
  }
  return tlv(0x06, Uint8Array.from(out));
}

/** UTCTime until 2049, GeneralizedTime from 2050 (RFC 5280, 4.1.2.5). */
export function time(ms: number): Der {
  const digits = new Date(ms).toISOString().replace(/[-:T]/g, '').slice(0, 14);
  return digits < '20500101' ? tlv(0x17, Buffer.from(`${digits.slice(2)}Z`)) : tlv(0x18, Buffer.from(`${digits}Z`));
}

export function toPem(label: string, der: Uint8Array): string {
  const text = Buffer.from(der)
    .toString('base64')
    .replace(/(.{64})(?=.)/g, '$1\n');
  return `-----BEGIN ${label}-----\n${text}\n-----END ${label}-----\n`;
}
