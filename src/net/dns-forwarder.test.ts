import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import type { RemoteInfo, Socket } from 'node:dgram';
import { createServer } from 'node:net';
import { test } from 'node:test';
import dnsPacket from 'dns-packet';
import { realClock, realRandom } from '#os/clock.real.ts';
import { freePort } from '#os/test-port.ts';
import { createDnsForwarder, withLength } from './dns-forwarder.ts';
import { dnsCode, dnsFlag, encodeDnsAnswer, parseDnsQuery } from './dns-message.ts';
import type { DnsQuestion } from './dns-message.ts';
import { listenDns } from './dns-server.ts';
import { dnsForwardPendingPerClientMax } from './limits.ts';

const query = (name: string, id = 7): Buffer =>
  dnsPacket.encode({ type: 'query', id, flags: dnsFlag.recursionDesired, questions: [{ name, type: 'A' }] });
const answerTo = (message: Buffer, data: string, count = 1, limit = 65_000): Buffer => {
  const question = parseDnsQuery(message) as DnsQuestion;
  return encodeDnsAnswer(
    question,
    {
      code: 'NOERROR',
      flags: 0,
      answers: Array.from({ length: count }, () => ({ name: question.name, type: 'A', ttl: 1, data })),
    },
    limit,
  );
};

const codeOf = (message: Buffer): number => message.readUInt16BE(2) & 15;

async function resolver(
  onMessage: (socket: Socket, message: Buffer, from: RemoteInfo) => void,
): Promise<{ port: number; close(): void }> {
  const socket = createSocket('udp4');
  socket.on('message', (message, from) => onMessage(socket, message, from));
  await new Promise<void>((done) => {
    socket.bind(0, '127.0.0.1', done);
  });
  return { port: socket.address().port, close: () => socket.close() };
}

test("each question has a number and a port of its own, and comes back with the asker's number", async () => {
  const seen: { id: number; port: number }[] = [];
  const server = await resolver((socket, message, from) => {
    seen.push({ id: message.readUInt16BE(0), port: from.port });
    socket.send(answerTo(message, '1.2.3.4'), from.port, from.address);
  });
  try {
    const forwarder = createDnsForwarder({ clock: realClock, random: realRandom, port: server.port });
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_unused, i) => forwarder.ask(query(`n${i}.example`, i), ['127.0.0.1'], 512, 'a')),
    );
    assert.deepEqual(
      answers.map((answer) => dnsPacket.decode(answer).id),
      Array.from({ length: 20 }, (_unused, i) => i),
    );
    assert.equal(new Set(seen.map(({ port }) => port)).size, 20);
    const steps = seen.slice(1).map(({ id }, i) => id - seen[i]!.id);
    assert.ok(new Set(steps).size > 10, 'numbers do not follow one another');
  } finally {
    server.close();
  }
});

test('an answer from elsewhere, with another number or to another question is not taken', async () => {
  const stranger = createSocket('udp4');
  const server = await resolver((socket, message, from) => {
    const forged = answerTo(message, '6.6.6.6');
    stranger.send(forged, from.port, from.address, () => {
      const guess = Buffer.from(forged);
      guess.writeUInt16BE((guess.readUInt16BE(0) + 1) & 0xffff, 0);
      socket.send(guess, from.port, from.address);
      socket.send(
        answerTo(Buffer.concat([message.subarray(0, 2), query('other.example').subarray(2)]), '6.6.6.6'),
        from.port,
        from.address,
      );
      socket.send(answerTo(message, '1.2.3.4'), from.port, from.address);
    });
  });
  try {
    const forwarder = createDnsForwarder({ clock: realClock, random: realRandom, port: server.port });
    const answer = dnsPacket.decode(await forwarder.ask(query('a.example'), ['127.0.0.1'], 512, 'a'));
    assert.deepEqual(
      answer.answers!.map((record) => (record as { data: unknown }).data),
      ['1.2.3.4'],
    );
  } finally {
    server.close();
    stranger.close();
  }
});

test('a cut answer is asked for by TCP where the asker takes more; else part of it comes', async () => {
  const server = await resolver((socket, message, from) =>
    socket.send(answerTo(message, '1.2.3.4', 200, 512), from.port, from.address),
  );
  const tcp = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', (part: Buffer) => socket.end(withLength(answerTo(part.subarray(2), '1.2.3.4', 200))));
  });
  await new Promise<void>((done) => {
    tcp.listen(server.port, '127.0.0.1', done);
  });
  try {
    const forwarder = createDnsForwarder({ clock: realClock, random: realRandom, port: server.port });
    const [whole, part] = [
      await forwarder.ask(query('a.example'), ['127.0.0.1'], 65_000, 'a'),
      await forwarder.ask(query('a.example'), ['127.0.0.1'], 512, 'a'),
    ].map((bytes) => dnsPacket.decode(bytes));
    assert.deepEqual([whole!.flag_tc, whole!.answers!.length], [false, 200]);
    assert.ok(part!.flag_tc && part!.answers!.length > 20);
  } finally {
    server.close();
    tcp.close();
  }
});

test('one asker does not take every place', async () => {
  const server = await resolver(() => {});
  const held: Promise<Buffer>[] = [];
  const timers: (() => void)[] = [];
  const clock = {
    ...realClock,
    setTimer: (_ms: number, run: () => void) => {
      timers.push(run);
      return { cancel: () => undefined };
    },
  };
  try {
    const forwarder = createDnsForwarder({ clock, random: realRandom, port: server.port });
    for (let i = 0; i < dnsForwardPendingPerClientMax; i++)
      held.push(forwarder.ask(query(`n${i}`), ['127.0.0.1'], 512, 'greedy'));
    assert.equal(codeOf(await forwarder.ask(query('more'), ['127.0.0.1'], 512, 'greedy')), dnsCode.SERVFAIL);
    held.push(forwarder.ask(query('other'), ['127.0.0.1'], 512, 'modest'));
    assert.equal(timers.length, dnsForwardPendingPerClientMax + 1, 'another asker has its place');
    for (const run of timers) run();
    assert.equal(codeOf((await Promise.all(held)).at(-1)!), dnsCode.SERVFAIL);
  } finally {
    server.close();
  }
});

test('questions of one TCP connection are answered one after the other, in their order', async () => {
  const { connect } = await import('node:net');
  let running = 0;
  let most = 0;
  const port = await freePort();
  const listener = listenDns({ address: '127.0.0.1', port }, realClock, async (message) => {
    most = Math.max(most, ++running);
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
    running--;
    return answerTo(message, '1.2.3.4');
  });
  await listener.ready;
  try {
    const ids: number[] = [];
    await new Promise<void>((resolve, reject) => {
      const socket = connect(port, '127.0.0.1');
      let buffer = Buffer.alloc(0);
      socket.on('error', reject);
      socket.on('data', (part: Buffer) => {
        buffer = Buffer.concat([buffer, part]);
        while (buffer.length >= 2 && buffer.length >= 2 + buffer.readUInt16BE(0)) {
          ids.push(buffer.readUInt16BE(2));
          buffer = buffer.subarray(2 + buffer.readUInt16BE(0));
        }
        if (ids.length === 50) {
          socket.destroy();
          resolve();
        }
      });
      socket.write(Buffer.concat(Array.from({ length: 50 }, (_unused, i) => withLength(query(`n${i}`, i)))));
    });
    assert.deepEqual(
      ids,
      Array.from({ length: 50 }, (_unused, i) => i),
    );
    assert.equal(most, 1);
  } finally {
    await listener.close();
  }
});
