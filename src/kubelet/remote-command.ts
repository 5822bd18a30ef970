/**
 * Exec and attach over SPDY and WebSocket: both become the same set of streams.
 *
 * WebSocket: one message is a channel byte and data; 0 stdin, 1 stdout, 2 stderr, 3 error, 4 resize, 255 close (v5).
 * SPDY: a stream for each, named by its `streamtype` header. The error stream carries a `Status` at the end (v4 and
 * later).
 * Source: Kubernetes' remotecommand protocols v1-v5 (`{v4,v5}.channel.k8s.io`).
 */
import type { IncomingMessage } from 'node:http';
import { PassThrough, Writable, type Duplex } from 'node:stream';
import { WebSocketServer, type WebSocket } from 'ws';
import { SpdyConnection, type SpdyStream } from '#base/spdy.ts';
import { whenDrained } from '#base/streams.ts';
import { webSocketMessageBytesMax } from './limits.ts';
import type { Streams } from '#engine/engine.ts';
import type { Clock } from '#os/clock.ts';

/** A request to leave HTTP, as Node's server hands it over. */
export interface Upgrade {
  request: IncomingMessage;
  socket: Duplex;
  /** What came with the request already. */
  head: Buffer;
}

export interface RemoteCommand {
  streams: Streams;
  /** Aborted when the client goes away. */
  signal: AbortSignal;
  /** Ends the session; `status` goes to the error stream. */
  finish(status: unknown): void;
}

export interface WantedStreams {
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  tty: boolean;
}

export const success = { metadata: {}, status: 'Success' };
export function exitStatus(code: number): unknown {
  if (code === 0) return success;
  return {
    metadata: {},
    status: 'Failure',
    message: `command terminated with non-zero exit code: exit status ${code}`,
    reason: 'NonZeroExitCode',
    details: { causes: [{ reason: 'ExitCode', message: String(code) }] },
  };
}
export function failureStatus(message: string): unknown {
  return { metadata: {}, status: 'Failure', message, reason: 'InternalError', code: 500 };
}

/** A queue of terminal sizes that can be awaited. */
function sizeQueue(): {
  push(text: string): void;
  end(): void;
  sizes: AsyncIterable<{ width: number; height: number }>;
} {
  const waiting: { width: number; height: number }[] = [];
  let wake: (() => void) | undefined;
  let ended = false;
  async function* sizes(): AsyncGenerator<{ width: number; height: number }> {
    for (;;) {
      const size = waiting.shift();
      if (size !== undefined) {
        yield size;
        continue;
      }
      if (ended) return;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  }
  return {
    push(text) {
      for (const line of text.split('\n').filter((piece) => piece.trim() !== '')) {
        try {
          const size = JSON.parse(line) as { Width: number; Height: number };
          waiting.length = 0;
          waiting.push({ width: size.Width, height: size.Height });
        } catch {
          /* not a size */
        }
      }
      wake?.();
    },
    end() {
      ended = true;
      wake?.();
    },
    sizes: sizes(),
  };
}

const webSocketProtocols = [
  'v5.channel.k8s.io',
  'v4.channel.k8s.io',
  'v3.channel.k8s.io',
  'v2.channel.k8s.io',
  'channel.k8s.io',
];
const spdyProtocols = [
  'v5.channel.k8s.io',
  'v4.channel.k8s.io',
  'v3.channel.k8s.io',
  'v2.channel.k8s.io',
  'channel.k8s.io',
];

export function isWebSocket(request: IncomingMessage): boolean {
  return String(request.headers.upgrade ?? '').toLowerCase() === 'websocket';
}

const server = new WebSocketServer({
  noServer: true,
  perMessageDeflate: false,
  maxPayload: webSocketMessageBytesMax,
  handleProtocols: (offered) =>
    [
      ...webSocketProtocols,
      'v4.base64.channel.k8s.io',
      'SPDY/3.1+portforward.k8s.io',
      'binary.k8s.io',
      'base64.binary.k8s.io',
    ].find((name) => offered.has(name)) ?? false,
});

export function acceptWebSocket({ request, socket, head }: Upgrade): Promise<WebSocket> {
  return new Promise((resolve) => server.handleUpgrade(request, socket, head, (ws) => resolve(ws)));
}

// walk exec-stream 4/5: WebSocket or SPDY become the same streams.
export async function acceptRemoteCommand(
  upgrade: Upgrade,
  wanted: WantedStreams,
  clock: Clock,
): Promise<RemoteCommand> {
  return isWebSocket(upgrade.request)
    ? acceptOverWebSocket(upgrade, wanted, clock)
    : acceptOverSpdy(upgrade, wanted, clock);
}

const pongWaitMs = 1000;

/**
 * Resolves when the client reads: it has answered a ping, is gone, or answers none for a second.
 *
 * kubectl before 1.34 makes its streams beside the loop that reads, and drops what comes for a stream that it has not
 * made yet. Output that is there at once, as of a command that cannot be started, would be lost.
 */
function whenReading(ws: WebSocket, clock: Clock): Promise<void> {
  return new Promise((resolve) => {
    const timer = clock.setTimer(pongWaitMs, resolve, { background: true });
    const reads = (): void => {
      timer.cancel();
      resolve();
    };
    ws.once('pong', reads);
    ws.once('close', reads);
    ws.ping();
  });
}

async function acceptOverWebSocket(upgrade: Upgrade, wanted: WantedStreams, clock: Clock): Promise<RemoteCommand> {
  const ws = await acceptWebSocket(upgrade);
  const version5 = ws.protocol.startsWith('v5');
  const base64 = ws.protocol.includes('base64');
  const structured = ws.protocol !== 'channel.k8s.io' && !ws.protocol.startsWith('v2') && !ws.protocol.startsWith('v3');
  const gone = new AbortController();
  const stdin = new PassThrough();
  const sizes = sizeQueue();
  const sendOn = (channel: number, data: Buffer, done: () => void): void => {
    if (ws.readyState !== ws.OPEN) {
      done();
      return;
    }
    const message = base64 ? `${channel}${data.toString('base64')}` : Buffer.concat([Buffer.from([channel]), data]);
    ws.send(message, { binary: !base64 }, () => done());
  };
  const output = (channel: number): Writable =>
    new Writable({
      write: (chunk: Buffer, _encoding, done) => void reading.then(() => sendOn(channel, chunk, done)),
    });
  ws.on('message', (raw: Buffer) => {
    const channel = base64 ? Number(String.fromCharCode(raw[0]!)) : raw[0];
    const data = base64 ? Buffer.from(raw.subarray(1).toString(), 'base64') : raw.subarray(1);
    if (channel === 0) {
      if (!stdin.writableEnded && !stdin.write(Buffer.from(data))) {
        ws.pause();
        void whenDrained(stdin).then(() => ws.resume());
      }
    } else if (channel === 4) sizes.push(data.toString('utf8'));
    else if (channel === 255 && version5 && data[0] === 0) stdin.end();
  });
  ws.on('close', () => {
    stdin.end();
    sizes.end();
    gone.abort(new Error('client went away'));
  });
  ws.on('error', () => ws.terminate());
  // Announces the channels, as clients of the plain protocols expect.
  for (const channel of [wanted.stdout ? 1 : -1, wanted.stderr && !wanted.tty ? 2 : -1, 3])
    if (channel >= 0 && !version5) sendOn(channel, Buffer.alloc(0), () => {});
  const reading = whenReading(ws, clock);
  return {
    streams: {
      ...(wanted.stdin ? { stdin } : {}),
      ...(wanted.stdout ? { stdout: output(1) } : {}),
      ...(wanted.stderr && !wanted.tty ? { stderr: output(2) } : {}),
      ...(wanted.tty ? { resizes: sizes.sizes } : {}),
    },
    signal: gone.signal,
    finish(status) {
      const text = structured
        ? JSON.stringify(status)
        : (status as { status: string; message?: string }).status === 'Success'
          ? ''
          : String((status as { message?: string }).message ?? '');
      const close = (): void => ws.close(1000);
      void reading.then(() => (text === '' ? close() : sendOn(3, Buffer.from(text), close)));
    },
  };
}

/** Answers an upgrade to SPDY and returns the connection; `protocols` are the stream protocols we speak, best first. */
export function acceptSpdy(
  { request, socket, head }: Upgrade,
  protocols: string[],
  onStream: (stream: SpdyStream) => void,
): { connection: SpdyConnection; protocol: string } | undefined {
  const offered = String(request.headers['x-stream-protocol-version'] ?? '')
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  const protocol = offered.length === 0 ? protocols.at(-1)! : protocols.find((name) => offered.includes(name));
  if (protocol === undefined) {
    socket.end(
      `HTTP/1.1 403 Forbidden\r\nX-Accepted-Stream-Protocol-Versions: ${protocols.join(', ')}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`,
    );
    return undefined;
  }
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: ${protocol}\r\n\r\n`,
  );
  const connection = new SpdyConnection(
    {
      send: (bytes) => socket.destroyed || socket.write(bytes),
      onDrain: (run) => {
        socket.on('drain', run);
      },
      pause: () => {
        socket.pause();
      },
      resume: () => {
        socket.resume();
      },
      close: () => {
        socket.end();
      },
    },
    onStream,
  );
  socket.on('data', (chunk: Buffer) => connection.receive(chunk));
  socket.on('close', () => connection.close());
  socket.on('error', () => connection.close());
  if (head.length > 0) connection.receive(head);
  return { connection, protocol };
}

const streamsWaitMs = 30_000;

function acceptOverSpdy(upgrade: Upgrade, wanted: WantedStreams, clock: Clock): Promise<RemoteCommand> {
  return new Promise((resolve, reject) => {
    const streams = new Map<string, SpdyStream>();
    const sizes = sizeQueue();
    const gone = new AbortController();
    let protocol = '';
    const needed = (): string[] => [
      'error',
      ...(wanted.stdin ? ['stdin'] : []),
      ...(wanted.stdout ? ['stdout'] : []),
      ...(wanted.stderr && !wanted.tty ? ['stderr'] : []),
      ...(wanted.tty && /^v[345]/.test(protocol) ? ['resize'] : []),
    ];
    const timer = clock.setTimer(
      streamsWaitMs,
      () => {
        accepted?.connection.close();
        reject(new Error('timed out waiting for client to create streams'));
      },
      { background: true },
    );
    const accepted = acceptSpdy(upgrade, spdyProtocols, (stream) => {
      streams.set(stream.headers['streamtype'] ?? '', stream);
      if (!needed().every((name) => streams.has(name))) return;
      timer.cancel();
      streams.get('resize')?.on('data', (chunk: Buffer) => sizes.push(chunk.toString('utf8')));
      const structured = /^v[45]/.test(protocol);
      const [stdin, stdout, stderr] = ['stdin', 'stdout', 'stderr'].map((name) => streams.get(name));
      resolve({
        streams: {
          ...(wanted.stdin && stdin !== undefined ? { stdin } : {}),
          ...(wanted.stdout && stdout !== undefined ? { stdout } : {}),
          ...(wanted.stderr && !wanted.tty && stderr !== undefined ? { stderr } : {}),
          ...(wanted.tty ? { resizes: sizes.sizes } : {}),
        },
        signal: gone.signal,
        finish(status) {
          const failed = (status as { status: string }).status !== 'Success';
          const text = structured
            ? JSON.stringify(status)
            : failed
              ? String((status as { message?: string }).message ?? '')
              : '';
          for (const name of ['stdout', 'stderr']) streams.get(name)?.end();
          const error = streams.get('error')!;
          error.end(text === '' ? undefined : text, () => clock.setTimer(50, () => accepted!.connection.close()));
        },
      });
    });
    if (accepted === undefined) {
      timer.cancel();
      reject(new Error('no common stream protocol'));
      return;
    }
    protocol = accepted.protocol;
    accepted.connection.onClose = () => {
      sizes.end();
      gone.abort(new Error('client went away'));
    };
  });
}
