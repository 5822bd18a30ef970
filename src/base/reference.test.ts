import assert from 'node:assert/strict';
import { test } from 'node:test';
import { canonicalName, familiarName, parseReference, withDefaultTag } from './reference.ts';

const digest = `sha256:${'a'.repeat(64)}`;

test('names are completed as docker completes them', () => {
  const cases: [string, string, string][] = [
    ['busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
    ['busybox:1.36', 'docker.io/library/busybox:1.36', 'busybox:1.36'],
    ['user/app', 'docker.io/user/app:latest', 'user/app:latest'],
    ['docker.io/busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
    ['index.docker.io/library/busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
    ['127.0.0.1:5000/app:v1', '127.0.0.1:5000/app:v1', '127.0.0.1:5000/app:v1'],
    ['localhost/app', 'localhost/app:latest', 'localhost/app:latest'],
    ['[::1]:5000/a/b', '[::1]:5000/a/b:latest', '[::1]:5000/a/b:latest'],
    [
      'registry.k8s.io/e2e-test-images/agnhost:2.66.1',
      'registry.k8s.io/e2e-test-images/agnhost:2.66.1',
      'registry.k8s.io/e2e-test-images/agnhost:2.66.1',
    ],
    [`busybox@${digest}`, `docker.io/library/busybox@${digest}`, `busybox@${digest}`],
    [`busybox:1@${digest}`, `docker.io/library/busybox:1@${digest}`, `busybox:1@${digest}`],
    ['a__b/c-d.e', 'docker.io/a__b/c-d.e:latest', 'a__b/c-d.e:latest'],
  ];
  for (const [text, canonical, familiar] of cases) {
    const reference = withDefaultTag(parseReference(text));
    assert.equal(canonicalName(reference), canonical);
    assert.equal(familiarName(reference), familiar);
  }
});

test("what is no name is refused with docker's words", () => {
  for (const text of [
    '',
    ':',
    'a:',
    'a b',
    '-a',
    'a/',
    '/a',
    'a//b',
    'a:b:c',
    'a@sha256:short',
    'a..b',
    'a/b:-tag',
    `a:${'t'.repeat(129)}`,
  ])
    assert.throws(() => parseReference(text), /invalid reference format|invalid checksum/, text);
  assert.throws(
    () => parseReference('Foo'),
    /invalid reference format: repository name \(library\/Foo\) must be lowercase/,
  );
  assert.throws(() => parseReference('a'.repeat(64)), /cannot specify 64-byte hexadecimal strings/);
  assert.throws(() => parseReference(`a/${'b'.repeat(300)}`), /must not be more than 255 characters/);
});
