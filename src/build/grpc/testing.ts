/** A client of BuildKit for tests: it shares files, serves its session and drives builds from first call to last. */
import { duplexPair } from 'node:stream';
import type { Duplex } from 'node:stream';
import type { TestScope } from '#content/testing.ts';
import { messageOf } from '#base/thrown.ts';
import { realClock } from '#os/clock.real.ts';
import { openTestBuilder } from '../testing.ts';
import type { TestBuilder } from '../testing.ts';
import type { GrpcClient } from '#grpc/client.ts';
import { connectGrpc, serveGrpc } from './grpc.ts';
import type { Call, Handler } from './grpc.ts';
import { bytesIn, messageIn, messagesIn, numberIn, textIn } from '#grpc/fields.ts';
import { methodOf } from './messages.ts';
import type { Message } from '#grpc/fields.ts';
import { buildServices } from './services.ts';
import { Sessions } from './session.ts';

export async function waitFor(isSo: () => boolean): Promise<void> {
  while (!isSo()) await realClock.sleep(5);
}

export const forever = new AbortController().signal;
export const control = (name: string): string => `/moby.buildkit.v1.Control/${name}`;
export const bridge = (name: string): string => `/moby.buildkit.v1.frontend.LLBBridge/${name}`;
const sync = '/moby.filesync.v1.FileSync/DiffCopy';
export const send = '/moby.filesync.v1.FileSend/DiffCopy';

export interface File {
  text?: string;
  mode?: number;
  link?: string;
}

/** The client's side of a directory: lists it, sends what is asked for, in pieces. */
async function shareFiles({ metadata, messages, send }: Call, { files: directories = {}, onRequest }: Options) {
  const name = String(metadata['dir-name']);
  const list = (key: string): string[] | undefined => (metadata[key] as string | undefined)?.split(', ');
  const wanted = list('include-patterns') ?? list('followpaths');
  // What is named, what lies in it, and what that lies in.
  const isWanted = (path: string): boolean =>
    wanted?.some((each) => `${path}/`.startsWith(`${each}/`) || each.startsWith(`${path}/`)) ?? true;
  const entries = Object.entries(directories[name] ?? {})
    .filter(([path]) => isWanted(path))
    .sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [path, { text = '', mode = 0o644, link = '' }] of entries)
    await send({ type: 0, stat: { path, mode, size: text.length, linkname: link, modTime: 1e18 } });
  await send({ type: 0 });
  const answer = async (message: Message): Promise<boolean> => {
    if (message['type'] === 3) return true;
    const id = numberIn(message, 'ID');
    const text = entries[id]![1].text ?? '';
    onRequest?.(name, entries[id]![0]);
    for (let at = 0; at < text.length; at += 7)
      await send({ type: 2, ID: id, data: Buffer.from(text.slice(at, at + 7)) });
    await send({ type: 2, ID: id });
    return false;
  };
  for await (const message of messages) if (await answer(message)) break;
  await send({ type: 3 });
  return undefined;
}

export interface Bench extends TestBuilder {
  client: GrpcClient;
  solve(request: Message): Promise<Message>;
  build(
    attributes: Record<string, string>,
    more?: Message,
  ): Promise<{ answer: Message; shown: string[]; printed: string; counts: Map<string, number> }>;
}

export interface Options {
  files?: Record<string, Record<string, File>>;
  /** A file's content is asked for. */
  onRequest?: (directory: string, path: string) => void;
  /** The client's side of an exporter expects a directory, not a stream. */
  takesDirectories?: boolean;
  /** What the client's front end returns of a result. */
  onReturn?: (result: Message) => Message;
  /** Services of the session beside its files. */
  serves?: Record<string, Handler>;
}

export async function makeBench(
  t: TestScope,
  options: Options,
  onRun?: Parameters<typeof openTestBuilder>[1],
): Promise<Bench> {
  const sockets: Duplex[] = [];
  const connect = (handlers: ReadonlyMap<string, Handler>): Duplex => {
    const pair = duplexPair();
    sockets.push(...pair);
    const packets = { request: 'fsutil.types.Packet', response: 'fsutil.types.Packet' };
    serveGrpc(pair[1], handlers, (path) => (path === send && options.takesDirectories ? packets : methodOf(path)));
    return pair[0];
  };
  const bench = await openTestBuilder(t, onRun);
  const sessions = new Sessions(realClock);
  const services = buildServices({ builder: bench.builder, sessions, clock: realClock, version: 'v1' });
  const client = connectGrpc(connect(services));
  t.after(() => {
    client.close();
    for (const socket of sockets) socket.destroy();
  });
  const served = new Map([[sync, (call: Call) => shareFiles(call, options)], ...Object.entries(options.serves ?? {})]);
  sessions.add(connect(served), { id: 's1', place: 'here', methods: [...served.keys()] });
  let builds = 0;
  const build: Bench['build'] = async (attributes, more = {}) => {
    const Ref = `ref${builds++}`;
    const solved = client.call(control('Solve'), { Ref, Session: 's1', ...more }, forever);
    const shown: string[] = [];
    const counts = new Map<string, number>();
    let printed = '';
    const watched = (async () => {
      using stream = client.open(control('Status'), {}, forever);
      await stream.send({ Ref });
      for await (const response of stream.messages) {
        for (const log of messagesIn(response, 'logs')) printed += bytesIn(log, 'msg').toString();
        for (const status of messagesIn(response, 'statuses'))
          counts.set(textIn(status, 'ID'), numberIn(status, 'current'));
        const { vertexes } = response;
        for (const { name, completed, error } of vertexes as { name: string; completed: unknown; error: string }[])
          if (completed !== null) shown.push(error === '' ? name : `${name}: ${error}`);
      }
    })();
    const ask = async (name: string, request: Message): Promise<Message> => {
      using stream = client.open(bridge(name), { 'buildkit-controlapi-buildid': Ref }, forever);
      await stream.send(request);
      const { value } = await stream.messages.next();
      return value as Message;
    };
    try {
      const result = await ask('Solve', {
        Frontend: 'dockerfile.v0',
        FrontendOpt: attributes,
        allowResultReturn: true,
      });
      await ask('Return', { result: options.onReturn?.(messageIn(result, 'result')) ?? result['result'] });
    } catch (error) {
      await ask('Return', { error: { code: 2, message: messageOf(error) } });
    }
    const [settled] = await Promise.allSettled([solved, watched]);
    if (settled.status === 'rejected') throw settled.reason;
    const answer = settled.value;
    return { answer, shown, printed, counts };
  };
  const solve = (request: Message): Promise<Message> => client.call(control('Solve'), request, forever);
  return { ...bench, client, solve, build };
}

export const goDirectory = 2 ** 31 + 0o755;
export const goSymlink = 2 ** 27 + 0o777;

export const context = {
  '.dockerignore': { text: 'out\n# no\n!out/keep\n' },
  d: { mode: goDirectory },
  'd/large': { text: 'x'.repeat(1000) },
  empty: { text: '' },
  link: { mode: goSymlink, link: 'd/large' },
};

export const dockerfile = (text: string): Record<string, Record<string, File>> => ({
  dockerfile: { Dockerfile: { text } },
  context,
});
