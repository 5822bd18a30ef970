import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planMaps } from './enter.ts';

const user = { uid: 1000, gid: 1001, username: 'ann' };
const passwd = 'root:x:0:0::/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\n';

test('the user is root, and his numbers follow', () => {
  const files = { passwd, group: '', subuid: 'ann:100000:65536\n1000:300000:10\n', subgid: 'ann:200000:65536\n' };
  assert.deepEqual(planMaps(files, user), {
    uids: [
      { inside: 0, outside: 1000, size: 1 },
      { inside: 1, outside: 100_000, size: 65_536 },
      { inside: 65_537, outside: 300_000, size: 10 },
    ],
    gids: [
      { inside: 0, outside: 1001, size: 1 },
      { inside: 1, outside: 200_000, size: 65_536 },
    ],
  });
});

test('who has no numbers is told what to type', () => {
  assert.throws(
    () => planMaps({ passwd, group: '', subuid: 'bob:100000:65536\n', subgid: '' }, user),
    /\/etc\/subuid has no numbers for ann: sudo usermod --add-subuids/,
  );
});
