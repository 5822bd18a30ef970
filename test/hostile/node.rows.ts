/**
 * What strangers send to a node: streams of exec and port-forward, questions to its DNS servers, names that become
 * paths and rules.
 */
import { createServer as createSecureServer } from 'node:https';
import { constants, deflateSync } from 'node:zlib';
import { spdyStreamsMax } from '#base/limits.ts';
import { SpdyConnection } from '#base/spdy.ts';
import { spdyDictionary } from '#base/spdy-dictionary.ts';
import { messageOf } from '#base/thrown.ts';
import { createCertificateAuthority, issueCertificate } from '#base/x509.ts';
import { discoverCluster } from '#platform/discover.ts';
import { clusterInfoBytesMax } from '#platform/limits.ts';
import { sysctlNamespace } from '#base/sysctls.ts';
import { isLinkName } from '#engine/network-options.ts';
import { withLength } from '#net/dns-forwarder.ts';
import { cutDnsAnswer, parseDnsQuery } from '#net/dns-message.ts';
import { listenDns } from '#net/dns-server.ts';
import { dnsQueryBytesMax } from '#net/limits.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { freePort } from '#os/test-port.ts';
import type { HostileRow } from './row.ts';

/** What a machine that joins says of a server that answers so. */
async function discoveryOf(body: string): Promise<string> {
  const ca = createCertificateAuthority('a', realRandom, realClock);
  const names = { commonName: 'x', server: true, ipAddresses: ['127.0.0.1'] };
  const { certificatePem: cert, keyPem: key } = issueCertificate(names, ca, realRandom, realClock);
  const server = createSecureServer({ cert, key }, (_request, response) => response.end(body));
  await new Promise<void>((done) => {
    server.listen(0, '127.0.0.1', done);
  });
  const address = server.address();
  const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
  try {
    await discoverCluster(`https://127.0.0.1:${port}`, `sha256:${'0'.repeat(64)}`);
    return 'believed';
  } catch (error) {
    return messageOf(error).replace(/^https:.* could not be asked: /, '');
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

interface Peer {
  connection: SpdyConnection;
  opened: number;
  /** `hung up`, or `taken` with the first stream. */ outcome: Promise<string>;
  closed: Promise<string>;
  sent: Buffer[];
}

function peer(): Peer {
  const closed = Promise.withResolvers<string>();
  const outcome = Promise.withResolvers<string>();
  void closed.promise.then(outcome.resolve);
  const out: Peer = {
    connection: undefined as never,
    opened: 0,
    outcome: outcome.promise,
    closed: closed.promise,
    sent: [],
  };
  out.connection = new SpdyConnection(
    {
      send: (bytes) => {
        out.sent.push(bytes);
        return true;
      },
      onDrain: () => {},
      pause: () => {},
      resume: () => {},
      close: () => closed.resolve('hung up'),
    },
    () => {
      out.opened++;
      outcome.resolve('taken');
    },
  );
  return out;
}

function control(type: number, body: Buffer): Buffer {
  const head = Buffer.from([0x80, 3, 0, type, 0, 0, 0, 0]);
  head.writeUIntBE(body.length, 5, 3);
  return Buffer.concat([head, body]);
}

const dictionary = Buffer.from(spdyDictionary, 'base64');
const squeeze = (block: Buffer): Buffer =>
  deflateSync(block, { dictionary, finishFlush: constants.Z_SYNC_FLUSH, level: 9 });
const streamHead = (id: number): Buffer => {
  const head = Buffer.alloc(10);
  head.writeUInt32BE(id);
  return head;
};
const number = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

/** A query with a name of this many labels that all point back. */
const pointers = (count: number): Buffer =>
  Buffer.concat([
    Buffer.from([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
    ...Array.from({ length: count }, () => Buffer.from([1, 97])),
    Buffer.from([0xc0, 12, 0, 1, 0, 1]),
  ]);

async function throughTcp(input: Buffer): Promise<string> {
  const port = await freePort();
  let asked = 0;
  const listener = listenDns({ address: '127.0.0.1', port }, realClock, async (message) => {
    asked++;
    return message;
  });
  await listener.ready;
  try {
    const { connect } = await import('node:net');
    return await new Promise<string>((resolve) => {
      const socket = connect(port, '127.0.0.1');
      socket.on('error', () => resolve(`hung up after ${asked} questions`));
      socket.on('close', () => resolve(`hung up after ${asked} questions`));
      socket.write(input);
    });
  } finally {
    await listener.close();
  }
}

export const rows: HostileRow[] = [
  {
    name: 'SPDY inflates a header block',
    input: 'a header of 16 MiB, deflated to 16 KB',
    bound: 'src/base/limits.ts#spdyHeaderBytesMax',
    answer: /^hung up, 0 streams$/,
    async run() {
      const made = peer();
      const size = 16 << 20;
      made.connection.receive(
        control(
          1,
          Buffer.concat([
            streamHead(1),
            squeeze(Buffer.concat([number(1), number(1), Buffer.from('a'), number(size), Buffer.alloc(size)])),
          ]),
        ),
      );
      const answer = await made.outcome;
      made.connection.close();
      return `${answer}, ${made.opened} streams`;
    },
  },
  {
    name: 'SPDY reads names and values out of a header block',
    input: '4,000,000,000 pairs announced, none there',
    bound: 'src/base/limits.ts#spdyHeaderBytesMax',
    answer: /^hung up$/,
    run() {
      const { connection, closed } = peer();
      connection.receive(control(1, Buffer.concat([streamHead(1), squeeze(number(4_000_000_000))])));
      return closed;
    },
  },
  {
    name: 'SPDY gathers a control frame',
    input: 'a frame of 16 MiB announced',
    bound: 'src/base/limits.ts#spdyControlBytesMax',
    answer: /^hung up$/,
    run() {
      const { connection, closed } = peer();
      connection.receive(Buffer.from([0x80, 3, 0, 6, 0, 0xff, 0xff, 0xff]));
      return closed;
    },
  },
  {
    name: 'SPDY opens streams',
    input: `${spdyStreamsMax + 50} streams on one connection`,
    bound: 'src/base/limits.ts#spdyStreamsMax',
    answer: /^1000 open, 50 refused$/,
    async run() {
      const made = peer();
      const { createDeflate } = await import('node:zlib');
      const deflate = createDeflate({ dictionary });
      for (let i = 0; i < spdyStreamsMax + 50; i++) {
        const chunks: Buffer[] = [];
        const collect = (chunk: Buffer): void => {
          chunks.push(chunk);
        };
        deflate.on('data', collect);
        deflate.write(number(0));
        await new Promise<void>((done) => {
          deflate.flush(constants.Z_SYNC_FLUSH, () => done());
        });
        deflate.off('data', collect);
        made.connection.receive(control(1, Buffer.concat([streamHead(i * 2 + 1), ...chunks])));
      }
      const refusals = (): number => made.sent.filter((frame) => frame.readUInt16BE(2) === 3).length;
      while (made.opened + refusals() < spdyStreamsMax + 50)
        await new Promise((done) => {
          setImmediate(done);
        });
      const answer = `${made.opened} open, ${refusals()} refused`;
      made.connection.close();
      return answer;
    },
  },
  {
    name: 'A DNS question is read',
    input: 'names that point at themselves, of 3 and 400 labels',
    bound: 'src/net/limits.ts#dnsQueryBytesMax',
    answer: /^FORMERR FORMERR$/,
    run: () => [3, 400].map((count) => String(parseDnsQuery(pointers(count)))).join(' '),
  },
  {
    name: 'A foreign DNS answer is cut',
    input: '65,535 records announced in 64 KB of pointers',
    bound: 'src/net/limits.ts#dnsUdpBytesMax',
    answer: /^(\d{1,3}|50\d|51[0-2]) bytes$/,
    run: () =>
      `${cutDnsAnswer(Buffer.concat([Buffer.from([0, 1, 0x81, 0x80, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 97, 0, 0, 1, 0, 1]), Buffer.alloc(65_000, 0xc0)]), 512).length} bytes`,
  },
  {
    name: 'DNS over TCP gathers a question',
    input: 'a message of 65,535 bytes announced',
    bound: 'src/net/limits.ts#dnsQueryBytesMax',
    answer: /^hung up after 0 questions$/,
    run: () => throughTcp(Buffer.concat([withLength(Buffer.alloc(dnsQueryBytesMax + 1)), Buffer.alloc(1)])),
  },
  {
    name: 'A machine that joins reads who a server says to be',
    input: '2 MB of answer; 1 MB of YAML aliases, before anything is believed of it',
    bound: 'src/platform/limits.ts#clusterInfoBytesMax',
    answer: /^the answer is too long; .*alias/,
    async run() {
      const lines = Array.from({ length: 9 }, (_, i) => `a${i + 1}: &a${i + 1} [${`*a${i},`.repeat(9)}]`);
      const bomb = JSON.stringify({ data: { kubeconfig: ['a0: &a0 [x]', ...lines].join('\n') } });
      const answers = [];
      for (const body of ['x'.repeat(2 * clusterInfoBytesMax), bomb]) answers.push(await discoveryOf(body));
      return answers.join('; ');
    },
  },
  {
    name: 'A name of a kernel parameter becomes a path',
    input: 'names that climb, end early or are not namespaced',
    bound: 'src/base/sysctls.ts#sysctlNameLengthMax',
    answer: /^0 of 7$/,
    run() {
      const names = [
        'net/../kernel/core_pattern',
        'net.ipv4.//.x',
        '/net/x',
        'net/x\0/../y',
        `net.${'a.'.repeat(200)}b`,
        'kernel.core_pattern',
        '../../etc/passwd',
      ];
      return `${names.filter((name) => sysctlNamespace(name) !== undefined).length} of ${names.length}`;
    },
  },
  {
    name: 'The name of a bridge becomes a path and a rule',
    input: 'names with separators, quotes, blanks and 16 characters',
    bound: 'src/net/limits.ts#linkNameLengthMax',
    answer: /^0 of 8$/,
    run() {
      const names = ['../x', 'a b', 'a";', 'x } flush', '-x', '.', 'a\n', 'a'.repeat(16)];
      return `${names.filter(isLinkName).length} of ${names.length}`;
    },
  },
];
