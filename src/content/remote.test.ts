/** Bodies of uploads to other registries: slow receivers, and such as go away. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { RequestListener } from 'node:http';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { HttpTransport, UnreachableError } from './remote.ts';

const chunkBytes = 256 * 1024;
const chunks = 400;

/** Puts a body to a server; `sent` counts its chunks, `closed` resolves when nobody reads it any more. */
async function upload(t: TestContext, listener: RequestListener) {
  const server = createServer(listener);
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const transport = new HttpTransport({});
  t.after(() => {
    transport.close();
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as { port: number };
  const counts = { sent: 0 };
  const closed = Promise.withResolvers<void>();
  async function* body(): AsyncGenerator<Uint8Array> {
    try {
      for (; counts.sent < chunks; counts.sent++) yield new Uint8Array(chunkBytes);
    } finally {
      closed.resolve();
    }
  }
  const answer = transport.call({ method: 'PUT', url: new URL(`http://127.0.0.1:${port}/`), body: body() });
  return { answer, counts, closed: closed.promise };
}

test('a body that waits for its receiver often leaves no listener behind', async (t) => {
  const warnings: string[] = [];
  const note = (warning: Error): unknown => warnings.push(warning.message);
  process.on('warning', note);
  t.after(() => process.off('warning', note));
  let received = 0;
  const { answer } = await upload(t, (request, response) => {
    request.on('data', (part: Buffer) => (received += part.length));
    request.on('end', () => response.end());
  });
  const response = await answer;
  response.resume();
  assert.equal(response.statusCode, 200);
  assert.equal(received, chunks * chunkBytes);
  // Warnings come by `process.nextTick`.
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(warnings, []);
});

test('a receiver that goes away ends the reading of the body', async (t) => {
  const { answer, counts, closed } = await upload(t, (request) => {
    request.once('data', () => request.destroy());
  });
  await assert.rejects(answer, UnreachableError);
  await closed;
  assert.ok(counts.sent < chunks, String(counts.sent));
});
