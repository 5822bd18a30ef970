/** For tests: a plugin that listens on a socket and answers as the test says, and keeps what it was asked. */
import { mkdirSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { dirname } from 'node:path';
import { isObject, type JsonObject } from '#base/unknown.ts';

export type Answer = JsonObject | ((response: ServerResponse) => void);
export interface TestPlugin extends AsyncDisposable {
  /** Methods in the order in which they were asked, with their bodies. */
  calls: { method: string; body: JsonObject }[];
}

/** `answers`: by method; one that is missing is 404, as of an older plugin. */
export async function startTestPlugin(
  socket: string,
  kinds: readonly string[],
  answers: Readonly<Record<string, (body: JsonObject) => Answer | Promise<Answer>>>,
): Promise<TestPlugin> {
  const calls: TestPlugin['calls'] = [];
  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    await new Promise((done) => {
      request.on('end', done);
    });
    const method = (request.url ?? '').slice(1);
    const parsed: unknown = JSON.parse(Buffer.concat(parts).toString() || '{}');
    const body = isObject(parsed) ? parsed : {};
    if (method === 'Plugin.Activate') {
      response.end(JSON.stringify({ Implements: kinds }));
      return;
    }
    calls.push({ method, body });
    const answer = answers[method];
    if (answer === undefined) {
      response.writeHead(404).end();
      return;
    }
    const found = await answer(body);
    if (typeof found === 'function') found(response);
    else response.end(JSON.stringify(found));
  };
  const server = createServer((request, response) => {
    handle(request, response).catch((error: unknown) => response.end(JSON.stringify({ Err: String(error) })));
  });
  mkdirSync(dirname(socket), { recursive: true });
  rmSync(socket, { force: true });
  await new Promise<void>((done) => {
    server.listen(socket, done);
  });
  return {
    calls,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((done) => {
        server.close(() => done());
      });
    },
  };
}
