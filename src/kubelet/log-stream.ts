/**
 * A container's log as the kubelet's clients get it: a run of bytes, as an answer's body or as messages of a WebSocket
 * (Kubernetes' `binary.k8s.io`, and `base64.binary.k8s.io` as text).
 */
import type { WebSocket } from 'ws';
import { parseRfc3339 } from '#base/timestamp.ts';
import type { LogLine } from '#engine/engine.ts';
import type { Clock } from '#os/clock.ts';
import { logChunkBytes } from './limits.ts';
import { loggedContainer, type LoggedContainer, type Served } from './serving.ts';

function formatLine(line: LogLine, timestamps: boolean): Uint8Array {
  return timestamps ? Buffer.concat([Buffer.from(`${line.timestamp} `), line.data]) : line.data;
}

/** Throws an ApiError at once where there is no such log; ends when the signal aborts. */
export function openLog(
  options: Served & { clock: Clock },
  named: LoggedContainer,
  query: URLSearchParams,
  signal: AbortSignal,
): AsyncIterable<Uint8Array> {
  const attempt = loggedContainer(options, named, query.get('previous') === 'true');
  const number = (name: string): number | undefined => (query.get(name) === null ? undefined : Number(query.get(name)));
  const sinceSeconds = number('sinceSeconds');
  const sinceTime = query.get('sinceTime');
  const sinceNs =
    sinceSeconds !== undefined
      ? BigInt(options.clock.now() - sinceSeconds * 1000) * 1_000_000n
      : sinceTime === null
        ? undefined
        : parseRfc3339(sinceTime);
  const stream = query.get('stream') ?? 'All';
  const tailLines = number('tailLines');
  const lines = options.engine.containers.logs(attempt.id, {
    stdout: stream !== 'Stderr',
    stderr: stream !== 'Stdout',
    follow: query.get('follow') === 'true',
    ...(sinceNs === undefined ? {} : { sinceNs }),
    ...(tailLines === undefined ? {} : { tailLines }),
    signal,
  });
  return chunksOf(lines, query, signal);
}

/** Lines together, as long as more of them come at once. */
async function* chunksOf(
  lines: AsyncIterable<LogLine>,
  query: URLSearchParams,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const limit = query.get('limitBytes');
  let left = limit === null ? Infinity : Number(limit);
  const timestamps = query.get('timestamps') === 'true';
  const follows = query.get('follow') === 'true';
  /** A piece of a line was sent last: what follows of its stream is the same line. */
  const open = { stdout: false, stderr: false };
  let batch: Uint8Array[] = [];
  let batchBytes = 0;
  try {
    for await (const line of lines) {
      const bytes = formatLine(line, timestamps && !open[line.stream]);
      open[line.stream] = line.partial;
      const cut = bytes.length > left ? bytes.subarray(0, left) : bytes;
      left -= cut.length;
      batch.push(cut);
      batchBytes += cut.length;
      if ((batchBytes > logChunkBytes || follows) && batchBytes > 0) {
        yield Buffer.concat(batch);
        batch = [];
        batchBytes = 0;
      }
      if (left <= 0 || signal.aborted) break;
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  if (batchBytes > 0) yield Buffer.concat(batch);
}

/** Sends each chunk as a message, and says the end. */
export async function sendMessages(ws: WebSocket, chunks: AsyncIterable<Uint8Array>): Promise<void> {
  const isText = ws.protocol === 'base64.binary.k8s.io';
  ws.on('error', () => ws.terminate());
  for await (const chunk of chunks) {
    if (ws.readyState !== ws.OPEN) break;
    // Whether it went or not: the next one sees.
    await new Promise<void>((resolve) => {
      ws.send(isText ? Buffer.from(chunk).toString('base64') : chunk, { binary: !isText }, () => resolve());
    });
  }
  ws.close(1000);
}
