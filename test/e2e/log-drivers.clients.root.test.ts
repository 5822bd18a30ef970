/** Logs that are sent away: what arrives, what `docker logs` shows, and receivers that are slow, dead or away. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { packString } from '#engine/log-drivers/msgpack.ts';
import { realClock } from '#os/clock.real.ts';
import { importBusybox, makeDaemon, type TestDaemon } from './daemon.ts';

interface Receiver {
  port: number;
  text(): string;
  /** Ends what is connected, and listens no more. */
  down(): Promise<void>;
  up(): Promise<void>;
}

/** A TCP server that keeps what it gets, or, `isDeaf`, never reads. */
async function receive(
  t: TestContext,
  options: { isDeaf?: boolean; onData?: (socket: Socket, bytes: Buffer) => void } = {},
): Promise<Receiver> {
  const sockets = new Set<Socket>();
  const parts: Buffer[] = [];
  let port = 0;
  const make = (): ReturnType<typeof createServer> =>
    createServer({ pauseOnConnect: options.isDeaf === true }, (socket) => {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => sockets.delete(socket));
      if (options.isDeaf === true) return;
      socket.on('data', (bytes: Buffer) => {
        parts.push(bytes);
        options.onData?.(socket, bytes);
      });
    });
  let server = make();
  const up = async (): Promise<void> => {
    server = make();
    await new Promise<void>((resolve) => {
      server.listen(port, '127.0.0.1', resolve);
    });
    const address = server.address();
    if (typeof address === 'object' && address !== null) port = address.port;
  };
  const down = async (): Promise<void> => {
    for (const socket of sockets) socket.destroy();
    if (server.listening) await new Promise((resolve) => server.close(resolve));
  };
  await up();
  t.after(down);
  return { port, text: () => Buffer.concat(parts).toString(), down, up };
}

async function until(look: () => boolean, what: () => string): Promise<void> {
  const deadline = realClock.monotonic() + 30_000;
  while (!look()) {
    assert.ok(realClock.monotonic() < deadline, what());
    await realClock.sleep(20);
  }
}

async function open(t: TestContext): Promise<TestDaemon> {
  const daemon = await makeDaemon(t);
  await daemon.start();
  await importBusybox(daemon);
  return daemon;
}

/** Numbers of the lines that a syslog receiver got, without those that it got twice. */
function numbers(text: string): number[] {
  return [...new Set([...text.matchAll(/: (\d+)\n/g)].map((match) => Number(match[1])))];
}

test('syslog: what a container that removes itself says arrives whole and in order, and docker logs shows it too', async (t) => {
  const daemon = await open(t);
  const receiver = await receive(t);
  const driver = ['--log-driver=syslog', `--log-opt=syslog-address=tcp://127.0.0.1:${receiver.port}`];
  await daemon.ok('run', '--rm', '--name=first', ...driver, '--log-opt=tag={{.Name}}', 'busybox', 'seq', '1', '3000');
  assert.deepEqual(
    numbers(receiver.text()),
    Array.from({ length: 3000 }, (_, index) => index + 1),
  );
  assert.match(receiver.text(), /^<30>\w{3} [ \d]\d \d\d:\d\d:\d\d first\[\d+\]: 1\n/);
  await daemon.ok('run', '--name=both', ...driver, 'busybox', 'sh', '-c', 'echo out; echo err >&2');
  assert.equal((await daemon.docker('logs', 'both')).stderr, 'err\n');
  await until(
    () => /<27>.*: err\n/.test(receiver.text()),
    () => receiver.text().slice(-300),
  );
  assert.equal(await daemon.ok('inspect', '-f', '{{.HostConfig.LogConfig.Type}}', 'both'), 'syslog');
  assert.match(await daemon.ok('info', '-f', '{{.Plugins.Log}}'), /fluentd gelf journald json-file local syslog/);
  await daemon.ok('run', '--name=blind', ...driver, '--log-opt=cache-disabled=true', 'busybox', 'echo', 'unseen');
  assert.match((await daemon.docker('logs', 'blind')).stderr, /configured logging driver does not support reading/);
});

test('a container does not start where its log has nowhere to go, and goes on where the receiver dies', async (t) => {
  const daemon = await open(t);
  const receiver = await receive(t);
  const driver = ['--log-driver=syslog', `--log-opt=syslog-address=tcp://127.0.0.1:${receiver.port}`];
  await receiver.down();
  const refused = await daemon.docker('run', '--name=none', ...driver, 'busybox', 'true');
  assert.match(
    refused.stderr,
    new RegExp(`failed to initialize logging driver: dial tcp 127.0.0.1:${receiver.port}: connect: connection refused`),
  );
  await receiver.up();
  await daemon.ok(
    'run',
    '-d',
    '--name=long',
    ...driver,
    'busybox',
    'sh',
    '-c',
    'for i in $(seq 1 40); do echo $i; sleep 0.1; done',
  );
  await until(
    () => numbers(receiver.text()).length > 3,
    () => 'nothing arrived',
  );
  await receiver.down();
  const shown = async (): Promise<number> => Number((await daemon.ok('logs', '--tail=1', 'long')) || 0);
  const before = await shown();
  await realClock.sleep(1000);
  assert.ok((await shown()) > before, 'it waits for its receiver');
  await daemon.end('SIGKILL');
  await receiver.up();
  await daemon.start();
  await until(
    () => numbers(receiver.text()).includes(40),
    () => receiver.text().slice(-200),
  );
  // What was in the connection when it broke is lost, as with docker; all that came later is there.
  const got = numbers(receiver.text());
  assert.ok(got.length >= 36, `lost: ${got.length} of 40`);
  assert.ok([...Array(25).keys()].every((index) => got.includes(40 - index)));
});

test('a receiver that never reads costs the container nothing, and the engine no memory', async (t) => {
  const daemon = await open(t);
  const receiver = await receive(t, { isDeaf: true });
  const address = `--log-opt=syslog-address=tcp://127.0.0.1:${receiver.port}`;
  const rss = (): number =>
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${daemon.process.pid}/status`, 'utf8'))?.[1]) / 1024;
  await daemon.ok('run', '--log-driver=syslog', address, '--name=loud', 'busybox', 'seq', '1', '3000000');
  assert.ok(rss() < 400, `${rss()} MiB`);
  const begun = realClock.monotonic();
  await daemon.ok('rm', 'loud');
  assert.ok(realClock.monotonic() - begun < 25_000);
});

test('gelf over UDP, and fluentd with acknowledgements', async (t) => {
  const daemon = await open(t);
  const udp = createSocket('udp4');
  t.after(() => udp.close());
  const messages: Record<string, unknown>[] = [];
  udp.on('message', (bytes) => messages.push(JSON.parse(gunzipSync(bytes).toString())));
  await new Promise<void>((resolve) => {
    udp.bind(0, '127.0.0.1', resolve);
  });
  const gelf = ['--log-driver=gelf', `--log-opt=gelf-address=udp://127.0.0.1:${udp.address().port}`];
  await daemon.ok(
    'run',
    '--rm',
    '--name=graylog',
    ...gelf,
    '--label=team=blue',
    '--log-opt=labels=team',
    'busybox',
    'echo',
    'hello',
  );
  await until(
    () => messages.length > 0,
    () => 'no datagram',
  );
  assert.deepEqual(
    ['short_message', 'level', '_container_name', '_team', '_image_name', '_command'].map((key) => messages[0]?.[key]),
    ['hello', 6, 'graylog', 'blue', 'busybox', 'echo hello'],
  );
  const acknowledge = (socket: Socket, bytes: Buffer): void => {
    for (const [, chunk = ''] of bytes.toString('latin1').matchAll(/chunk\xd9\x24(.{36})/gs))
      socket.write(Buffer.concat([Buffer.of(0x81), packString('ack'), packString(chunk)]));
  };
  const receiver = await receive(t, { onData: acknowledge });
  const fluentd = ['--log-driver=fluentd', `--log-opt=fluentd-address=127.0.0.1:${receiver.port}`];
  await daemon.ok(
    'run',
    '--rm',
    ...fluentd,
    '--log-opt=fluentd-request-ack=true',
    '--log-opt=tag=my.tag',
    'busybox',
    'seq',
    '1',
    '50',
  );
  assert.equal(receiver.text().split('my.tag').length - 1, 50);
  const long = await daemon.docker('run', '--rm', ...fluentd, 'busybox', 'sh', '-c', 'seq -s x 1 8000');
  assert.equal(long.code, 0, long.stderr);
  assert.match(receiver.text(), /partial_last.{1,2}true/s);
});

test('drivers that are not here, and options that a driver does not have, are refused when a container is created', async (t) => {
  const daemon = await open(t);
  const create = async (...words: string[]): Promise<string> =>
    (await daemon.docker('create', ...words, 'busybox')).stderr;
  for (const name of ['awslogs', 'splunk', 'gcplogs', 'etwlogs'])
    assert.match(await create(`--log-driver=${name}`), new RegExp(`no log driver named '${name}' is registered`));
  assert.match(await create('--log-driver=gelf'), /gelf-address is a required parameter/);
  assert.match(
    await create('--log-driver=journald', '--log-opt=nope=1'),
    /unknown log opt 'nope' for journald log driver/,
  );
  const nowhere = await daemon.docker('run', '--rm', '--log-driver=none', 'busybox', 'echo', 'seen');
  assert.equal(nowhere.stdout, 'seen\n');
});
