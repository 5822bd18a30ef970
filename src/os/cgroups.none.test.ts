import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { createProcessGroups } from './cgroups.none.ts';

test('a container’s processes are those below its monitor, and end together', async () => {
  const monitor = spawn('sh', ['-c', 'sh -c "sleep 100 & echo $$; exec sleep 101" & wait'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const stranger = spawn('sleep', ['102'], { stdio: 'ignore' });
  try {
    await once(monitor.stdout, 'data');
    const groups = createProcessGroups();
    assert.deepEqual(groups.pids('/one'), []);
    groups.adopt('/one', { pid: 0, monitorPid: monitor.pid! });
    const pids = groups.pids('/one');
    assert.equal(pids.length, 2);
    assert.ok(!pids.includes(monitor.pid!) && !pids.includes(stranger.pid!));
    const ended = once(monitor, 'exit');
    groups.killAll('/one');
    await ended;
    assert.equal(stranger.exitCode, null);
    assert.ok(groups.remove('/one'));
    assert.deepEqual(groups.pids('/one'), []);
  } finally {
    for (const child of [monitor, stranger]) child.kill('SIGKILL');
  }
});
