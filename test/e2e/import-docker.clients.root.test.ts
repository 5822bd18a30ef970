/** `tiphys engine import-docker`, as people move from dockerd: on a directory as it leaves one, and on a real one's. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { realClock } from '#os/clock.real.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { makeDockerData } from '#platform/import/testing.ts';
import { packageRoot } from '#platform/paths.ts';
import { makeDaemon, type TestDaemon } from './daemon.ts';
import { run } from './machine.ts';

interface Imported {
  code: number | null;
  lines: string[];
}

/** `linesMax`: it is killed when it has said so many. */
async function importDocker(daemon: TestDaemon, directory: string, linesMax = Infinity): Promise<Imported> {
  const words = ['engine', 'import-docker', directory, '--config-file=/dev/null'];
  const child = spawn(join(packageRoot, 'tiphys'), words, {
    env: { ...process.env, TIPHYS_HOME: daemon.home },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString();
    if (text.split('\n').length > linesMax) child.kill('SIGKILL');
  });
  const { promise, resolve } = Promise.withResolvers<number | null>();
  child.once('close', resolve);
  return { code: await promise, lines: text.trimEnd().split('\n') };
}

test('killed after each thing that it takes over and done again, it leaves nothing double or half made', async (t) => {
  const source = makeDockerData(t);
  const daemon = await makeDaemon(t);
  let imported: Imported = { code: null, lines: [] };
  for (let linesMax = 1; imported.code === null; linesMax += 2)
    imported = await importDocker(daemon, source.directory, linesMax);
  await daemon.start();
  assert.equal(
    await daemon.ok('images', '--no-trunc', '--format', '{{.Repository}}:{{.Tag}} {{.ID}}'),
    `app:1 ${source.imageId}`,
  );
  assert.equal(
    await daemon.ok('ps', '-a', '--no-trunc', '--format', '{{.ID}} {{.Names}} {{.State}}'),
    `${source.containerId} one exited`,
  );
  assert.equal(await daemon.ok('volume', 'ls', '-q'), 'data');
  assert.equal(await daemon.ok('network', 'ls', '-qf', 'type=custom', '--no-trunc'), source.networkId);
  assert.equal(await daemon.ok('logs', 'one'), 'line');
  assert.equal(await daemon.ok('start', '-a', 'one'), 'keptwritten');
  const shown = await daemon.ok('run', '--rm', 'app:1', 'sh', '-c', 'cat /d/*; echo; ls /o; stat -c %u:%g:%h /d/owned');
  assert.equal(shown, 'ownedowned\nshown\n12:34:2');
  const refused = await importDocker(daemon, source.directory);
  assert.equal(refused.code, 1);
});

const hasDockerd = linuxProcesses.find('dockerd') !== undefined;

/** Links, owners, a set-group-id directory; of the image a file is gone, and a directory is another in its place. */
const fill = `cd /data; echo hi > f; ln f g; chown 5:6 f; mkdir s; chmod 2775 s; mkfifo p
rm /bin/true; rm -r /tmp; mkdir /tmp; echo new > /tmp/t; exit 3`;
const show = 'cd /data; stat -c "%n %u:%g %a %h" *; cat f; cd /; ls -A tmp; cat /tmp/t; ls /bin';

// Where there is none, nobody moves from it: that is not a test that was left out.
if (hasDockerd) {
  test('what a real dockerd made is the same here', async (t) => {
    const daemon = await makeDaemon(t);
    for (const applet of ['ln', 'chown', 'mkdir', 'chmod', 'mkfifo', 'rm', 'stat'])
      symlinkSync('busybox', join(daemon.home, 'image/bin', applet));
    const old = await startDockerd(t);
    const imported = await run('sh', [
      '-c',
      `tar -C ${daemon.home}/image -c . | docker -H ${old.host} import -c 'CMD ["sh"]' - busybox`,
    ]);
    assert.equal(imported.code, 0, imported.stderr);
    await old.docker('volume', 'create', '--label', 'who=me', 'data');
    await old.docker('network', 'create', '--subnet', '10.231.9.0/24', '--label', 'n=1', 'mine');
    const [volume, network] = [
      ['-v', 'data:/data'],
      ['--network', 'mine', '--ip', '10.231.9.9'],
    ];
    await old.docker('run', '--name', 'fill', ...volume, ...network, 'busybox', 'sh', '-c', fill);
    await old.docker('commit', 'fill', 'made:1');
    await old.docker('tag', 'made:1', 'example.test/a/made');
    await old.docker('create', '--name', 'new', ...volume, '-e', 'A=b', '-v', '/anonymous', 'made:1', 'sh', '-c', show);
    await old.docker('create', '--name', 'joins', '--volumes-from', 'new', '--network', 'container:new', 'busybox');
    const looks: string[][] = [
      ['images', '--no-trunc', '--format', '{{.Repository}}:{{.Tag}} {{.ID}}'],
      ['ps', '-a', '--no-trunc', '--format', '{{.ID}} {{.Names}} {{.Image}} {{.State}} {{.Command}} {{.Mounts}}'],
      ['volume', 'ls', '--format', '{{.Name}} {{.Labels}}'],
      ['network', 'ls', '--no-trunc', '-f', 'type=custom', '--format', '{{.ID}} {{.Name}} {{.Labels}}'],
      ['inspect', '-f', '{{json .Config.Cmd}} {{.State.ExitCode}} {{json .Config.Hostname}}', 'fill', 'new'],
    ];
    const before: string[] = [];
    for (const words of looks) before.push(await old.docker(...words));
    assert.equal((await importDocker(daemon, old.data)).code, 1);
    await old.end();
    const { code, lines } = await importDocker(daemon, old.data);
    assert.equal(code, 0, lines.join('\n'));
    await daemon.start();
    // Neither has an order of mounts.
    const sorted = (text: string): string[] =>
      text
        .trim()
        .split(/[\n, ]/)
        .sort();
    for (const [index, words] of looks.entries())
      assert.deepEqual(sorted(await daemon.ok(...words)), sorted(before[index]!));
    const shown = (await daemon.ok('start', '-a', 'new')).split('\n');
    assert.deepEqual(shown.slice(0, 6), ['f 5:6 644 2', 'g 5:6 644 2', 'p 0:0 644 1', 's 0:0 2775 2', 'hi', 't']);
    assert.deepEqual([shown[6], shown.includes('true')], ['new', false]);
    assert.equal(await daemon.ok('inspect', '-f', '{{len .Mounts}}', 'joins'), '2');
  });
}

interface Dockerd {
  host: string;
  data: string;
  docker(...words: string[]): Promise<string>;
  end(): Promise<void>;
}

/** In a network namespace of its own. */
async function startDockerd(t: TestContext): Promise<Dockerd> {
  const home = mkdtempSync('/tmp/tiphys-old-');
  const host = `unix://${home}/docker.sock`;
  const data = `${home}/data`;
  const words = ['--data-root', data, '--exec-root', `${home}/exec`, '-p', `${home}/pid`, '-H', host];
  const config = `${home}/daemon.json`;
  writeFileSync(config, '{}');
  const all = ['dockerd', '--config-file', config, '--storage-driver', 'overlay2', ...words];
  const child = spawn('unshare', ['-n', ...all], { stdio: ['ignore', 'ignore', 'pipe'] });
  let text = '';
  child.stderr.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  const ended = new Promise<void>((resolve) => {
    child.once('close', () => resolve());
  });
  const end = async (): Promise<void> => {
    child.kill('SIGTERM');
    await ended;
  };
  t.after(async () => {
    await end();
    rmSync(home, { recursive: true, force: true });
  });
  while (!text.includes('API listen on')) {
    if (child.exitCode !== null) throw new Error(text);
    await realClock.sleep(20);
  }
  const docker = async (...given: string[]): Promise<string> => {
    const { stdout, stderr, code } = await run('docker', ['-H', host, ...given]);
    // The exit code of `run` is the container's.
    if (code !== 0 && given[0] !== 'run') throw new Error(`docker ${given.join(' ')}: ${stderr}`);
    return stdout.trim();
  };
  return { host, data, docker, end };
}
