import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spdyAnswersPendingMax, spdyStreamBufferBytesMax } from './limits.ts';
import { createDeflate, constants } from 'node:zlib';
import { SpdyConnection, type SpdyStream } from './spdy.ts';
import { spdyDictionary } from './spdy-dictionary.ts';

const dictionary = Buffer.from(spdyDictionary, 'base64');

function headerBlock(headers: Record<string, string>): Promise<Buffer> {
  const deflate = createDeflate({ dictionary });
  const u32 = (value: number): Buffer => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    return bytes;
  };
  const chunks: Buffer[] = [];
  deflate.on('data', (chunk: Buffer) => chunks.push(chunk));
  deflate.write(
    Buffer.concat([
      u32(Object.keys(headers).length),
      ...Object.entries(headers).flatMap(([name, value]) => [
        u32(name.length),
        Buffer.from(name),
        u32(value.length),
        Buffer.from(value),
      ]),
    ]),
  );
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
  const connection = new SpdyConnection(
    {
      send: (bytes) => {
        sent.push(bytes);
        return true;
      },
      onDrain: () => {},
      pause: () => {},
      resume: () => {},
      close: () => {},
    },
    (stream) => opened.resolve(stream),
  );
  const syn = control(
    1,
    0,
    Buffer.concat([Buffer.from([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]), await headerBlock({ streamtype: 'stdin' })]),
  );
  for (const byte of Buffer.concat([syn, data(1, 'hello', true)])) connection.receive(Buffer.from([byte]));
  const stream = await opened.promise;
  assert.equal(stream.headers['streamtype'], 'stdin');
  let text = '';
  stream.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  await new Promise((resolve) => stream.once('end', resolve));
  assert.equal(text, 'hello');
  stream.end('answer');
  await new Promise((resolve) => stream.once('finish', resolve));
  const reply = sent[0]!;
  assert.equal(reply.readUInt16BE(2), 2, 'SYN_REPLY first');
  assert.equal(
    Buffer.concat(
      sent
        .slice(1)
        .filter((frame) => (frame[0]! & 0x80) === 0)
        .map((frame) => frame.subarray(8)),
    ).toString(),
    'answer',
  );
  connection.close();
});

test('a control frame that claims to be huge ends the connection', async () => {
  const closed = Promise.withResolvers<void>();
  const connection = new SpdyConnection(
    { send: () => true, onDrain: () => {}, pause: () => {}, resume: () => {}, close: () => closed.resolve() },
    () => {},
  );
  connection.receive(Buffer.from([0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]));
  await closed.promise;
});

const open = async (id: number): Promise<Buffer> => {
  const head = Buffer.alloc(10);
  head.writeUInt32BE(id);
  return control(1, 0, Buffer.concat([head, await headerBlock({ streamtype: String(id) })]));
};

test('data of a long frame is handed on as it comes, and held back while nobody reads it', async () => {
  let paused = false;
  const opened = Promise.withResolvers<SpdyStream>();
  const connection = new SpdyConnection(
    {
      send: () => true,
      onDrain: () => {},
      pause: () => {
        paused = true;
      },
      resume: () => {
        paused = false;
      },
      close: () => {},
    },
    (stream) => opened.resolve(stream),
  );
  connection.receive(await open(1));
  const stream = await opened.promise;
  const head = Buffer.from([0, 0, 0, 1, 0, 0, 0, 0]);
  head.writeUIntBE(8 * 1024 * 1024, 5, 3);
  connection.receive(head);
  let sent = 0;
  for (; sent < 64 && !paused; sent++) {
    connection.receive(Buffer.alloc(4096));
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
  assert.equal(paused, true);
  assert.ok(stream.readableLength <= spdyStreamBufferBytesMax + 4096);
  stream.resume();
  await new Promise((resolve) => {
    setImmediate(resolve);
  });
  assert.equal(paused, false);
  connection.close();
});

test('one stream that nobody reads holds the connection back, though others are read', async () => {
  let paused = false;
  const streams: SpdyStream[] = [];
  const opened = Promise.withResolvers<void>();
  const connection = new SpdyConnection(
    {
      send: () => true,
      onDrain: () => {},
      pause: () => {
        paused = true;
      },
      resume: () => {
        paused = false;
      },
      close: () => {},
    },
    (stream) => {
      streams.push(stream);
      opened.resolve();
    },
  );
  connection.receive(await open(1));
  await opened.promise;
  connection.receive(data(1, 'x'.repeat(spdyStreamBufferBytesMax), false));
  await new Promise((resolve) => {
    setImmediate(resolve);
  });
  assert.equal(paused, true);
  streams[0]!.destroy();
  assert.equal(paused, false, 'a stream that is gone holds nothing back');
  connection.close();
});

test('what comes after the end of a stream is dropped', async () => {
  const streams: SpdyStream[] = [];
  const opened = Promise.withResolvers<void>();
  const connection = new SpdyConnection(
    { send: () => true, onDrain: () => {}, pause: () => {}, resume: () => {}, close: () => {} },
    (stream) => {
      streams.push(stream);
      opened.resolve();
    },
  );
  connection.receive(Buffer.concat([await open(1), data(1, 'all', true), data(1, 'more', false)]));
  await opened.promise;
  let text = '';
  streams[0]!.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  await new Promise((resolve) => streams[0]!.once('end', resolve));
  assert.equal(text, 'all');
  connection.close();
});

test('a peer that pings and takes no answer is hung up on', async () => {
  const closed = Promise.withResolvers<void>();
  let sent = 0;
  const connection = new SpdyConnection(
    {
      send: () => {
        sent++;
        return false;
      },
      onDrain: () => {},
      pause: () => {},
      resume: () => {},
      close: () => closed.resolve(),
    },
    () => {},
  );
  for (let i = 0; i < 3; i++)
    connection.receive(
      Buffer.concat(Array.from({ length: spdyAnswersPendingMax }, () => control(6, 0, Buffer.alloc(4)))),
    );
  await closed.promise;
  assert.ok(sent <= spdyAnswersPendingMax + 1);
});
