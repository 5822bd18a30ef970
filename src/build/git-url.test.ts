import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gitSource, isGitUrl } from './git-url.ts';

test('a repository is told by its form, and what is wanted of it by fragment and query', () => {
  for (const text of ['https://h/r.git', 'https://h/r.git?ref=x', 'https://h/r.git#v1:d', 'git@h:r', 'ssh://h/r'])
    assert.equal(isGitUrl(text), true, text);
  for (const text of ['https://h/r', 'https://h/x.git/file', 'dir/r.git']) assert.equal(isGitUrl(text), false, text);
  for (const [url, identifier, attributes] of [
    ['https://h/r.git#v1:docs', 'git://h/r.git#v1:docs', {}],
    ['https://h/r.git?tag=v1&subdir=docs', 'git://h/r.git#refs/tags/v1:docs', {}],
    ['https://h/r.git?branch=b&keep-git-dir', 'git://h/r.git#refs/heads/b', { 'git.keepgitdir': 'true' }],
    [
      'https://h/r.git?submodules=false&mtime=commit',
      'git://h/r.git',
      { 'git.skipsubmodules': 'true', 'git.mtime': 'commit' },
    ],
    ['https://h/r.git?commit=0123abc', 'git://h/r.git', { 'git.checksum': '0123abc' }],
  ] as const)
    assert.deepEqual(gitSource(url), {
      kind: 'source',
      identifier,
      attributes: { 'git.fullurl': 'https://h/r.git', ...attributes },
    });
});

test('what contradicts itself or is not known is refused', () => {
  for (const [query, expected] of [
    ['tag=a#b', /ref conflicts: "b" vs "refs\/tags\/a"/],
    ['tag=a&branch=b', /branch conflicts with tag/],
    ['ref=a&ref=b', /query "ref" has multiple values/],
    ['ref=', /query "ref" has no value/],
    ['submodules=maybe', /invalid submodules value/],
    ['what=x', /unexpected query "what"/],
  ] as const)
    assert.throws(() => gitSource(`https://h/r.git?${query}`), expected, query);
});
