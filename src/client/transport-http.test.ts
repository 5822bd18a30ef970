import assert from 'node:assert/strict';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { ApiError } from '#base/errors.ts';
import type { TestJson } from '#base/testing.ts';
import { realClock } from '#os/clock.real.ts';
import { messageOf } from '#base/thrown.ts';
import { fieldOf } from '#base/unknown.ts';
import { kinds } from '#base/kinds.ts';
import { createClient } from './rest-client.ts';
import { ServerChoice } from './server-choice.ts';
import { createHttpTransport } from './transport-http.ts';

interface Fake extends AsyncDisposable {
  url: string;
  sessions: number;
  dropAll(): void;
  requests: string[];
}

async function fakeServer(
  answer: (stream: http2.ServerHttp2Stream, path: string, body: string) => void,
): Promise<Fake> {
  const server = http2.createServer();
  const sessions = new Set<http2.ServerHttp2Session>();
  const fake: Fake = {
    url: '',
    sessions: 0,
    requests: [],
    dropAll: () => {
      for (const session of sessions) session.destroy();
    },
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        for (const session of sessions) session.destroy();
        server.close(() => resolve());
      }),
  };
  server.on('session', (session) => {
    fake.sessions++;
    sessions.add(session);
    session.on('error', () => undefined);
    session.on('close', () => sessions.delete(session));
  });
  server.on('stream', (stream, headers) => {
    let body = '';
    stream.on('error', () => undefined);
    stream.on('data', (chunk) => {
      body += String(chunk);
    });
    stream.on('end', () => {
      fake.requests.push(`${headers[':method']} ${headers[':path']} ${headers['authorization'] ?? ''}`);
      answer(stream as http2.ServerHttp2Stream, String(headers[':path']), body);
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  fake.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return fake;
}

test('requests carry token, query and body, and failures become ApiErrors', async () => {
  await using server = await fakeServer((stream, path, body) => {
    stream.respond({ ':status': path.includes('missing') ? 404 : 200 });
    stream.end(
      path.includes('missing')
        ? JSON.stringify({
            kind: 'Status',
            reason: 'NotFound',
            message: 'pods "missing" not found',
            code: 404,
            details: { name: 'missing' },
          })
        : JSON.stringify({ echoed: body === '' ? null : JSON.parse(body) }),
    );
  });
  await using transport = createHttpTransport({ server: server.url, token: () => 'secret', clock: realClock });
  const client = createClient(transport);
  const made: TestJson = await client.create(
    kinds.ConfigMap,
    { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'a', namespace: 'x' } },
    { fieldManager: 'me' },
  );
  assert.equal(made.echoed.metadata.name, 'a');
  assert.equal(server.requests[0], 'POST /api/v1/namespaces/x/configmaps?fieldManager=me Bearer secret');
  await assert.rejects(
    client.get(kinds.Pod, 'missing', 'x'),
    (error) => error instanceof ApiError && error.reason === 'NotFound' && error.details?.name === 'missing',
  );
  assert.equal(server.sessions, 1);
});

test('watch events come through split chunks, and leaving the loop ends the stream', async () => {
  const closed = Promise.withResolvers<void>();
  await using server = await fakeServer((stream) => {
    stream.respond({ ':status': 200 });
    stream.on('close', () => closed.resolve());
    stream.write('{"type":"ADDED","object":{"metadata":{"name":"a"}}}\n{"type":"MODI');
    stream.write('FIED","object":{"metadata":{"name":"b"}}}\n');
  });
  await using transport = createHttpTransport({ server: server.url, clock: realClock });
  const names: string[] = [];
  for await (const event of createClient(transport).watch(kinds.Pod, { resourceVersion: '1' })) {
    names.push(`${event.type} ${event.object.metadata.name}`);
    if (names.length === 2) break;
  }
  assert.deepEqual(names, ['ADDED a', 'MODIFIED b']);
  await closed.promise;
});

test('a lost connection fails what is under way and is made again', async () => {
  let hang = true;
  await using server = await fakeServer((stream) => {
    if (hang) {
      hang = false;
      server.dropAll();
      return;
    }
    stream.respond({ ':status': 200 });
    stream.end('{}');
  });
  await using transport = createHttpTransport({ server: server.url, clock: realClock });
  const client = createClient(transport);
  await assert.rejects(
    client.get(kinds.Pod, 'a', 'x'),
    (error) => error instanceof ApiError && error.reason === 'ServiceUnavailable',
  );
  await client.get(kinds.Pod, 'a', 'x');
  assert.equal(server.sessions, 2);
});

test('a server that is not there is ServiceUnavailable', async () => {
  await using transport = createHttpTransport({ server: 'http://127.0.0.1:1', clock: realClock });
  await assert.rejects(
    createClient(transport).get(kinds.Pod, 'a', 'x'),
    (error) => error instanceof ApiError && error.reason === 'ServiceUnavailable',
  );
});

test('an aborted watch ends without an error', async () => {
  await using server = await fakeServer((stream) => {
    stream.respond({ ':status': 200 });
    stream.write('{"type":"ADDED","object":{"metadata":{"name":"a"}}}\n');
  });
  await using transport = createHttpTransport({ server: server.url, clock: realClock });
  const stop = new AbortController();
  let count = 0;
  for await (const _event of createClient(transport).watch(kinds.Pod, { signal: stop.signal })) {
    count++;
    stop.abort();
  }
  assert.equal(count, 1);
});

test('of several servers the next is asked when one is gone, cannot serve, or is not listed any more', async () => {
  let status = 200;
  const answer =
    (name: string, code: () => number) =>
    (stream: http2.ServerHttp2Stream): void => {
      stream.respond({ ':status': code() });
      stream.end(JSON.stringify({ kind: 'Status', reason: 'ServiceUnavailable', name }));
    };
  await using first = await fakeServer(answer('first', () => status));
  await using second = await fakeServer(answer('second', () => 200));
  const choice = new ServerChoice([first.url, 'http://127.0.0.1:1', second.url]);
  await using transport = createHttpTransport({ server: choice, clock: realClock });
  const ask = (): Promise<unknown> => transport.send({ method: 'GET', path: '/x' });
  const nameOf = (object: unknown): unknown => fieldOf(object, 'name');
  assert.equal(nameOf(await ask()), 'first');
  transport.renew();
  assert.equal(nameOf(await ask()), 'first', 'a renewed connection is no failure');
  status = 503;
  await assert.rejects(transport.send({ method: 'POST', path: '/x', body: {} }), 'a write is not repeated');
  assert.equal(choice.current, 'http://127.0.0.1:1');
  assert.equal(nameOf(await ask()), 'second', 'a read is asked of each');
  status = 200;
  second.dropAll();
  assert.equal(nameOf(await eventually(ask, (answered) => nameOf(answered) === 'first')), 'first');
  choice.replace([second.url]);
  assert.equal(nameOf(await ask()), 'second');
});

async function eventually(ask: () => Promise<unknown>, fits: (answer: unknown) => boolean): Promise<unknown> {
  for (;;) {
    // A connection that was just dropped fails what is under way.
    const answer = await ask().catch(messageOf);
    if (fits(answer)) return answer;
    await realClock.sleep(10);
  }
}

test('requests are held to what the server takes at a time, also when it tells late', async () => {
  let limited = false;
  const looked: string[] = [];
  await using server = await fakeServer((stream, path) => {
    looked.push(path);
    if (!limited) stream.session?.settings({ maxConcurrentStreams: 4 });
    limited = true;
    setTimeout(() => {
      if (stream.destroyed) return;
      stream.respond({ ':status': 200 });
      stream.end('{}\n');
    }, 20);
  });
  await using transport = createHttpTransport({ server: server.url, clock: realClock });
  await transport.send({ method: 'GET', path: '/first' });
  const posts = Array.from({ length: 40 }, (_, i) => transport.send({ method: 'POST', path: `/${i}`, body: {} }));
  assert.equal((await Promise.all(posts)).length, 40);
  assert.equal(new Set(looked).size, 41);
});

test('a stream that was refused is opened anew', async () => {
  let refused = 0;
  await using server = await fakeServer((stream) => {
    if (refused++ % 3 < 2) {
      stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
      return;
    }
    stream.respond({ ':status': 200 });
    stream.end('{"type":"ADDED","object":{}}\n');
  });
  await using transport = createHttpTransport({ server: server.url, clock: realClock });
  assert.equal(fieldOf(await transport.send({ method: 'POST', path: '/a', body: {} }), 'type'), 'ADDED');
  let events = 0;
  for await (const batch of transport.watch({ method: 'GET', path: '/b' })) events += batch.length;
  assert.deepEqual([events, refused], [1, 6]);
});
