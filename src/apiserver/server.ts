/**
 * The API server as a function from requests to answers. It owns no sockets (`http.ts` does) and no timers but those of
 * the clock it is given.
 * `createApiServer` is quick: kinds are records, their structure is read at first use.
 */
import type { ApiHandler } from '#base/api-request.ts';
import { builtInKinds } from '#schema/kinds.ts';
import { bootstrap, keepOwnObjects } from './bootstrap.ts';
import { runChain } from './chain.ts';
import type { ApiServerOptions, Server } from './context.ts';
import { runCustomResources } from './crd.ts';
import { KindTable } from './kind-table.ts';
import {
  burstRevisionsMin,
  historyBytesMax,
  historyKeepMs,
  historyRevisionsMax,
  historyStepsPerKeep,
  releaseIntervalMs,
  releasesAfterBurst,
} from './limits.ts';
import { Objects } from './objects.ts';
import { forgetFrames } from './watch-frames.ts';

export interface ApiServer extends AsyncDisposable {
  handle: ApiHandler;
  /** For the transport. */
  server: Server;
}

export async function createApiServer(options: ApiServerOptions): Promise<ApiServer> {
  const server: Server = {
    options,
    store: options.store,
    clock: options.clock,
    random: options.random,
    log: options.log,
    kinds: new KindTable(builtInKinds),
    objects: new Objects(options.keys.encryption, options.random),
    handle: (request) => runChain(server, request),
    caches: new Map(),
  };
  await bootstrap(server);
  const stopKeeping = keepOwnObjects(server);
  const stopCompaction = runCompaction(server);
  const stopCustom = await runCustomResources(server);
  return {
    handle: server.handle,
    server,
    async [Symbol.asyncDispose]() {
      stopKeeping();
      stopCompaction();
      stopCustom();
    },
  };
}

/**
 * Forgets history older than `historyKeepMs`, what lies more than `historyRevisionsMax` back, and at once what is more
 * than `historyBytesMax`: a burst of writes must not fill the memory with old versions. Who resumes a watch from before
 * that is told `Expired` and lists again. When a burst is over and its history is forgotten, its memory goes back.
 */
function runCompaction(server: Server): () => void {
  const keep = server.options.historyKeepMs ?? historyKeepMs;
  if (keep === 0) return () => undefined;
  let marks: { atMs: number; revision: number }[] = [];
  let stopped = false;
  let timer = { cancel(): void {} };
  let releases = releasesAfterBurst;
  const step = async (): Promise<void> => {
    const { store, clock } = server;
    const [now, current, compacted] = [clock.monotonic(), store.currentRevision(), store.compactedRevision()];
    const written = current - (marks.at(-1)?.revision ?? current);
    const old = marks.filter((m) => m.atMs <= now - keep).at(-1)?.revision ?? 0;
    marks = [...marks.filter((m) => m.atMs > now - keep), { atMs: now, revision: current }];
    forgetFrames();
    const upTo = Math.max(old, current - historyRevisionsMax);
    if (upTo > compacted) await store.compact(upTo);
    if (written >= burstRevisionsMin || upTo - compacted >= burstRevisionsMin) releases = releasesAfterBurst;
    else if (releases > 0) {
      releases--;
      await server.options.releaseMemory?.();
    }
  };
  const arm = (): void => {
    const delayMs = releases > 0 && releases < releasesAfterBurst ? releaseIntervalMs : keep / historyStepsPerKeep;
    timer = server.clock.setTimer(
      delayMs,
      () => {
        step()
          .catch((error: unknown) => server.log.error('compaction failed', { error }))
          .finally(() => {
            if (!stopped) arm();
          });
      },
      { background: true },
    );
  };
  arm();
  // Large values come faster than the timer: each write that leaves too much history behind asks for less.
  let under = false;
  server.onWritten = () => {
    if (under || server.store.historyBytes() <= historyBytesMax) return;
    under = true;
    server.store
      .compact(server.store.revisionKeeping(historyBytesMax / 2))
      .catch((error: unknown) => server.log.error('compaction failed', { error }))
      .finally(() => {
        under = false;
      });
  };
  return () => {
    stopped = true;
    timer.cancel();
  };
}
