/** What strangers send to the docker API, and what containers do to whoever reads them. */
import { contextOf } from '#docker/testing.ts';
import { mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { PassThrough, Readable, Writable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { makeTestDirectory } from '#content/testing.ts';
import type { DockerParts } from '#docker/context.ts';
import { checkHostConfig } from '#docker/create-checks.ts';
import { execRoutes } from '#docker/exec.ts';
import { parseFilters } from '#docker/filters.ts';
import { searchImages } from '#docker/search.ts';
import { eventClientBufferBytesMax, filtersBytesMax, searchAnswerBytesMax } from '#docker/server-limits.ts';
import { streamEvents } from '#docker/system.ts';
import { Events } from '#engine/events.ts';
import { ExecOutput } from '#engine/exec-output.ts';
import type { ImageStore } from '#engine/images.ts';
import {
  eventHistoryMax,
  execErrorBytesMax,
  execPipeBytesMax,
  logLookBackBytesMax,
  rootTextBytesMax,
} from '#engine/limits.ts';
import { readLogs } from '#engine/logs.ts';
import { readInRoot, resolveInRoot } from '#engine/runtime/root-path.ts';
import { realClock } from '#os/clock.real.ts';
import { SimClock } from '#os/clock.sim.ts';
import { patternCharsMax } from '#base/limits.ts';
import { messageOf } from '#base/thrown.ts';
import type { HostileRow } from './row.ts';

const text = async (run: () => unknown): Promise<string> => {
  try {
    return String(await run());
  } catch (error) {
    return messageOf(error);
  }
};

/** A directory that goes when the row has run. */
async function withDirectory<T>(run: (directory: string) => Promise<T> | T): Promise<T> {
  const after: (() => Promise<void> | void)[] = [];
  try {
    return await run(
      makeTestDirectory(
        {
          after: (undo) => {
            after.push(undo);
          },
        },
        'hostile',
      ),
    );
  } finally {
    for (const undo of after) await undo();
  }
}

/** A client that never reads: what is written to it stays. */
function deafClient(): Writable & { flushHeaders(): void; writeHead(): void } {
  return Object.assign(new Writable({ write: () => undefined }), {
    flushHeaders: () => undefined,
    writeHead: () => undefined,
  });
}

export const rows: HostileRow[] = [
  {
    name: 'Filters of a list are read',
    input: 'filters of 10 MB',
    bound: 'src/docker/server-limits.ts#filtersBytesMax',
    answer: /^invalid filter$/,
    run: () =>
      text(() =>
        parseFilters(new URLSearchParams({ filters: JSON.stringify({ name: ['x'.repeat(160 * filtersBytesMax)] }) }), [
          'name',
        ]),
      ),
  },
  {
    name: 'A pattern of a log option is compiled',
    input: '20,000 characters',
    bound: 'src/base/limits.ts#patternCharsMax',
    answer: /expression too large/,
    run: () =>
      text(() =>
        checkHostConfig({ LogConfig: { Type: 'json-file', Config: { 'env-regex': 'a'.repeat(patternCharsMax + 1) } } }),
      ),
  },
  {
    name: 'Commands are made and never started',
    input: '10,000 execs',
    bound: 'src/docker/server-limits.ts#execRecordsMax',
    answer: /^4096 made: too many exec instances$/,
    async run() {
      const container = {
        id: 'c',
        isRunning: true,
        record: { state: 'running', spec: { owner: 'docker', labels: {} } },
      };
      const parts = {
        engine: { table: { get: () => container, context: { events: { emit: () => undefined } } } },
        random: { bytes: (count: number) => crypto.getRandomValues(new Uint8Array(count)) },
      } as unknown as DockerParts;
      const route = execRoutes(parts).find((one) => one.path === '/containers/{id}/exec')!;
      for (let made = 0; made < 10_000; made++) {
        try {
          await route.handle({ params: { id: 'c' }, json: async () => ({ Cmd: ['x'] }) } as never);
        } catch (error) {
          return `${made} made: ${messageOf(error)}`;
        }
      }
      return 'all made';
    },
  },
  {
    name: 'A follower of events reads none',
    input: '50,000 events with labels of 4 KB',
    bound: 'src/docker/server-limits.ts#eventClientBufferBytesMax',
    answer: /^let go$/,
    async run() {
      const events = new Events(new SimClock(0));
      const response = deafClient();
      const parts = { clock: new SimClock(0), engine: { events } } as unknown as DockerParts;
      const gone = new AbortController();
      const context = { ...contextOf(new URLSearchParams()), response, signal: gone.signal };
      const done = streamEvents(parts, context as never);
      for (let count = 0; count < 50_000 && !response.destroyed; count++)
        events.emit({ type: 'container', action: 'start', id: 'x', attributes: { label: 'x'.repeat(4096) } });
      const held = response.writableLength;
      gone.abort();
      await done;
      return response.destroyed && held < eventClientBufferBytesMax + 64 * 1024 ? 'let go' : `${held} bytes held`;
    },
  },
  {
    name: 'Events of the past are kept',
    input: '100,000 events',
    bound: 'src/engine/limits.ts#eventHistoryMax',
    answer: /^256 kept$/,
    run() {
      const events = new Events(new SimClock(0));
      for (let count = 0; count < 100_000; count++)
        events.emit({ type: 'container', action: 'start', id: 'x', attributes: {} });
      return `${events.history().length === eventHistoryMax ? eventHistoryMax : `not ${eventHistoryMax} but ${events.history().length}`} kept`;
    },
  },
  {
    name: 'A child of a command that has ended writes on',
    input: 'output without end',
    bound: 'src/engine/limits.ts#execPipeBytesMax',
    answer: /^ended$/,
    async run() {
      const block = Buffer.alloc(64 * 1024);
      const source = new Readable({
        read() {
          void setImmediate().then(() => this.push(block));
        },
      });
      let bytes = 0;
      const target = new Writable({
        write: (chunk: Buffer, _encoding, done) => {
          bytes += chunk.length;
          done();
        },
      });
      const output = new ExecOutput(source, target);
      await setImmediate();
      const before = bytes;
      // A turn of the loop stands for the time in which nothing would have to come.
      await output.settle(
        {
          ...realClock,
          sleep: async () => {
            await setImmediate();
          },
        },
        () => true,
      );
      const delivered = bytes - before;
      source.destroy();
      return delivered <= execPipeBytesMax + 4 * block.length ? 'ended' : `${delivered} bytes delivered`;
    },
  },
  {
    name: 'A runtime complains without end',
    input: '10 MB of errors',
    bound: 'src/engine/limits.ts#execErrorBytesMax',
    answer: /^kept$/,
    async run() {
      const source = new PassThrough();
      const output = new ExecOutput(source, undefined, () => false);
      for (let count = 0; count < 160; count++) source.write(Buffer.alloc(64 * 1024, 'x'));
      source.end();
      const said = await output.settle(realClock, () => false);
      return said.length <= execErrorBytesMax + 64 * 1024 ? 'kept' : `${said.length} bytes kept`;
    },
  },
  {
    name: 'The beginning of the last line is looked for',
    input: 'a log of 8 MB with one piece at its beginning',
    bound: 'src/engine/limits.ts#logLookBackBytesMax',
    answer: /^2 lines, the far piece not looked for$/,
    run: () =>
      withDirectory(async (directory) => {
        const path = `${directory}/c.log`;
        const record = (stream: string, tag: string, words: string): string =>
          `2026-01-01T00:00:00.000000000Z ${stream} ${tag} ${words}\n`;
        writeFileSync(
          path,
          record('stdout', 'P', 'far') +
            record('stderr', 'F', 'x'.repeat(1000)).repeat(8 * (logLookBackBytesMax / 1024)) +
            record('stdout', 'F', 'near') +
            record('stderr', 'F', 'last'),
        );
        const lines: string[] = [];
        for await (const line of readLogs(
          { path, isRunning: () => false, onExit: () => () => undefined },
          { stdout: true, stderr: true, follow: false, tailLines: 2 },
        ))
          lines.push(Buffer.from(line.data).toString());
        return `${lines.length} lines, the far piece ${lines.includes('far') ? '' : 'not '}looked for`;
      }),
  },
  {
    name: "Links in a container's root are followed",
    input: 'two that lead to each other',
    bound: 'src/engine/limits.ts#pathLinksMax',
    answer: /^too many links in \/a\/b$/,
    run: () =>
      withDirectory((directory) => {
        symlinkSync('/two', `${directory}/a`);
        symlinkSync('/a', `${directory}/two`);
        return text(() => resolveInRoot(directory, '/a/b'));
      }),
  },
  {
    name: "A container's /etc/passwd is read",
    input: 'a file of more than 4 MB',
    bound: 'src/engine/limits.ts#rootTextBytesMax',
    answer: /^undefined$/,
    run: () =>
      withDirectory((directory) => {
        mkdirSync(`${directory}/etc`);
        writeFileSync(`${directory}/etc/passwd`, 'root:x:0:0:::\n');
        truncateSync(`${directory}/etc/passwd`, rootTextBytesMax + 1);
        return String(readInRoot(directory, '/etc/passwd')?.length);
      }),
  },
  {
    name: 'A registry answers a search',
    input: 'an answer without end',
    bound: 'src/docker/server-limits.ts#searchAnswerBytesMax',
    answer: /the answer is too long$/,
    run: () =>
      text(() => {
        let sent = 0;
        const answer = Object.assign(
          new Readable({
            read() {
              sent += 64 * 1024;
              this.push(sent > 8 * searchAnswerBytesMax ? null : Buffer.alloc(64 * 1024));
            },
          }),
          { statusCode: 200 },
        );
        const images = {
          options: { transport: { call: async () => answer } },
          list: () => [],
        } as unknown as ImageStore;
        return searchImages(images, {
          query: new URLSearchParams({ term: 'x' }),
          signal: new AbortController().signal,
        } as never);
      }),
  },
];
