import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkHealthTimes, checkHostConfig, mergeHealthCheck } from './create-checks.ts';
import { anyHost } from './host-facts.ts';
import type { HostConfigBody } from './create-body.ts';
import { checkShape, createShape, networkShape } from './shapes.ts';

const refuse = (body: unknown, pattern: RegExp): void =>
  assert.throws(
    () => checkShape(body, createShape, 'CreateRequest'),
    (error: Error & { code?: number }) => error.code === 400 && pattern.test(error.message),
  );

test('a field of another type is refused with its path and both types', () => {
  refuse(
    { HostConfig: { Memory: '1g' } },
    /cannot unmarshal string into Go struct field CreateRequest\.HostConfig\.Memory of type int64$/,
  );
  refuse({ Env: 'A=1' }, /CreateRequest\.Env of type \[\]string$/);
  refuse({ Labels: ['a'] }, /cannot unmarshal array .*CreateRequest\.Labels of type map\[string\]string$/);
  refuse(
    { HostConfig: { PortBindings: { '80/tcp': [{ HostPort: 80 }] } } },
    /cannot unmarshal number .*HostPort of type string$/,
  );
});

test('null is absence, unknown fields are passed over, and a command may be a string', () => {
  checkShape(
    { Env: null, HostConfig: null, Cmd: 'echo', Entrypoint: ['a'], Whatever: { x: [1] }, HostConfig2: 5 },
    createShape,
    'CreateRequest',
  );
  checkShape({ Name: 'n', IPAM: { Config: [{ Subnet: '10.0.0.0/8' }] } }, networkShape, 'CreateRequest');
});

test("a request without a test of its own keeps the image's check and changes its times", () => {
  const image = { Test: ['CMD', 'true'], Interval: 5_000_000_000, Retries: 2 };
  assert.deepEqual(mergeHealthCheck(undefined, image), image);
  assert.deepEqual(mergeHealthCheck({ Interval: 1_000_000_000, Retries: 0 }, image), {
    ...image,
    Interval: 1_000_000_000,
  });
  assert.deepEqual(mergeHealthCheck({ Test: ['NONE'] }, image), { ...image, Test: ['NONE'] });
  assert.throws(() => checkHealthTimes({ Interval: 10 }), /Interval in Healthcheck cannot be less than 1ms/);
});

test('what this engine does not have is refused, not passed over', () => {
  const cases: [HostConfigBody, RegExp][] = [
    [{ LogConfig: { Type: 'splunk' } }, /no log driver named 'splunk'/],
    [{ LogConfig: { Type: 'json-file', Config: { foo: '1' } } }, /unknown log opt 'foo' for json-file log driver/],
    [{ Runtime: 'foo' }, /unknown or invalid runtime name: foo/],
    [{ NanoCpus: 1e15 }, /range of CPUs is from 0\.01 to/],
  ];
  for (const [host, pattern] of cases)
    assert.throws(() => checkHostConfig(host, { ...anyHost, processors: 2 }), pattern);
  checkHostConfig({
    LogConfig: { Type: 'json-file', Config: { 'max-size': '10m', 'max-file': '3' } },
    Runtime: 'runc',
  });
});

test('a field named as something of the language is passed over', () => {
  for (const name of ['constructor', 'toString', '__proto__', 'hasOwnProperty'])
    checkShape(
      JSON.parse(`{"HostConfig":{"${name}":{"prototype":1}},"Labels":{"${name}":"x"}}`),
      createShape,
      'CreateRequest',
    );
  refuse(
    JSON.parse('{"Labels":{"constructor":1}}'),
    /cannot unmarshal number into Go struct field CreateRequest\.Labels\.constructor of type string/,
  );
});

test('integers have 64 bits', () => {
  for (const value of [1e30, -1e30, 2 ** 64, Infinity])
    refuse(
      { HostConfig: { Memory: value } },
      /cannot unmarshal number .*into Go struct field CreateRequest\.HostConfig\.Memory of type int64/,
    );
  checkShape({ HostConfig: { Memory: 2 ** 53, PidsLimit: -1 } }, createShape, 'CreateRequest');
});
