import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseUsernsRemap } from './userns-remap.ts';

const files = {
  passwd: 'root:x:0:0::/root:/bin/sh\nann:x:1000:1001::/:\ndockremap:x:998:997::/:\nbare:x:1002:1002::/:\n',
  group: 'root:x:0:\nann:x:1001:\nstaff:x:50:ann\ndockremap:x:997:\nbare:x:1002:\n',
  subuid: 'ann:100000:65536\ndockremap:300000:65536\n1000:500000:10\nann:7:0\n',
  subgid: 'ann:200000:65536\n50:600000:5\ndockremap:400000:65536\n',
};
const range = (outside: number, size = 65_536, inside = 0): object => ({ inside, outside, size });

test('a user, a user and a group, names and numbers, and the default name ranges one after the other', () => {
  const ann = [range(100_000), range(500_000, 10, 65_536)];
  assert.deepEqual(parseUsernsRemap('ann', files), { uids: ann, gids: [range(200_000)] });
  assert.deepEqual(parseUsernsRemap('1000:50', files), { uids: ann, gids: [range(600_000, 5)] });
  assert.deepEqual(parseUsernsRemap('default', files), { uids: [range(300_000)], gids: [range(400_000)] });
  assert.equal(parseUsernsRemap('root', files), undefined);
});

test('who is not there, or has no range, is refused by name', () => {
  const refusals: [string, RegExp][] = [
    ['a:b:c', /invalid User\/Group specification in --userns-remap: "a:b:c"/],
    ['eve', /could not look up user "eve"/],
    ['ann:eves', /could not look up group "eves"/],
    ['bare', /no subuid ranges found for user "bare"/],
    ['ann:root', /no subgid ranges found for group "root"/],
  ];
  for (const [text, expected] of refusals) assert.throws(() => parseUsernsRemap(text, files), expected);
  assert.throws(() => parseUsernsRemap('default', { ...files, passwd: '' }), /there is no user dockremap/);
});
