import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { extraAttributes, tagOf } from './attributes.ts';
import { fluentdMessage } from './fluentd.ts';
import { gelfChunks, gelfMessage } from './gelf.ts';
import { journalFields } from './journald.ts';
import { packEventTime, packString, readAck } from './msgpack.ts';
import { checkLogOptions } from './options.ts';
import type { LogInfo, LogRecord } from './sink.ts';
import { formatSyslog } from './syslog.ts';
import { expandTemplate } from './template.ts';

function info(driver: string, options: Record<string, string>): LogInfo {
  return {
    driver,
    options,
    id: 'ab12'.repeat(16),
    name: 'web',
    imageId: `sha256:${'cd'.repeat(32)}`,
    imageName: 'busybox:1',
    command: ['sh', '-c', 'true'],
    createdAtMs: 0,
    env: ['STAGE=test', 'SECRET=x'],
    labels: { team: 'blue', 'team.lead': 'ann' },
    hostname: 'host',
  };
}
const record: LogRecord = { stream: 'stderr', timestamp: '2026-01-02T03:04:05.123456789Z', data: Buffer.from('héllo') };

test('tags are Go templates of fields, functions and pipes', () => {
  const fields = { Name: 'web', ID: 'ab12', Empty: '' };
  const cases: [string, string][] = [
    ['{{.Name}}/{{ .ID }}', 'web/ab12'],
    ['a {{- .Name -}} b', 'awebb'],
    ['{{ .Name | upper }}', 'WEB'],
    ['{{ upper .Name | printfless }}', ''],
    ['{{ truncate .ID 2 }}', 'ab'],
    ['{{ pad .Name 1 2 }}|', ' web  |'],
    ['{{ join (1) "x" }}', ''],
    ['{{ split "a,b" "," }}', '[a b]'],
    ['{{ index (x) 1 }}', ''],
    ['{{ json .Name }}', '"web"'],
    ['{{/* said */}}x', 'x'],
    ['plain', 'plain'],
  ];
  for (const [template, expected] of cases)
    if (expected === '') assert.throws(() => expandTemplate(template, fields), { message: /^template: log-tag:1: / });
    else assert.equal(expandTemplate(template, fields), expected, template);
  for (const template of ['{{.Nope}}', '{{.Name', '{{if .Name}}x{{end}}', '{{}}', '{{ .__proto__ }}'])
    assert.throws(() => expandTemplate(template, fields), { message: /^template: / }, template);
  assert.equal(tagOf(info('syslog', {})), 'ab12ab12ab12');
  assert.equal(tagOf(info('syslog', { tag: '{{.ImageName}}/{{.Name}}/{{.ID}}' })), 'busybox:1/web/ab12ab12ab12');
});

test('labels and variables are picked by name and by expression', () => {
  const all = { labels: 'team', env: 'STAGE,NONE', 'labels-regex': '^team\\.', 'env-regex': '' };
  assert.deepEqual(extraAttributes(info('x', all)), { team: 'blue', 'team.lead': 'ann', STAGE: 'test' });
});

test('syslog lines have each format’s head', () => {
  const format = (options: Record<string, string>): string =>
    formatSyslog(info('syslog', { tag: 't', ...options }), 't', record, 7).toString();
  const zone = process.env['TZ'] ?? '';
  assert.match(format({}), /^<27>Jan {2}[12] \d\d:\d\d:05 t\[7\]: héllo\n$/, zone);
  assert.match(
    format({ 'syslog-format': 'rfc3164', 'syslog-facility': 'local7' }),
    /^<187>Jan .* host t\[7\]: héllo\n$/,
  );
  assert.match(
    format({ 'syslog-format': 'rfc5424', 'syslog-facility': '1' }),
    /^<11>1 2026-01-0\dT\S+:05(Z|[+-]\d\d:\d\d) host t 7 t - héllo\n$/,
  );
  assert.match(format({ 'syslog-format': 'rfc5424micro' }), /:05\.123456(Z|[+-]\d\d:\d\d) host/);
  const framed = format({ 'syslog-format': 'rfc5424', 'syslog-address': 'tcp+tls://h:1' });
  const [, length = '', rest = ''] = /^(\d+) ([^]*)$/.exec(framed) ?? [];
  assert.equal(Buffer.byteLength(rest), Number(length));
});

test('GELF messages have the container’s facts, and long ones come in chunks that make them whole', () => {
  const message = gelfMessage(info('gelf', { env: 'STAGE' }), record);
  const shown: Record<string, unknown> = JSON.parse(message.toString());
  assert.deepEqual(
    [
      shown['version'],
      shown['short_message'],
      shown['level'],
      shown['timestamp'],
      shown['_container_name'],
      shown['_STAGE'],
    ],
    ['1.1', 'héllo', 3, 1767323045.123, 'web', 'test'],
  );
  assert.equal(gelfChunks(message, Buffer.alloc(8)).length, 1);
  const long = Buffer.alloc(10_000, 7);
  const chunks = gelfChunks(long, Buffer.alloc(8, 1));
  assert.equal(chunks.length, 8);
  assert.deepEqual([...chunks[3]!.subarray(0, 12)], [0x1e, 0x0f, 1, 1, 1, 1, 1, 1, 1, 1, 3, 8]);
  assert.ok(chunks.every((chunk) => chunk.length <= 1420));
  assert.deepEqual(Buffer.concat(chunks.map((chunk) => chunk.subarray(12))), long);
  assert.deepEqual(gelfChunks(Buffer.alloc(1_000_000), Buffer.alloc(8)), []);
  assert.throws(() => gunzipSync(message));
});

test('the forward protocol’s bytes are MessagePack’s', () => {
  assert.deepEqual([...packString('ab')], [0xa2, 0x61, 0x62]);
  assert.deepEqual([...packString('x'.repeat(40)).subarray(0, 2)], [0xd9, 40]);
  assert.deepEqual([...packString('x'.repeat(300)).subarray(0, 3)], [0xda, 1, 44]);
  assert.deepEqual([...packEventTime(1, 2)], [0xd7, 0, 0, 0, 0, 1, 0, 0, 0, 2]);
  const message = fluentdMessage(info('fluentd', { tag: 't' }), record);
  assert.deepEqual([...message.subarray(0, 3)], [0x94, 0xa1, 0x74]);
  assert.equal(message[3], 0xce);
  assert.equal(message.readUInt32BE(4), 1767323045);
  assert.equal(message[8], 0x84);
  assert.equal(message.at(-1), 0x80);
  const precise = fluentdMessage(info('fluentd', { 'fluentd-sub-second-precision': 'true', tag: 't' }), record, 'c');
  assert.equal(precise.readUInt32BE(9), 123_456_789);
  const ack = Buffer.concat([Buffer.of(0x81), packString('ack'), packString('some-chunk')]);
  assert.equal(readAck(ack), 'some-chunk');
  for (let at = 0; at < ack.length; at++) assert.equal(readAck(ack.subarray(0, at)), undefined);
  assert.equal(readAck(Buffer.from('nonsense!')), '');
});

test('journal fields with a newline carry their length', () => {
  const text = journalFields(
    info('journald', { labels: 'team' }),
    { ...record, data: Buffer.from('a\nb') },
    {
      epoch: 'e',
      ordinal: 3,
    },
  ).toString('latin1');
  assert.ok(text.startsWith('MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\nPRIORITY=3\nCONTAINER_ID=ab12ab12ab12\n'));
  assert.match(text, /\nTEAM=blue\n/);
  assert.match(text, /\nCONTAINER_LOG_ORDINAL=3\n/);
});

test('options are checked in docker’s words', () => {
  const wrong: [string, Record<string, string>, RegExp][] = [
    ['awslogs', {}, /^logger: no log driver named 'awslogs' is registered$/],
    ['splunk', {}, /named 'splunk' is registered/],
    ['__proto__', {}, /named '__proto__' is registered/],
    ['json-file', { nope: '1' }, /^unknown log opt 'nope' for json-file log driver$/],
    ['local', { labels: 'a' }, /^unknown log opt 'labels' for log driver local$/],
    ['gelf', { 'gelf-address': 'udp://h:1', nope: '1' }, /^unknown log opt "nope" for gelf log driver$/],
    ['gelf', {}, /^gelf-address is a required parameter$/],
    ['gelf', { 'gelf-address': 'http://h:1' }, /^gelf: endpoint needs to be TCP or UDP$/],
    ['gelf', { 'gelf-address': 'udp://h' }, /^gelf: please provide gelf-address as proto:\/\/host:port$/],
    [
      'gelf',
      { 'gelf-address': 'tcp://h:1', 'gelf-compression-type': 'gzip' },
      /^compression is only supported on UDP$/,
    ],
    ['gelf', { 'gelf-address': 'udp://h:1', 'gelf-compression-type': 'xz' }, /^unknown value "xz" for log opt/],
    ['gelf', { 'gelf-address': 'udp://h:1', 'gelf-tcp-max-reconnect': '3' }, /is only valid for TCP$/],
    ['syslog', { 'syslog-address': 'http://h' }, /^unsupported scheme: 'http'$/],
    ['syslog', { 'syslog-address': 'unix:///nope' }, /^stat \/nope: no such file or directory$/],
    ['syslog', { 'syslog-facility': 'loud' }, /^invalid syslog facility$/],
    ['syslog', { 'syslog-facility': '24' }, /^invalid syslog facility$/],
    ['syslog', { 'syslog-format': 'x' }, /^Invalid syslog format$/],
    [
      'fluentd',
      { 'fluentd-address': 'http://h' },
      /^invalid fluentd-address \(http:\/\/h\): unsupported scheme: 'http'$/,
    ],
    ['fluentd', { 'fluentd-async': 'maybe' }, /strconv.ParseBool: parsing "maybe": invalid syntax/],
    ['fluentd', { 'fluentd-max-retries': '-1' }, /strconv.ParseUint/],
    ['journald', { nope: '1' }, /^unknown log opt 'nope' for journald log driver$/],
    ['json-file', { mode: 'fast' }, /^logger: logging mode not supported: fast$/],
    [
      'json-file',
      { 'max-buffer-size': '1m' },
      /^logger: max-buffer-size option is only supported with 'mode=non-blocking'$/,
    ],
    [
      'json-file',
      { mode: 'non-blocking', 'max-buffer-size': 'x' },
      /^error parsing option max-buffer-size: invalid size: 'x'$/,
    ],
    [
      'json-file',
      { compress: 'true' },
      /^compress cannot be true when max-file is less than 2 or max-size is not set$/,
    ],
    ['json-file', { 'max-size': '0' }, /^max-size must be a positive number$/],
    ['json-file', { 'max-file': '0' }, /^max-file cannot be less than 1$/],
    ['syslog', { 'cache-disabled': 'x' }, /^invalid value for option cache-disabled: x$/],
    ['json-file', { 'cache-size': '1' }, /^unknown log opt 'cache-size'/],
  ];
  for (const [driver, options, message] of wrong) assert.throws(() => checkLogOptions(driver, options), { message });
  checkLogOptions('none', { anything: 'goes' });
  // Options of the cache are no driver's own: a daemon has them beside its default one.
  checkLogOptions('json-file', { 'cache-disabled': 'true' });
  checkLogOptions('syslog', {
    'syslog-address': 'tcp+tls://h',
    'syslog-facility': 'local3',
    'cache-max-size': '1m',
    mode: 'non-blocking',
    'max-buffer-size': '4m',
  });
  checkLogOptions('json-file', {
    'max-size': '10k',
    'max-file': '3',
    compress: 'true',
    labels: 'a',
    env: 'b',
    tag: 'c',
  });
});
