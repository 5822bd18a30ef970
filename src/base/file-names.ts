/**
 * File names are bytes; JavaScript's strings are not. A name, path or link target is carried as a string in which every
 * byte that is not part of valid UTF-8 stands as a lone low surrogate, U+DC00 + byte (as Python's `surrogateescape`
 * does). Valid UTF-8 never decodes to a lone surrogate, so no two names fall together, slashes split and strings
 * compare as ever, JSON carries them (`\udce4`), and nothing is lost on the way back.
 *
 * What goes to people or to programs that want UTF-8 is shown with `toWellFormed()`.
 */
import { isUtf8 } from 'node:buffer';

const escapeBase = 0xdc00;

/**
 * How many bytes a valid UTF-8 sequence at `at` has; 0 where there is none (RFC 3629, "Syntax of UTF-8 Byte
 * Sequences").
 */
function sequenceLength(bytes: Buffer, at: number): number {
  const first = bytes.readUInt8(at);
  if (first < 0x80) return 1;
  const length =
    first >= 0xf0 && first <= 0xf4 ? 4 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xc2 && first < 0xe0 ? 2 : 0;
  return length > 0 && at + length <= bytes.length && isUtf8(bytes.subarray(at, at + length)) ? length : 0;
}

export function decodeFileName(bytes: Uint8Array): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (isUtf8(buffer)) return buffer.toString('utf8');
  let out = '';
  let from = 0;
  for (let at = 0; at < buffer.length;) {
    const length = sequenceLength(buffer, at);
    if (length > 0) {
      at += length;
      continue;
    }
    out += buffer.toString('utf8', from, at) + String.fromCharCode(escapeBase + buffer.readUInt8(at));
    from = ++at;
  }
  return out + buffer.toString('utf8', from);
}

/** The bytes of a name. */
export function encodeFileName(name: string): Buffer {
  if (name.isWellFormed()) return Buffer.from(name, 'utf8');
  const parts: Buffer[] = [];
  let text = '';
  for (const character of name) {
    const unit = character.charCodeAt(0);
    if (character.length === 1 && unit >= escapeBase + 0x80 && unit <= escapeBase + 0xff) {
      parts.push(Buffer.from(text, 'utf8'), Buffer.of(unit - escapeBase));
      text = '';
    } else text += character;
  }
  parts.push(Buffer.from(text, 'utf8'));
  return Buffer.concat(parts);
}

/** `%E4` and the like as a name; undefined where an escape is none. `+` is a space, as in queries. */
export function decodeQueryName(text: string): string | undefined {
  if (/%(?![0-9A-Fa-f]{2})/.test(text)) return undefined;
  const bytes = Buffer.from(text.replaceAll('+', ' '), 'utf8');
  const out = Buffer.alloc(bytes.length);
  let length = 0;
  for (let at = 0; at < bytes.length; at++) {
    if (bytes[at] === 0x25) {
      out[length++] = Number.parseInt(bytes.toString('latin1', at + 1, at + 3), 16);
      at += 2;
    } else out[length++] = bytes.readUInt8(at);
  }
  return decodeFileName(out.subarray(0, length));
}
