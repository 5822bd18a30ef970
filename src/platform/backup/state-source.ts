/**
 * The state of the cluster at one revision, as frames: the first has the revision and the number of keys, each further
 * one a key, `{key, created, modified, lease, bytes}`, and its value as it is stored (Secrets sealed).
 *
 * The store's multi-version state makes it one revision: which values it is made of is noted in a few turns of the
 * thread, and they stay what they are while later writes go on. Nothing is held up, and nothing is written.
 */
import { createServer, request } from 'node:http';
import { chmodSync, rmSync } from 'node:fs';
import { pipeline, Readable } from 'node:stream';
import { ApiError } from '#base/errors.ts';
import type { Logger } from '#observe/log.ts';
import { silentLogger } from '#observe/log.ts';
import { realClock } from '#os/clock.real.ts';
import { openSqliteStore } from '#store/sqlite.ts';
import { CompactedError, type Store, type StoredValue } from '#store/store.ts';
import { stateAttemptsMax, stateKeysPerTurn } from '../limits.ts';
import { files, type Paths } from '../paths.ts';
import { frameHead } from './frames.ts';

const chunkBytes = 256 * 1024;

/** All values at one revision, by reference. */
async function valuesAt(store: Store): Promise<{ values: StoredValue[]; revision: number }> {
  for (let attempt = 1; ; attempt++) {
    await store.sync();
    const revision = store.currentRevision();
    try {
      const values: StoredValue[] = [];
      for (let more = true; more;) {
        const after = values.at(-1)?.key;
        const page = await store.list('', {
          revision,
          limit: stateKeysPerTurn,
          ...(after === undefined ? {} : { after }),
        });
        values.push(...page.values);
        ({ more } = page);
        await realClock.sleep(0);
      }
      return { values, revision };
    } catch (error) {
      // History was forgotten while it was read.
      if (!(error instanceof CompactedError) || attempt === stateAttemptsMax) throw error;
    }
  }
}

/** Several frames in a chunk: most are small. */
export async function* stateFrames(store: Store): AsyncGenerator<Buffer> {
  const { values, revision } = await valuesAt(store);
  let held: Uint8Array[] = [frameHead({ revision, keys: values.length }, 0)];
  let bytes = 0;
  for (const { key, value, createRevision: created, modRevision: modified, lease } of values) {
    const head = frameHead({ key, created, modified, ...(lease === undefined ? {} : { lease }) }, value.length);
    held.push(head, value);
    bytes += head.length + value.length;
    if (bytes < chunkBytes) continue;
    yield Buffer.concat(held);
    held = [];
    bytes = 0;
  }
  yield Buffer.concat(held);
}

/** Gives the state to whoever opens the socket, which only root may. */
export async function serveState(paths: Paths, store: Store, log: Logger): Promise<AsyncDisposable> {
  const path = files.stateSocket(paths);
  const server = createServer((_request, response) => {
    response.setHeader('content-type', 'application/octet-stream');
    // An answer that breaks off is one that whoever asked notices.
    pipeline(Readable.from(stateFrames(store), { objectMode: false }), response, (error) => {
      if (error) log.warn('the state was not read to its end', { error });
    });
  });
  rmSync(path, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => resolve());
  });
  chmodSync(path, 0o600);
  return {
    [Symbol.asyncDispose]: () =>
      new Promise<void>((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}

/** What a process of the platform answers by its socket. Rejects with ServiceUnavailable where none does. */
export function askSocket(
  socketPath: string,
  { path = '/', body, part }: { path?: string; body?: object; part: string },
): Promise<Readable> {
  return new Promise((resolve, reject) => {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const call = request(
      {
        ...{ socketPath, path, method: text === undefined ? 'GET' : 'POST' },
        headers:
          text === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) },
      },
      (response) => {
        if (response.statusCode === 200) resolve(response);
        else {
          response.setEncoding('utf8');
          let said = '';
          response.on('data', (chunk: string) => (said += chunk.slice(0, 4096)));
          response.on('error', reject);
          response.on('end', () => reject(new ApiError('BadRequest', messageIn(said))));
        }
      },
    );
    call.on('error', (cause: Error) => {
      const error = new ApiError('ServiceUnavailable', `${part} does not answer: ${cause.message}`);
      error.cause = cause;
      reject(error);
    });
    call.end(text);
  });
}

function messageIn(body: string): string {
  try {
    const found: unknown = JSON.parse(body);
    return typeof found === 'object' && found !== null && 'message' in found ? String(found.message) : body;
  } catch {
    return body;
  }
}

/** Of a server that runs. */
export function stateOfServer(paths: Paths): Promise<AsyncIterable<Uint8Array>> {
  return askSocket(files.stateSocket(paths), { part: 'the server' });
}

/** Of the file, while no server runs. */
export async function* stateOfFile(paths: Paths): AsyncGenerator<Uint8Array> {
  await using store = await openSqliteStore({ path: files.database(paths), clock: realClock, log: silentLogger });
  yield* stateFrames(store);
}
