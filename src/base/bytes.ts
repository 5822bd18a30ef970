/**
 * Bytes that live long. `Buffer.from(text)` and `Buffer.concat` take short ones from a pool of slabs that they share
 * with whatever else is made at that time: one of them that lives an hour keeps the whole slab. What is stored or
 * cached gets memory of its own.
 */

/** The text as UTF-8. */
export function ownBytes(text: string): Buffer {
  const out = Buffer.allocUnsafeSlow(Buffer.byteLength(text));
  out.write(text);
  return out;
}

/** The parts behind each other. */
export function joinOwn(parts: readonly Uint8Array[]): Buffer {
  let size = 0;
  for (const part of parts) size += part.length;
  const out = Buffer.allocUnsafeSlow(size);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** A copy that shares nothing. */
export function ownCopy(bytes: Uint8Array): Buffer {
  return joinOwn([bytes]);
}
