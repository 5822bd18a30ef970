/** What dockerode.sh runs: streams, exec, attach, build, events, pull, logs, stats, archives, networks and volumes. */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';

const require = createRequire(`${process.env.CLIENT_WORK}/`);
const Docker = require('dockerode');
const tar = require('tar-stream');
const docker = new Docker({ socketPath: process.env.DOCKER_HOST.replace('unix://', '') });

const textOf = async (stream) => {
  let text = '';
  for await (const chunk of stream) text += chunk;
  return text;
};
const follow = (stream) =>
  new Promise((resolve, reject) => {
    docker.modem.followProgress(stream, (error, all) => (error ? reject(error) : resolve(all)));
  });
async function make(t, options) {
  const container = await docker.createContainer({ Image: 'busybox', ...options });
  t.after(() => container.remove({ force: true, v: true }).catch(() => undefined));
  return container;
}

test('run gives both outputs apart, and the exit code', async () => {
  const [out, err] = [new PassThrough(), new PassThrough()];
  const texts = Promise.all([textOf(out), textOf(err)]);
  const command = ['sh', '-c', 'echo out; echo err >&2; exit 3'];
  const [{ StatusCode: code }, container] = await docker.run('busybox', command, [out, err], { Tty: false });
  out.end();
  err.end();
  assert.deepEqual(await texts, ['out\n', 'err\n']);
  assert.equal(code, 3);
  await container.remove();
});

test('attach by hijack: what is written comes back, and the end of input is told', async (t) => {
  const container = await make(t, { Cmd: ['cat'], OpenStdin: true, StdinOnce: true, AttachStdin: true });
  const stream = await container.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
  const out = new PassThrough();
  docker.modem.demuxStream(stream, out, out);
  stream.on('end', () => out.end());
  await container.start();
  stream.write('one\n');
  stream.end('two\n');
  assert.equal(await textOf(out), 'one\ntwo\n');
  assert.equal((await container.wait()).StatusCode, 0);
});

test('exec, its exit code, a terminal of it and its size', async (t) => {
  const container = await make(t, { Cmd: ['sleep', '100'] });
  await container.start();
  const exec = await container.exec({ Cmd: ['sh', '-c', 'cat; exit 5'], AttachStdin: true, AttachStdout: true });
  const stream = await exec.start({ hijack: true, stdin: true });
  const out = new PassThrough();
  docker.modem.demuxStream(stream, out, out);
  stream.on('end', () => out.end());
  stream.end('given');
  assert.equal(await textOf(out), 'given');
  assert.equal((await exec.inspect()).ExitCode, 5);
  const sized = await container.exec({ Cmd: ['sh', '-c', 'sleep 0.5; stty size'], AttachStdout: true, Tty: true });
  const terminal = await sized.start({ Tty: true });
  await sized.resize({ h: 33, w: 77 });
  assert.match(await textOf(terminal), /33 77/);
});

test('build from a tar, with its progress, and what was built runs', async () => {
  const pack = tar.pack();
  pack.entry({ name: 'Dockerfile' }, 'FROM busybox\nARG A\nCOPY f /f\nRUN echo $A >>/f\nCMD ["cat", "/f"]\n');
  pack.entry({ name: 'f' }, 'data\n');
  pack.finalize();
  const all = await follow(await docker.buildImage(pack, { t: 'dockerode-built', buildargs: { A: 'arg' } }));
  assert.ok(all.some((line) => line.aux?.ID?.startsWith('sha256:')));
  const out = new PassThrough();
  const text = textOf(out);
  const [, container] = await docker.run('dockerode-built', [], out, { HostConfig: {} });
  out.end();
  assert.match(await text, /data\r?\narg/);
  await container.remove();
  await docker.getImage('dockerode-built').remove({ force: true });
});

test('pull tells its progress; an image that is nowhere is an error with a status', async () => {
  const all = await follow(await docker.pull('busybox:latest'));
  assert.ok(all.some((line) => /busybox/.test(line.status ?? '')));
  await assert.rejects(docker.getImage('nowhere-at-all').inspect(), { statusCode: 404 });
});

test('events of a filter, as they come', async (t) => {
  const events = await docker.getEvents({ filters: { label: ['dockerode=events'] } });
  t.after(() => events.destroy());
  const seen = [];
  events.on('data', (chunk) => {
    for (const line of String(chunk).trim().split('\n')) seen.push(JSON.parse(line).Action);
  });
  const container = await make(t, { Cmd: ['true'], Labels: { dockerode: 'events' } });
  await container.start();
  await container.wait();
  await container.remove();
  for (let turn = 0; turn < 100 && !seen.includes('destroy'); turn++) await new Promise((go) => setTimeout(go, 50));
  assert.deepEqual(seen, ['create', 'start', 'die', 'destroy']);
});

test('logs, whole and followed', async (t) => {
  const container = await make(t, { Cmd: ['sh', '-c', 'echo a; echo b >&2; sleep 0.5; echo c'] });
  await container.start();
  const followed = await container.logs({ follow: true, stdout: true, stderr: true });
  const out = new PassThrough();
  docker.modem.demuxStream(followed, out, out);
  followed.on('end', () => out.end());
  assert.deepEqual((await textOf(out)).trim().split('\n').sort(), ['a', 'b', 'c']);
  const tail = await container.logs({ stdout: true, tail: 1 });
  assert.equal(tail.subarray(8).toString(), 'c\n');
});

test('stats, once and as a stream', async (t) => {
  const container = await make(t, { Cmd: ['sleep', '100'], HostConfig: { Memory: 64 * 1024 * 1024 } });
  await container.start();
  const once = await container.stats({ stream: false });
  assert.equal(once.memory_stats.limit, 64 * 1024 * 1024);
  assert.ok(once.cpu_stats.cpu_usage.total_usage > 0);
  const stream = await container.stats({ stream: true });
  for await (const chunk of stream) {
    assert.equal(JSON.parse(chunk).id, container.id);
    break;
  }
});

test('archives go in and come out', async (t) => {
  const container = await make(t, { Cmd: ['cat', '/in/f'] });
  const pack = tar.pack();
  pack.entry({ name: 'in/f', mode: 0o640, uid: 7, gid: 8 }, 'packed');
  pack.finalize();
  await container.putArchive(pack, { path: '/' });
  const out = await container.getArchive({ path: '/in/f' });
  const found = [];
  const extract = tar.extract();
  extract.on('entry', (header, stream, next) => {
    void textOf(stream).then((text) => {
      found.push([header.name, header.mode, header.uid, text]);
      next();
    });
  });
  await new Promise((resolve, reject) => out.pipe(extract).on('finish', resolve).on('error', reject));
  assert.deepEqual(found, [['f', 0o640, 7, 'packed']]);
});

test('networks and volumes, listed by filters, and prune', async (t) => {
  const network = await docker.createNetwork({ Name: 'dockerode-net', Labels: { dockerode: 'n' } });
  t.after(() => network.remove().catch(() => undefined));
  const container = await make(t, { Cmd: ['sleep', '100'] });
  await container.start();
  await network.connect({ Container: container.id, EndpointConfig: { Aliases: ['other'] } });
  assert.deepEqual(Object.keys((await network.inspect()).Containers), [container.id]);
  await network.disconnect({ Container: container.id, Force: true });
  assert.equal((await docker.listNetworks({ filters: { label: ['dockerode=n'] } })).length, 1);
  await docker.createVolume({ Name: 'dockerode-volume', Labels: { dockerode: 'v' } });
  const { Volumes: volumes } = await docker.listVolumes({ filters: { label: ['dockerode=v'] } });
  assert.equal(volumes.length, 1);
  await docker.getVolume('dockerode-volume').remove();
});

test('commit, tag, history, save and load; rename, update, top, changes', async (t) => {
  const container = await make(t, { Cmd: ['sh', '-c', 'echo >/new; sleep 100'] });
  await container.start();
  for (let turn = 0; turn < 100; turn++) {
    if ((await container.changes())?.some((change) => change.Path === '/new')) break;
    await new Promise((go) => setTimeout(go, 50));
  }
  assert.match((await container.top()).Processes[0].join(' '), /sleep 100/);
  await container.update({ Memory: 32 * 1024 * 1024, MemorySwap: -1 });
  await container.rename({ name: 'dockerode-renamed' });
  const info = await container.inspect();
  assert.deepEqual([info.Name, info.HostConfig.Memory], ['/dockerode-renamed', 32 * 1024 * 1024]);
  await container.commit({ repo: 'dockerode-commit', tag: 'one' });
  const image = docker.getImage('dockerode-commit:one');
  await image.tag({ repo: 'dockerode-commit', tag: 'two' });
  assert.ok((await image.history()).length > 1);
  const saved = await image.get();
  const chunks = [];
  for await (const chunk of saved) chunks.push(chunk);
  await docker.loadImage(Buffer.concat(chunks));
  for (const tag of ['one', 'two']) await docker.getImage(`dockerode-commit:${tag}`).remove();
});
