import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isPodSysctlName, isSafeSysctl, sysctlNamespace, sysctlPath } from './sysctls.ts';

test('a parameter is namespaced by what it is, however its name is written', () => {
  assert.deepEqual(
    [
      'net.ipv4.ip_forward',
      'net/ipv4/ip_forward',
      'kernel.msgmax',
      'kernel/shmmax',
      'fs.mqueue.msg_max',
      'kernel.hostname',
    ].map(sysctlNamespace),
    ['network', 'network', 'ipc', 'ipc', 'ipc', 'uts'],
  );
  assert.equal(sysctlPath('net.ipv4.conf.eth0/1.forwarding'), 'net/ipv4/conf/eth0.1/forwarding');
  assert.equal(sysctlPath('net/ipv4/conf/eth0.1/forwarding'), 'net/ipv4/conf/eth0.1/forwarding');
});

test("what is the whole machine's has no namespace", () => {
  for (const name of [
    'vm.swappiness',
    'kernel.core_pattern',
    'kernel.shmmax.x',
    'fs.file-max',
    'kernel.sched_rt_runtime_us',
    'user.max_net_namespaces',
    'network.x',
    'net',
  ])
    assert.equal(sysctlNamespace(name), undefined, name);
});

test('a name that leaves its directory is none', () => {
  for (const name of [
    'net/../kernel/core_pattern',
    'net.ipv4.//.x',
    'net/ipv4/./x',
    '/net/x',
    'net//x',
    '../net/x',
    'net/ipv4/..',
    'net/x\0y',
    'net/a b',
    '',
    'net.ipv4./../x',
  ])
    assert.equal(sysctlNamespace(name), undefined, name);
});

test('the safe ones are safe in either writing, their neighbours are not', () => {
  assert.ok(isSafeSysctl('net.ipv4.tcp_rmem') && isSafeSysctl('net/ipv4/tcp_rmem'));
  for (const name of [
    'net.ipv4.tcp_mem',
    'kernel.msgmax',
    'net.core.somaxconn',
    'kernel.shmmax',
    'net.ipv4.tcp_rmem/..',
  ])
    assert.ok(!isSafeSysctl(name), name);
});

test("a Pod's names have the form that the API server asks for", () => {
  assert.deepEqual(
    ['kernel.msgmax', 'net/ipv4/x', 'Bad Name', 'a..b', '', '-a', `a${'.b'.repeat(127)}`].map(isPodSysctlName),
    [true, true, false, false, false, false, false],
  );
});
