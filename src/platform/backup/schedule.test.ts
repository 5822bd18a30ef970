/** When a scheduled backup is due, which ones stay, and what is kept of them. */
import { it } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { backupRetryMs } from '../limits.ts';
import { files, type Paths } from '../paths.ts';
import {
  endSchedule,
  loadResult,
  loadSchedule,
  nextBackupMs,
  outdated,
  saveResult,
  saveSchedule,
  scheduledName,
  type BackupSchedule,
} from './schedule.ts';

const hour = 3_600_000;
const schedule: BackupSchedule = {
  target: '/backups',
  everyMs: 6 * hour,
  keep: 2,
  lock: { passphrase: 'correct horse' },
  images: ['app:1'],
};

it('a backup is due at once, then after its time, sooner where it failed, and whatever the clock was', () => {
  const at = 1_800_000_000_000;
  assert.equal(nextBackupMs(schedule, undefined, at), at);
  assert.equal(nextBackupMs(schedule, { begunAtMs: at, endedAtMs: at + 9 }, at + hour), at + 6 * hour);
  const soon = at + backupRetryMs;
  assert.equal(nextBackupMs(schedule, { begunAtMs: at, endedAtMs: at + 9, error: 'full' }, at + hour), soon);
  assert.equal(nextBackupMs(schedule, { begunAtMs: at }, at + hour), soon, 'nobody said how it ended');
  assert.equal(nextBackupMs({ ...schedule, everyMs: 1000 }, { begunAtMs: at, error: 'x' }, at), at + 1000);
  assert.equal(nextBackupMs(schedule, { begunAtMs: at, endedAtMs: at + 9 }, at - hour), at - hour);
});

it('the newest of the own backups stay, and all that is not the own', () => {
  const names = [1, 2, 3, 4].map((day) => scheduledName('ab12', Date.UTC(2026, 0, day, 3, 4, 5, 678)));
  assert.equal(names[0], 'tiphys-ab12-20260101T030405Z.age');
  const others = [
    'tiphys-ffff-20250101T030405Z.age',
    'mine.age',
    'tiphys-ab12-20250101T030405Z.age.bak',
    'tiphys-ab12-x.age',
  ];
  assert.deepEqual(outdated([...others, ...names.toReversed()], 'ab12', 2), names.slice(0, 2));
  assert.deepEqual(outdated(names, 'ab12', 9), []);
});

it('what is scheduled is kept, for root alone, and a newer format is refused', () => {
  const data = mkdtempSync(join(tmpdir(), 'tiphys-schedule-'));
  const paths: Paths = { home: undefined, data, run: data };
  try {
    assert.equal(loadSchedule(paths), undefined);
    const access = { endpoint: 'http://x', region: 'r', accessKeyId: 'A', secretAccessKey: 'a' };
    for (const each of [schedule, { ...schedule, lock: { recipients: ['age1x'] }, images: 'all' as const, access }]) {
      saveSchedule(paths, each);
      assert.deepEqual(loadSchedule(paths), each);
    }
    assert.equal(statSync(files.backupSchedule(paths)).mode & 0o777, 0o600);
    const result = { begunAtMs: 1, endedAtMs: 2, name: 'x', bytes: 3, revision: 4, leftOut: 0, lastGoodAtMs: 1 };
    saveResult(paths, result);
    assert.deepEqual(loadResult(paths), result);
    saveSchedule(paths, schedule);
    assert.equal(loadResult(paths), undefined, 'another target, another beginning');
    assert.equal(endSchedule(paths), true);
    assert.equal(endSchedule(paths), false);
    writeFileSync(files.backupSchedule(paths), JSON.stringify({ format: 2 }));
    assert.throws(() => loadSchedule(paths), /newer version of Tiphys \(format 2\)/);
    writeFileSync(files.backupSchedule(paths), '{}');
    assert.throws(() => loadSchedule(paths), /damaged/);
  } finally {
    rmSync(data, { recursive: true });
  }
});
