/** Which members a server asks, and what is said of them. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import type { ListedMember } from './admin.ts';
import { problemsOf } from './report.ts';
import { orderEndpoints } from './upkeep.ts';

const member = (name: string, isLearner = false): ListedMember => ({
  id: `1${name}`,
  name,
  peerUrls: [`https://${name}:2380`],
  clientUrls: name === '' ? [] : [`https://${name}:2379`],
  isLearner,
});
const own = { name: 'b', address: 'b', clientPort: 2379, peerPort: 2380, binary: 'etcd' };

test('a server asks its own member first once that has a vote, and learners never', () => {
  assert.deepEqual(orderEndpoints([member('a'), member('b'), member('c')], own), [
    'https://b:2379',
    'https://a:2379',
    'https://c:2379',
  ]);
  assert.deepEqual(orderEndpoints([member('a'), member('b', true)], own), ['https://a:2379']);
});

test('two servers are said to be no gain, one and three are fine, an alarm says what to do', () => {
  assert.deepEqual(problemsOf([member('a')], [], []), []);
  assert.deepEqual(problemsOf([member('a'), member('b'), member('c')], [], []), []);
  assert.match(problemsOf([member('a'), member('b', true)], [], []).join(), /no gain yet: without a the API/);
  assert.match(problemsOf([member('a'), member('b')], [], []).join(), /both must live/);
  assert.match(problemsOf([member('a')], [], [{ member: '1a', type: 'NOSPACE' }]).join(), /on a has no space.*NOSPACE/);
});
