/**
 * A load of HTTP requests: a fixed rate over a fixed number of connections, a deadline for each request and no retry.
 * Every request is a line in a log: start in ms, status or error, latency in ms, the version that answered.
 */
import { createWriteStream, type WriteStream } from 'node:fs';
import { Agent, request } from 'node:http';
import type { Clock, Timer } from '#os/clock.ts';

export interface LoadOptions {
  url: string;
  connections: number;
  perSecond: number;
  deadlineMs: number;
  logPath: string;
  clock: Clock;
}
export interface LoadResult {
  requests: number;
  failed: number;
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  maxMs: number;
  versions: Record<string, number>;
  firstFailures: string[];
}
export interface Load {
  stop(): Promise<LoadResult>;
}

export function startLoad(options: LoadOptions): Load {
  const { clock } = options;
  const agent = new Agent({
    keepAlive: true,
    maxSockets: options.connections,
    maxFreeSockets: options.connections,
    scheduling: 'fifo',
  });
  const log: WriteStream = createWriteStream(options.logPath);
  const begunMs = clock.monotonic();
  const latencies: number[] = [];
  const versions: Record<string, number> = {};
  const firstFailures: string[] = [];
  let sent = 0;
  let failed = 0;
  let inFlight = 0;
  let stopped = false;
  let timer: Timer | undefined;
  let onIdle: (() => void) | undefined;

  const one = (): void => {
    const atMs = clock.monotonic();
    sent += 1;
    inFlight += 1;
    let finished = false;
    const finish = (outcome: string, ok: boolean, version: string): void => {
      if (finished) return;
      finished = true;
      deadline.cancel();
      inFlight -= 1;
      const tookMs = clock.monotonic() - atMs;
      latencies.push(tookMs);
      if (version !== '') versions[version] = (versions[version] ?? 0) + 1;
      if (!ok) {
        failed += 1;
        if (firstFailures.length < 5) firstFailures.push(`${Math.round(atMs - begunMs)} ms: ${outcome}`);
      }
      log.write(`${(atMs - begunMs).toFixed(1)} ${outcome} ${tookMs.toFixed(1)} ${version}\n`);
      if (inFlight === 0) onIdle?.();
    };
    const call = request(options.url, { agent }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => {
        if (body.length < 4096) body += chunk.toString('utf8');
      });
      response.on('end', () =>
        finish(String(response.statusCode), response.statusCode === 200, /"version":"([^"]*)"/.exec(body)?.[1] ?? ''),
      );
      response.on('error', (error) => finish(`body:${error.message}`, false, ''));
    });
    const deadline = clock.setTimer(options.deadlineMs, () => {
      call.destroy();
      finish('deadline', false, '');
    });
    call.on('error', (error: NodeJS.ErrnoException) => finish(`error:${error.code ?? error.message}`, false, ''));
    call.end();
  };
  const tick = (): void => {
    if (stopped) return;
    const due = Math.floor(((clock.monotonic() - begunMs) / 1000) * options.perSecond);
    // A pause of this process is made up for, but never with more than its connections can carry.
    while (sent < due && inFlight < options.connections) one();
    timer = clock.setTimer(4, tick);
  };
  tick();
  return {
    async stop() {
      stopped = true;
      timer?.cancel();
      if (inFlight > 0)
        await new Promise<void>((resolve) => {
          onIdle = resolve;
        });
      const elapsed = (clock.monotonic() - begunMs) / 1000;
      agent.destroy();
      await new Promise<void>((resolve) => log.end(resolve));
      latencies.sort((a, b) => a - b);
      const at = (share: number): number =>
        latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? 0;
      return {
        requests: sent,
        failed,
        perSecond: sent / elapsed,
        p50Ms: at(0.5),
        p99Ms: at(0.99),
        maxMs: latencies.at(-1) ?? 0,
        versions,
        firstFailures,
      };
    },
  };
}
