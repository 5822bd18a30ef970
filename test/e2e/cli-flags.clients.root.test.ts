/**
 * The docker client's flags: each is tried by conformance/cli or has its reason not to be, and a few of those cases, the
 * ones that once failed, are carried out. The whole list: `conformance/cli/run SOCKET`.
 */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { test } from 'node:test';
import { fits, listUntried, parseCases, readCases, readExceptions, runCases } from '../../conformance/cli/cases.ts';
import { readCommands } from '../../conformance/cli/commands.ts';
import { importBusybox, makeDaemon } from './daemon.ts';

test('every flag of the docker client is tried by a case, or has a reason not to be', async () => {
  const commands = await readCommands('docker');
  assert.ok(commands.get('container run')!.has('--memory'));
  assert.deepEqual(listUntried(commands, readCases(), readExceptions()), []);
  commands.get('container run')!.add('--new-flag');
  commands.set('container new', new Set());
  assert.deepEqual(listUntried(commands, readCases(), readExceptions()), ['container new', 'container run --new-flag']);
});

test('a case is a heading, a script and what it prints', () => {
  const [first, second] = parseCases('# about\n\n== a {b,c} --d alone\nrun\n> x.\n>~ y|z\n');
  assert.deepEqual([first!.command, second!.command, first!.flags, first!.alone], ['a b', 'a c', ['--d'], true]);
  assert.equal(first!.script, 'run');
  assert.ok(fits('x.\nz', first!.expected));
  assert.ok(!fits('xx\nz', first!.expected));
});

const once = [
  'container create --uts',
  'container rm --force --link --volumes',
  'container stop --signal --timeout',
  'container update --blkio-weight',
  'network ls --filter',
  'volume ls --filter',
  'plugin ls --filter',
  'system prune --all',
];

test('what once differed from docker stays as it is there', async (t) => {
  const daemon = await makeDaemon(t);
  await daemon.start(['--default-address-pool=base=10.197.0.0/16,size=24']);
  await importBusybox(daemon);
  const cases = readCases().filter(({ title }) => once.some((begin) => title.startsWith(begin)));
  assert.equal(cases.length, once.length);
  const directory = `${daemon.home}/cases`;
  mkdirSync(directory);
  const setting = {
    client: 'docker',
    socket: `${daemon.home}/run/docker.sock`,
    directory,
    run: 'tcli',
    cgroupVersion: await daemon.ok('info', '-f', '{{.CgroupVersion}}'),
  };
  const results = await runCases(cases, setting, { atOnce: 3, report: () => undefined });
  assert.deepEqual(
    results.filter(({ passed }) => !passed).map((result) => `${result.case.title}: ${result.printed}`),
    [],
  );
});
