/** What stands in the way of joining, in words that help. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { subnetOf } from '#base/ip.ts';
import { createCertificateAuthority, renewCertificateAuthority } from '#base/x509.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { clockProblem, rangeProblem, versionProblem } from './join-checks.ts';
import { authorityHashOf, formatJoinToken, parseJoinToken } from './join-token.ts';

test('a clock that is off is told by how much, and how it is set', () => {
  const now = Date.parse('2026-01-01T12:00:00Z');
  assert.equal(clockProblem(now, now + 200_000), undefined);
  assert.equal(clockProblem(now, Number.NaN), undefined, 'a server that does not say it');
  assert.match(clockProblem(now, now + 3_600_000) ?? '', /60 min behind the server's.*timedatectl/);
  assert.match(clockProblem(now + 3_600_000, now) ?? '', /60 min ahead of the server's.*timedatectl/);
});

test('a kubelet may be three minor versions older than the API server, and not newer', () => {
  for (const own of ['v1.37.2', 'v1.37.0', 'v1.34.9']) assert.equal(versionProblem(own, 'v1.37.1'), undefined, own);
  assert.match(versionProblem('v1.33.0', 'v1.37.1') ?? '', /too old .*at most 3 minor versions older/);
  assert.match(versionProblem('v1.38.0', 'v1.37.1') ?? '', /newer .*upgrade the server first/);
  assert.match(versionProblem('v2.0.0', 'v1.37.1') ?? '', /newer/);
  assert.match(versionProblem('v1.37.2', 'soon') ?? '', /no version/);
});

test('a range that this machine uses is named, with what uses it', () => {
  const cluster = { podRange: '10.244.0.0/16', serviceRange: '10.96.0.0/16' };
  assert.equal(rangeProblem(cluster, ['192.0.2.0/24', '172.17.0.0/16'].map(subnetOf)), undefined);
  assert.match(rangeProblem(cluster, [subnetOf('10.244.3.0/24')]) ?? '', /Pod range .*overlaps 10\.244\.3\.0\/24/);
  assert.match(rangeProblem(cluster, [subnetOf('10.0.0.0/8')]) ?? '', /overlaps 10\.0\.0\.0\/8/);
  assert.match(rangeProblem(cluster, [subnetOf('10.96.0.1/32')]) ?? '', /Service range .*--service-range/);
});

test('the hash of an authority stays when its certificate is renewed, and the token carries it', () => {
  const ca = createCertificateAuthority('a', realRandom, realClock);
  const authorityHash = authorityHashOf(ca.certificatePem);
  assert.equal(authorityHashOf(renewCertificateAuthority(ca, realRandom, realClock).certificatePem), authorityHash);
  assert.notEqual(
    authorityHashOf(createCertificateAuthority('a', realRandom, realClock).certificatePem),
    authorityHash,
  );
  const token = { token: 'abcdef.0123456789abcdef', authorityHash };
  assert.deepEqual(parseJoinToken(` ${formatJoinToken(token)}\n`), token);
  for (const text of ['', token.token, `${token.token}@sha256:12`, `${formatJoinToken(token)}0`])
    assert.throws(() => parseJoinToken(text), /tiphys token create/, text);
});
