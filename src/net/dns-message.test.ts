import assert from 'node:assert/strict';
import { test } from 'node:test';
import dnsPacket from 'dns-packet';
import {
  cutDnsAnswer,
  dnsCode,
  dnsFailure,
  dnsFlag,
  encodeDnsAnswer,
  isDnsAnswerTo,
  parseDnsQuery,
} from './dns-message.ts';
import type { DnsQuestion, DnsRecord } from './dns-message.ts';
import { dnsUdpBytesMax } from './limits.ts';

const query = (name: string, type = 'A', edns?: number): Buffer =>
  dnsPacket.encode({
    type: 'query',
    id: 77,
    flags: dnsFlag.recursionDesired,
    questions: [{ name, type: type as 'A' }],
    ...(edns === undefined
      ? {}
      : {
          additionals: [
            {
              type: 'OPT',
              name: '.',
              udpPayloadSize: edns,
              flags: 0,
              extendedRcode: 0,
              ednsVersion: 0,
              flag_do: false,
              options: [],
            } as never,
          ],
        }),
  });
const parse = (message: Buffer): DnsQuestion => parseDnsQuery(message) as DnsQuestion;
const addresses = (name: string, count: number): DnsRecord[] =>
  Array.from({ length: count }, (_unused, i) => ({ name, type: 'A', ttl: 5, data: `10.244.0.${i}` }));

test('twenty addresses of a long name fit without EDNS, as names are compressed', () => {
  const name = 'headless.default.svc.cluster.local';
  const bytes = encodeDnsAnswer(
    parse(query(name)),
    { code: 'NOERROR', flags: dnsFlag.authoritative, answers: addresses(name, 20) },
    512,
  );
  const decoded = dnsPacket.decode(bytes);
  assert.ok(bytes.length <= 512 && !decoded.flag_tc && decoded.flag_aa && decoded.flag_rd);
  assert.deepEqual(
    [decoded.id, decoded.answers!.length, decoded.answers!.at(-1)],
    [77, 20, { name, type: 'A', ttl: 5, class: 'IN', flush: false, data: '10.244.0.19' }],
  );
});

test('what does not fit is cut between records and marked; what stays can be read', () => {
  const name = 'headless.default.svc.cluster.local';
  const decoded = dnsPacket.decode(
    encodeDnsAnswer(parse(query(name)), { code: 'NOERROR', flags: 0, answers: addresses(name, 100) }, 512),
  );
  assert.equal(decoded.flag_tc, true);
  assert.ok(decoded.answers!.length >= 28 && decoded.answers!.length < 100);
});

test('SRV records stay whole; addresses beside them that do not fit are left out without a mark', () => {
  const targets = Array.from({ length: 9 }, (_unused, i) => `pod-${i}.db.default.svc.cluster.local`);
  const name = '_sql._tcp.db.default.svc.cluster.local';
  const answers = targets.map((target) => ({
    name,
    type: 'SRV',
    ttl: 5,
    data: { target, port: 5432, priority: 0, weight: 100 },
  }));
  const additionals = targets.map((target, i) => ({ name: target, type: 'A', ttl: 5, data: `10.0.0.${i}` }));
  const four = dnsPacket.decode(
    encodeDnsAnswer(
      parse(query(name, 'SRV')),
      { code: 'NOERROR', flags: 0, answers: answers.slice(0, 4), additionals: additionals.slice(0, 4) },
      512,
    ),
  );
  assert.deepEqual(
    [four.flag_tc, four.answers!.length, four.additionals!.map((record) => record.name)],
    [false, 4, targets.slice(0, 4)],
  );
  const seven = dnsPacket.decode(
    encodeDnsAnswer(
      parse(query(name, 'SRV')),
      { code: 'NOERROR', flags: 0, answers: answers.slice(0, 7), additionals },
      512,
    ),
  );
  assert.deepEqual(
    [seven.flag_tc, seven.answers!.length, (seven.answers![6] as { data: { target: string } }).data.target],
    [false, 7, targets[6]],
  );
  assert.ok(seven.additionals!.length < 7);
});

test('who speaks EDNS is answered with EDNS, up to the size that it names', () => {
  const name = 'a.b';
  assert.deepEqual(
    [
      parse(query(name)),
      parse(query(name, 'A', 1232)),
      parse(query(name, 'A', 100)),
      parse(query(name, 'A', 65_000)),
    ].map(({ edns, udpBytesMax }) => [edns, udpBytesMax]),
    [
      [false, 512],
      [true, 1232],
      [true, 512],
      [true, dnsUdpBytesMax],
    ],
  );
  const question = parse(query(name, 'A', 1232));
  const bytes = encodeDnsAnswer(
    question,
    { code: 'NOERROR', flags: 0, answers: addresses(name, 100) },
    question.udpBytesMax,
  );
  const decoded = dnsPacket.decode(bytes);
  assert.ok(bytes.length <= 1232 && decoded.answers!.length > 60);
  assert.equal(decoded.additionals!.at(-1)!.type, 'OPT');
});

test('names in data are compressed where they may be, and come back whole', () => {
  const question = parse(query('www.example.org'));
  const sections = {
    answers: [
      { name: 'www.example.org', type: 'CNAME', ttl: 1, data: 'web.example.org' },
      { name: 'web.example.org', type: 'A', ttl: 1, data: '1.2.3.4' },
    ],
    authorities: [
      {
        name: 'example.org',
        type: 'SOA',
        ttl: 1,
        data: {
          mname: 'ns.example.org',
          rname: 'h.example.org',
          serial: 1,
          refresh: 1,
          retry: 1,
          expire: 1,
          minimum: 1,
        },
      },
    ],
  };
  const decoded = dnsPacket.decode(encodeDnsAnswer(question, { code: 'NOERROR', flags: 0, ...sections }, 512));
  assert.deepEqual(
    decoded.answers!.map((record) => [record.name, (record as { data: unknown }).data]),
    [
      ['www.example.org', 'web.example.org'],
      ['web.example.org', '1.2.3.4'],
    ],
  );
  assert.equal(decoded.authorities![0]!.name, 'example.org');
});

test('what is no ordinary question is answered so, or not at all', () => {
  const plain = query('a.b');
  const with16 = (at: number, value: number): Buffer => {
    const copy = Buffer.from(plain);
    copy.writeUInt16BE(value, at);
    return copy;
  };
  assert.deepEqual(
    [
      parseDnsQuery(Buffer.alloc(5)),
      parseDnsQuery(with16(2, 0x8000)),
      parseDnsQuery(with16(2, 0x2800)),
      parseDnsQuery(with16(4, 2)),
      parseDnsQuery(plain.subarray(0, 14)),
    ],
    [undefined, undefined, 'NOTIMP', 'FORMERR', 'FORMERR'],
  );
  const pointer = Buffer.concat([plain.subarray(0, 12), Buffer.from([0xc0, 12, 0, 1, 0, 1])]);
  assert.equal(parseDnsQuery(pointer), 'FORMERR', 'a question that points at itself');
  assert.equal(dnsFailure(with16(2, 0x2800), 'NOTIMP').readUInt16BE(2) & 15, dnsCode.NOTIMP);
  assert.equal(parse(query('a')).type, 'A');
});

test('an answer of somebody else is cut between two records', () => {
  const name = 'example.org';
  const long = encodeDnsAnswer(
    parse(query(name)),
    { code: 'NOERROR', flags: 0, answers: addresses(name, 200) },
    65_000,
  );
  const cut = cutDnsAnswer(long, 512);
  const decoded = dnsPacket.decode(cut);
  assert.ok(cut.length <= 512 && decoded.flag_tc && decoded.answers!.length > 25);
  assert.equal(cutDnsAnswer(long, 65_000), long);
  assert.ok(cutDnsAnswer(Buffer.concat([long.subarray(0, 12), Buffer.alloc(600, 0xff)]), 512).length <= 512);
});

test('an answer belongs to the question with its number and its very words', () => {
  const asked = query('a.example.org');
  const answer = encodeDnsAnswer(parse(asked), { code: 'NOERROR', flags: 0, answers: [] }, 512);
  assert.equal(isDnsAnswerTo(asked, answer), true);
  const other = Buffer.from(answer);
  other.writeUInt16BE(78, 0);
  assert.equal(isDnsAnswerTo(asked, other), false);
  assert.equal(
    isDnsAnswerTo(
      asked,
      encodeDnsAnswer(parse(query('b.example.org')), { code: 'NOERROR', flags: 0, answers: [] }, 512),
    ),
    false,
  );
  assert.equal(isDnsAnswerTo(asked, asked), false, 'a question is no answer');
});
