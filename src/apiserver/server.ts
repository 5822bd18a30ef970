/**
 * The API server as a function from requests to answers. It owns no sockets (`http.ts` does) and no timers but those of the clock it is given.
 * `createApiServer` is quick: kinds are records, their structure is read at first use.
 */
import type { ApiHandler } from '#base/api-request.ts';
import { builtInKinds } from '#schema/kinds.ts';
import { bootstrap } from './bootstrap.ts';
import { runChain } from './chain.ts';
import type { ApiServerOptions, Server } from './context.ts';
import { runCustomResources } from './crd.ts';
import { KindTable } from './kind-table.ts';
import { historyBytesMax, historyKeepMs, historyRevisionsMax, historyStepsPerKeep } from './limits.ts';
import { Objects } from './objects.ts';
import { forgetFrames } from './watch-frames.ts';

export interface ApiServer extends AsyncDisposable {
  handle: ApiHandler;
  /** For the transport. */
  server: Server;
}

export async function createApiServer(options: ApiServerOptions): Promise<ApiServer> {
  const server: Server = {
    options, store: options.store, clock: options.clock, random: options.random, log: options.log, kinds: new KindTable(builtInKinds),
    objects: new Objects(options.keys.encryption, options.random), handle: (request) => runChain(server, request), caches: new Map(),
  };
  await bootstrap(server);
  const stopCompaction = runCompaction(server);
  const stopCustom = await runCustomResources(server);
  return {
    handle: server.handle, server,
    async [Symbol.asyncDispose]() { stopCompaction(); stopCustom(); },
  };
}

/**
 * Forgets history older than `historyKeepMs`, what lies more than `historyRevisionsMax` back, and at once what is more than `historyBytesMax`: a burst of writes
 * must not fill the memory with old versions. Who resumes a watch from before that is told `Expired` and lists again.
 */
function runCompaction(server: Server): () => void {
  const keep = server.options.historyKeepMs ?? historyKeepMs;
  if (keep === 0) return () => undefined;
  const step = keep / historyStepsPerKeep;
  let marks: { atMs: number; revision: number }[] = [];
  let stopped = false;
  let timer = { cancel(): void {} };
  const arm = (): void => {
    timer = server.clock.setTimer(step, () => {
      const now = server.clock.monotonic();
      const current = server.store.currentRevision();
      const old = marks.filter((m) => m.atMs <= now - keep).at(-1)?.revision ?? 0;
      marks = [...marks.filter((m) => m.atMs > now - keep), { atMs: now, revision: current }];
      forgetFrames();
      const upTo = Math.max(old, current - historyRevisionsMax);
      const done = upTo > server.store.compactedRevision() ? server.store.compact(upTo) : Promise.resolve();
      done.catch((error: unknown) => server.log.error('compaction failed', { error })).finally(() => { if (!stopped) arm(); });
    }, { background: true });
  };
  arm();
  // Large values come faster than the timer: each write that leaves too much history behind asks for less.
  let under = false;
  server.onWritten = () => {
    if (under || server.store.historyBytes() <= historyBytesMax) return;
    under = true;
    server.store.compact(server.store.revisionKeeping(historyBytesMax / 2)).catch((error: unknown) => server.log.error('compaction failed', { error })).finally(() => { under = false; });
  };
  return () => { stopped = true; timer.cancel(); };
}
