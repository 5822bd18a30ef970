import { test } from 'node:test';
import assert from 'node:assert/strict';
import { createDeflate, constants } from 'node:zlib';
import { SpdyConnection, type SpdyStream } from './spdy.ts';
import { spdyDictionary } from './spdy-dictionary.ts';

const dictionary = Buffer.from(spdyDictionary, 'base64');

function headerBlock(headers: Record<string, string>): Promise<Buffer> {
  const deflate = createDeflate({ dictionary });
  const u32 = (value: number): Buffer => { const bytes = Buffer.alloc(4); bytes.writeUInt32BE(value); return bytes; };
  const chunks: Buffer[] = [];
  deflate.on('data', (chunk: Buffer) => chunks.push(chunk));
  deflate.write(Buffer.concat([u32(Object.keys(headers).length), ...Object.entries(headers).flatMap(([name, value]) => [u32(name.length), Buffer.from(name), u32(value.length), Buffer.from(value)])]));
  return new Promise((resolve) => deflate.flush(constants.Z_SYNC_FLUSH, () => resolve(Buffer.concat(chunks))));
}
function control(type: number, flags: number, body: Buffer): Buffer {
  const head = Buffer.from([0x80, 3, 0, type, flags, 0, 0, 0]);
  head.writeUIntBE(body.length, 5, 3);
  return Buffer.concat([head, body]);
}
function data(id: number, text: string, fin: boolean): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(id);
  head[4] = fin ? 1 : 0;
  head.writeUIntBE(text.length, 5, 3);
  return Buffer.concat([head, Buffer.from(text)]);
}

test('a stream carries headers and data both ways, in pieces of any size', async () => {
  const sent: Buffer[] = [];
  const opened = Promise.withResolvers<SpdyStream>();
  const connection = new SpdyConnection({ send: (bytes) => { sent.push(bytes); return true; }, onDrain: () => {}, pause: () => {}, resume: () => {}, close: () => {} }, (stream) => opened.resolve(stream));
  const syn = control(1, 0, Buffer.concat([Buffer.from([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]), await headerBlock({ streamtype: 'stdin' })]));
  for (const byte of Buffer.concat([syn, data(1, 'hello', true)])) connection.receive(Buffer.from([byte]));
  const stream = await opened.promise;
  assert.equal(stream.headers['streamtype'], 'stdin');
  let text = '';
  stream.on('data', (chunk: Buffer) => { text += chunk.toString(); });
  await new Promise((resolve) => stream.once('end', resolve));
  assert.equal(text, 'hello');
  stream.end('answer');
  await new Promise((resolve) => stream.once('finish', resolve));
  const reply = sent[0]!;
  assert.equal(reply.readUInt16BE(2), 2, 'SYN_REPLY first');
  assert.equal(Buffer.concat(sent.slice(1).filter((frame) => (frame[0]! & 0x80) === 0).map((frame) => frame.subarray(8))).toString(), 'answer');
  connection.close();
});

test('a frame that claims to be huge ends the connection', async () => {
  const closed = Promise.withResolvers<void>();
  const connection = new SpdyConnection({ send: () => true, onDrain: () => {}, pause: () => {}, resume: () => {}, close: () => closed.resolve() }, () => {});
  connection.receive(Buffer.from([0, 0, 0, 1, 0, 0xff, 0xff, 0xff]));
  await closed.promise;
});
