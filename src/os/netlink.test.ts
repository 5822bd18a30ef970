import assert from 'node:assert/strict';
import { test } from 'node:test';
import { attribute, message, parseAttributes, text, u32 } from './netlink.ts';

test('an attribute is padded to four bytes, and its length is not', () => {
  const bytes = attribute(3, text('eth0'));
  assert.equal(bytes.length, 12);
  assert.equal(bytes.readUInt16LE(0), 9);
});

test('attributes are read back as they were written', () => {
  const parsed = parseAttributes(Buffer.concat([attribute(3, text('lo')), attribute(4, u32(1500))]));
  assert.equal(parsed.get(3)?.toString(), 'lo\0');
  assert.equal(parsed.get(4)?.readUInt32LE(0), 1500);
});

test('a truncated attribute ends the list instead of reading beyond it', () => {
  assert.equal(parseAttributes(Buffer.from([200, 0, 1, 0, 1])).size, 0);
});

test('a message holds its whole length', () => {
  assert.equal(
    message(7, { type: 16, flags: 5, header: Buffer.alloc(16), attributes: [attribute(1, u32(1))] }).readUInt32LE(0),
    16 + 16 + 8,
  );
});
