import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { planEnvironment } from './bundle.ts';
import { parseCapabilityMask, planCapabilities } from './capabilities.ts';
import { resolveInRoot } from './root-path.ts';
import { explainRuntimeError } from './runtime-errors.ts';
import { planSeccomp } from './seccomp.ts';
import { resolveUser } from './user.ts';

const everything = parseCapabilityMask('1ffffffffff');

function withRoot(run: (root: string) => void): void {
  const root = mkdtempSync(`${tmpdir()}/root-`);
  try {
    mkdirSync(`${root}/etc`);
    run(root);
  } finally {
    rmSync(root, { recursive: true });
  }
}

test("a container has docker's fourteen capabilities", () => {
  assert.equal(planCapabilities({ privileged: false, add: [], drop: [], available: everything }).length, 14);
});

test('dropping all and adding one leaves one; what the host lacks is left out', () => {
  assert.deepEqual(planCapabilities({ privileged: false, add: ['net_admin'], drop: ['ALL'], available: everything }), [
    'CAP_NET_ADMIN',
  ]);
  assert.deepEqual(
    planCapabilities({ privileged: false, add: ['ALL'], drop: ['ALL'], available: new Set(['CHOWN']) }),
    ['CAP_CHOWN'],
  );
});

test('an unknown capability is refused', () => {
  assert.throws(
    () => planCapabilities({ privileged: false, add: ['FLY'], drop: [], available: everything }),
    /invalid CapAdd: unknown capability: "CAP_FLY"/,
  );
  assert.throws(
    () => planCapabilities({ privileged: false, add: [], drop: ['cap_fly'], available: everything }),
    /invalid CapDrop: unknown capability: "CAP_FLY"/,
  );
});

test('a user is found by name, by number, and with the groups it is in', () =>
  withRoot((root) => {
    writeFileSync(`${root}/etc/passwd`, 'root:x:0:0:root:/root:/bin/sh\napp:x:100:101::/home/app:/bin/sh\n');
    writeFileSync(`${root}/etc/group`, 'staff:x:50:app\nother:x:60:\n');
    assert.deepEqual(resolveUser(root, 'app'), {
      uid: 100,
      gid: 101,
      additionalGids: [50],
      home: '/home/app',
      name: 'app',
    });
    assert.deepEqual(resolveUser(root, 'app', ['9'], true).additionalGids, [9], "strict: none of the image's own");
    assert.deepEqual(resolveUser(root, '7:other'), { uid: 7, gid: 60, additionalGids: [], home: '/', name: '7' });
    assert.throws(() => resolveUser(root, 'ghost'), /unable to find user ghost: no matching entries in passwd file/);
  }));

test("a link in a container's root does not lead out of it", () =>
  withRoot((root) => {
    symlinkSync('/../../../../etc', `${root}/out`);
    symlinkSync('loop', `${root}/loop`);
    assert.equal(resolveInRoot(root, '/out/passwd'), `${root}/etc/passwd`);
    assert.equal(resolveInRoot(root, '../../x'), `${root}/x`);
    assert.throws(() => resolveInRoot(root, '/loop'), /too many links/);
  }));

test("the request's environment replaces the image's, and a bare name takes a variable away", () => {
  const env = planEnvironment({ env: ['A=2', 'B'], tty: false }, ['A=1', 'B=1', 'PATH=/x'], 'host', '/root');
  assert.deepEqual(env.sort(), ['A=2', 'HOME=/root', 'HOSTNAME=host', 'PATH=/x']);
});

test('the default profile answers ENOSYS for what is unknown and EPERM for what is refused', () => {
  const profile = planSeccomp(undefined, []) as {
    defaultErrnoRet: number;
    syscalls: { names: string[]; errnoRet?: number; action: string }[];
  };
  assert.equal(profile.defaultErrnoRet, 38);
  assert.equal(profile.syscalls.find((rule) => rule.names.includes('mount'))?.errnoRet, 1);
  assert.ok(profile.syscalls.some((rule) => rule.names.includes('openat') && rule.action === 'SCMP_ACT_ALLOW'));
});

test('a capability opens its system calls', () => {
  const profile = planSeccomp('default', ['CAP_SYS_ADMIN']) as { syscalls: { names: string[]; action: string }[] };
  assert.equal(profile.syscalls.find((rule) => rule.names.includes('mount'))?.action, 'SCMP_ACT_ALLOW');
  assert.equal(planSeccomp('unconfined', []), undefined);
});

test('a missing program is told in the words that make clients exit with 127', () => {
  assert.match(
    explainRuntimeError('crun', 'executable file `x` not found in $PATH: No such file or directory').message,
    /exec: "x": executable file not found in \$PATH/,
  );
  assert.match(
    explainRuntimeError(
      'runc',
      'time="x" level=error msg="runc create failed: unable to start container process: exec: \\"x\\": executable file not found in $PATH"',
    ).message,
    /: runc create failed: unable to start container process: exec: "x": executable file not found in \$PATH: unknown$/,
  );
  assert.match(
    explainRuntimeError('crun', 'open executable: Permission denied', '/etc').message,
    /exec: "\/etc": permission denied: unknown$/,
  );
});
