/** OCI runtimes by name: `--add-runtime`, `--runtime`, the default one. */
import assert from 'node:assert/strict';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { linuxProcesses } from '#os/processes.linux.ts';
import { importBusybox, makeDaemon } from './daemon.ts';

test('a runtime of the configuration runs, with its arguments, and is shown; others are refused by name', async (t) => {
  const daemon = await makeDaemon(t);
  const own = linuxProcesses.find('crun') ?? linuxProcesses.find('runc');
  assert.ok(own);
  const program = `${daemon.home}/noted`;
  const calls = `${daemon.home}/calls`;
  const file = `${daemon.home}/daemon.json`;
  writeFileSync(
    program,
    `#!/bin/sh\necho "$@" >> ${calls}\nwhile [ "$1" != "\${1#--note}" ]; do shift; done\nexec ${own} "$@"\n`,
  );
  chmodSync(program, 0o755);
  const runtimes = { noted: { path: program, runtimeArgs: ['--note=a b', "--note='"] }, gone: { path: '/nowhere/x' } };
  writeFileSync(file, JSON.stringify({ runtimes }));
  await daemon.start([`--config-file=${file}`, `--add-runtime=plain=${own}`]);
  await importBusybox(daemon);
  const { ok } = daemon;
  assert.match(
    await ok('info', '-f', '{{json .Runtimes}}'),
    /"noted":{"path":"[^"]*\/noted","runtimeArgs":\["--note=a b",/,
  );
  assert.equal(await ok('info', '-f', '{{.DefaultRuntime}}'), 'runc');
  await ok('run', '-d', '--name', 'one', '--runtime', 'noted', 'busybox', 'sleep', '1000');
  assert.equal(await ok('exec', 'one', 'echo', 'there'), 'there');
  assert.equal(await ok('inspect', '-f', '{{.HostConfig.Runtime}}', 'one'), 'noted');
  assert.match(readFileSync(calls, 'utf8'), /^--note=a b --note=' .*create .*\n(.*\n)*--note=a b --note=' .*exec /m);
  assert.equal(await ok('run', '--rm', '--runtime', 'plain', 'busybox', 'echo', 'plain'), 'plain');
  const unknown = await daemon.docker('run', '--rm', '--runtime', 'io.containerd.kata.v2', 'busybox', 'true');
  assert.match(unknown.stderr, /unknown or invalid runtime name: io\.containerd\.kata\.v2/);
  const gone = await daemon.docker('run', '--rm', '--runtime', 'gone', 'busybox', 'true');
  assert.match(
    gone.stderr,
    /looking up the specified runtime path: exec: "\/nowhere\/x": stat \/nowhere\/x: no such file/,
  );

  await daemon.end('SIGKILL');
  await daemon.start([`--config-file=${file}`, '--default-runtime=noted']);
  assert.equal(await ok('exec', 'one', 'echo', 'still'), 'still');
  await ok('run', '--name', 'two', 'busybox', 'true');
  assert.equal(await ok('inspect', '-f', '{{.HostConfig.Runtime}}', 'two'), 'noted');
  await daemon.end('SIGTERM');
  await daemon.start();
  assert.match((await daemon.docker('start', 'two')).stderr, /unknown or invalid runtime name: noted/);
});

const runc = linuxProcesses.find('runc');

// A host needs one of the two: that is not a test that was left out.
if (runc !== undefined) {
  test('runc runs beside crun', async (t) => {
    const daemon = await makeDaemon(t);
    await daemon.start([`--add-runtime=real=${runc}`]);
    await importBusybox(daemon);
    await daemon.ok('run', '-d', '--name', 'one', '--runtime', 'real', 'busybox', 'sleep', '1000');
    assert.equal(await daemon.ok('exec', 'one', 'echo', 'there'), 'there');
    const { stdout, stderr } = await daemon.docker('exec', '-t', 'one', 'true');
    assert.match(stdout + stderr, /a terminal for exec needs crun/);
    await daemon.ok('restart', '-t', '0', 'one');
    const stopped = await daemon.docker('run', '--runtime', 'real', 'busybox', '/no/such');
    assert.equal(stopped.code, 127, stopped.stderr);
  });
}
