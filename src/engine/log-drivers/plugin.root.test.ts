/** A log driver of a plugin written here: what it is sent, what it gives back, and its faults. */
import assert from 'node:assert/strict';
import { constants, mkdtempSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { whenSettled } from '#base/promises.ts';
import { textOf } from '#base/unknown.ts';
import { encodeLogEntry, readLogEntries, type LogEntry } from '#plugins/log-driver.ts';
import { startTestPlugin, type TestPlugin } from '#plugins/testing.ts';
import type { DockerEngine } from '../create-engine.ts';
import { execText, makeImage, newInstanceId, openTestEngine, removeTestEngine, specOf } from '../testing.ts';

describe('log drivers of plugins', { skip: process.getuid?.() !== 0 && 'needs root' }, () => {
  const instanceId = newInstanceId();
  const home = mkdtempSync('/tmp/tiphys-logs-');
  let engine: DockerEngine;
  let plugin: TestPlugin;
  let isReadable = true;
  let garbage: Buffer | undefined;
  /** What the driver was sent, and who waits for more. */
  const entries: LogEntry[] = [];
  let heard = Promise.withResolvers<void>();
  const open = new Map<string, Socket>();

  const follow = async (path: string): Promise<void> => {
    // A read that blocks would keep the fifo open after its plugin's end.
    const stream = new Socket({ fd: openSync(path, constants.O_RDONLY | constants.O_NONBLOCK) });
    open.set(path, stream);
    for await (const entry of readLogEntries('test', stream)) {
      entries.push(entry);
      heard.resolve();
    }
  };
  const until = async (count: number): Promise<void> => {
    while (entries.length < count) {
      await heard.promise;
      heard = Promise.withResolvers();
    }
  };
  const startPlugin = async (): Promise<TestPlugin> =>
    startTestPlugin(`${home}/plugins/keeper.sock`, ['LogDriver'], {
      'LogDriver.StartLogging': (body) => {
        void whenSettled(follow(textOf(body, 'File') ?? ''));
        return {};
      },
      'LogDriver.StopLogging': () => ({}),
      'LogDriver.Capabilities': () => ({ Cap: { ReadLogs: isReadable } }),
      'LogDriver.ReadLogs': () => (response) =>
        void response.end(garbage ?? Buffer.concat(entries.map((entry) => encodeLogEntry(entry)))),
    });
  const run = async (name: string, script: string, options: Record<string, string> = {}): Promise<string> => {
    const logDriver = { name: 'keeper', options };
    const id = await engine.containers.create(specOf(name, ['sh', '-c', script], { logDriver }));
    await engine.containers.start(id);
    return id;
  };
  const logsOf = async (id: string): Promise<string> => {
    let text = '';
    for await (const line of engine.containers.logs(id, { stdout: true, stderr: true, follow: false }))
      text += `${line.stream}:${Buffer.from(line.data).toString()}`;
    return text;
  };

  before(async () => {
    makeImage(home, ['sh', 'sleep', 'echo', 'cat', 'dd', 'tr']);
    plugin = await startPlugin();
    engine = await openTestEngine(home, instanceId);
  });
  after(async () => {
    for (const stream of open.values()) stream.destroy();
    await engine[Symbol.asyncDispose]();
    await plugin[Symbol.asyncDispose]();
    await removeTestEngine(home, instanceId);
  });

  test('lines of both streams arrive with their times, and are read back from the driver', async () => {
    const id = await run('one', 'echo out; echo err >&2; sleep 1000', { colour: 'red' });
    await until(2);
    assert.deepEqual(
      entries.map(({ source, line, isPartial }) => `${source} ${line.toString()} ${isPartial}`).toSorted(),
      ['stderr err false', 'stdout out false'],
    );
    assert.ok(entries.every(({ timeNs }) => timeNs > 1_600_000_000_000_000_000n));
    const told = plugin.calls.find(({ method }) => method === 'LogDriver.StartLogging')?.body;
    assert.equal(textOf(told, 'Info', 'ContainerName'), '/one');
    assert.equal(textOf(told, 'Info', 'Config', 'colour'), 'red');
    assert.match(await logsOf(id), /stdout:out\n/);
    await engine.containers.remove(id, { force: true });
    assert.equal(plugin.calls.at(-1)?.method, 'LogDriver.StopLogging');
  });

  test('what the driver does not give back comes from the file here; garbage is an error that names it', async () => {
    entries.length = 0;
    isReadable = false;
    const id = await run('two', 'echo kept; sleep 1000');
    await until(1);
    assert.equal(await logsOf(id), 'stdout:kept\n');
    isReadable = true;
    for (const [wrong, words] of [
      [Buffer.from('nonsense and more of it'), /plugin "keeper" sent an entry of \d+ bytes/],
      [Buffer.from([0, 0, 0, 2, 0xff, 0xff]), /sent what is no log entry/],
      [Buffer.from([0, 0, 0, 9, 1]), /sent the beginning of an entry/],
    ] as const) {
      garbage = wrong;
      await assert.rejects(logsOf(id), words);
    }
    garbage = undefined;
    await engine.containers.remove(id, { force: true });
  });

  test('a plugin that dies and comes back is sent what it missed', async () => {
    entries.length = 0;
    const id = await run('three', 'echo 1; while [ ! -e /go ]; do sleep 0.1; done; echo 2; sleep 1000');
    await until(1);
    await plugin[Symbol.asyncDispose]();
    for (const stream of open.values()) stream.destroy();
    await execText(engine, id, ['sh', '-c', 'echo > /go']);
    plugin = await startPlugin();
    while (!entries.some(({ line }) => line.toString() === '2')) await until(entries.length + 1);
    await engine.containers.remove(id, { force: true });
  });

  test('a container does not start where there is no such plugin', async () => {
    const logDriver = { name: 'nobody', options: {} };
    const id = await engine.containers.create(specOf('four', ['sleep', '1'], { logDriver }));
    await assert.rejects(engine.containers.start(id), /no log driver named 'nobody' is registered/);
  });
});
