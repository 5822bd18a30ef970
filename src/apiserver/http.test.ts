import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import type { ClientHttp2Session } from 'node:http2';
import { createServer, request } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { after, before, it } from 'node:test';
import { createCertificateAuthority, issueCertificate } from '#base/x509.ts';
import type { KeyPair } from '#base/x509.ts';
import { codeOf } from '#base/thrown.ts';
import { realClock } from '#os/clock.real.ts';
import { createTestApi, podBody, pods, seededRandom } from './fixture.ts';
import type { TestApi } from './fixture.ts';
import { HeldPort } from './held-port.ts';
import { serveHttp } from './http.ts';
import type { HttpServer } from './http.ts';
import { pressingStreamsMax, pressingStreamsMin, streamsMax, streamsReviewMs } from './limits.ts';

const stack = new AsyncDisposableStack();
let api: TestApi;
let http: HttpServer;
let ca: string;
let jane: KeyPair;
let admin: KeyPair;

/** A kubelet that echoes upgraded connections and answers logs, for callers with the API server's certificate. */
function startKubelet(serving: KeyPair): Promise<number> {
  const kubelet = createServer({
    cert: serving.certificatePem,
    key: serving.keyPem,
    ca,
    requestCert: true,
    rejectUnauthorized: true,
  });
  kubelet.on('request', (incoming, answer) => {
    answer.writeHead(200, { 'content-type': 'text/plain' });
    answer.write(`log of ${incoming.url}\n`);
    setImmediate(() => answer.end('second line\n'));
  });
  kubelet.on('upgrade', (incoming, socket: Duplex) => {
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${incoming.headers.upgrade}\r\nX-Path: ${incoming.url}\r\n\r\n`,
    );
    socket.on('data', (data: Buffer) => {
      socket.write(`echo ${data.toString()}`);
      socket.end();
    });
  });
  stack.defer(
    () =>
      new Promise((resolve) => {
        kubelet.closeAllConnections();
        kubelet.close(() => resolve());
      }),
  );
  return new Promise((resolve) =>
    kubelet.listen(0, '127.0.0.1', () => resolve((kubelet.address() as AddressInfo).port)),
  );
}

before(async () => {
  api = stack.use(await createTestApi());
  const real = realClock;
  // the fixture's clock is in 2030: certificates that the TLS of today accepts are made by today's clock
  const random = seededRandom(9);
  const authority = createCertificateAuthority('test', random, real);
  ca = authority.certificatePem;
  const issue = (commonName: string, organizations: string[] = []): KeyPair =>
    issueCertificate(
      { commonName, organizations, ipAddresses: ['127.0.0.1'], server: true, client: true },
      authority,
      random,
      real,
    );
  admin = issue('admin', ['system:masters']);
  jane = issue('jane');
  http = stack.use(
    await serveHttp({
      api: api.api,
      serving: issue('api'),
      clientCa: ca,
      kubeletClient: issue('kube-apiserver-kubelet-client'),
      ports: [await HeldPort.open({ host: '127.0.0.1', port: 0 })],
    }),
  );
  const kubeletPort = await startKubelet(issue('kubelet'));
  await api.make('/api/v1/nodes', {
    metadata: { name: 'n1' },
    status: {
      addresses: [{ type: 'InternalIP', address: '127.0.0.1' }],
      daemonEndpoints: { kubeletEndpoint: { Port: kubeletPort } },
    },
  });
  await api.make(pods, podBody('a', { spec: { nodeName: 'n1' } }));
});

after(() => stack.disposeAsync());

function get(
  path: string,
  who: KeyPair | undefined,
  options: { method?: string; headers?: Record<string, string>; body?: string } = {},
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const out = request(
      {
        host: '127.0.0.1',
        port: http.port,
        path,
        ca,
        method: options.method ?? 'GET',
        headers: options.headers ?? {},
        agent: false,
        ...(who === undefined ? {} : { cert: who.certificatePem, key: who.keyPem }),
      },
      (answer) => {
        let text = '';
        answer
          .setEncoding('utf8')
          .on('data', (part: string) => {
            text += part;
          })
          .on('end', () => resolve({ status: answer.statusCode!, text }));
      },
    );
    out.on('error', reject);
    out.end(options.body);
  });
}

it('takes the name and groups of a client certificate', async () => {
  assert.equal((await get('/api/v1/nodes', admin)).status, 200);
  assert.match((await get('/api/v1/nodes', jane)).text, /User \\"jane\\" cannot list resource/);
  assert.match((await get('/api/v1/nodes', undefined)).text, /User \\"system:anonymous\\"/);
});

it('speaks HTTP/2 and streams a watch until the client leaves', async () => {
  const session: ClientHttp2Session = connectHttp2(`https://127.0.0.1:${http.port}`, {
    ca,
    cert: admin.certificatePem,
    key: admin.keyPem,
  });
  try {
    const stream = session.request({ ':path': `${pods}?watch=1` });
    const first = await new Promise<string>((resolve, reject) => {
      stream.setEncoding('utf8').once('data', resolve);
      stream.once('error', reject);
    });
    assert.equal(JSON.parse(first.split('\n')[0]!).type, 'ADDED');
    stream.close();
  } finally {
    session.destroy();
  }
});

it('refuses a body that is too large', async () => {
  const answer = await get(pods, admin, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: 'x'.repeat(4 * 1024 * 1024),
  }).catch((error: unknown) => ({
    status: ['EPIPE', 'ECONNRESET'].includes(codeOf(error) ?? '') ? 413 : 0,
    text: '',
  }));
  assert.equal(answer.status, 413);
});

it('passes logs through from the kubelet', async () => {
  const answer = await get(`${pods}/a/log?follow=true&tailLines=5`, admin);
  assert.equal(answer.text, 'log of /containerLogs/default/a/c?follow=true&tailLines=5\nsecond line\n');
  assert.match((await get(`${pods}/a/log?container=none`, admin)).text, /container none is not valid for pod a/);
});

it('passes an upgraded connection through in both directions', async () => {
  const text = await new Promise<string>((resolve, reject) => {
    const out = request({
      host: '127.0.0.1',
      port: http.port,
      path: `${pods}/a/exec?command=ls&command=-l&stdin=true&stdout=true`,
      method: 'POST',
      ca,
      cert: admin.certificatePem,
      key: admin.keyPem,
      agent: false,
      headers: { connection: 'Upgrade', upgrade: 'SPDY/3.1' },
    });
    out.on('upgrade', (answer, socket) => {
      let seen = `${String(answer.headers['x-path'])} `;
      socket
        .on('data', (data: Buffer) => {
          seen += data.toString();
        })
        .on('end', () => {
          socket.destroy();
          resolve(seen);
        });
      socket.write('hello');
    });
    out.on('response', (answer) => reject(new Error(`status ${answer.statusCode}`)));
    out.on('error', reject);
    out.end();
  });
  assert.equal(text, '/exec/default/a/c?input=1&output=1&command=ls&command=-l echo hello');
});

it('answers an upgrade that is not allowed with a status', async () => {
  const answer = await get(`${pods}/a/exec?command=ls`, jane, {
    method: 'POST',
    headers: { connection: 'Upgrade', upgrade: 'SPDY/3.1' },
  });
  assert.deepEqual([answer.status, JSON.parse(answer.text).reason], [403, 'Forbidden']);
});

it('lets a client have fewer streams at a time while many of them wait for their answers', async () => {
  const session: ClientHttp2Session = connectHttp2(`https://127.0.0.1:${http.port}`, {
    ca,
    cert: admin.certificatePem,
    key: admin.keyPem,
  });
  const limits: number[] = [];
  let isTold = Promise.withResolvers<void>();
  session.on('remoteSettings', ({ maxConcurrentStreams = 0 }) => {
    limits.push(maxConcurrentStreams);
    isTold.resolve();
  });
  try {
    await isTold.promise;
    isTold = Promise.withResolvers();
    const watch = session.request({ ':path': `${pods}?watch=1` });
    await once(watch, 'response');
    watch.resume();
    // Their bodies are waited for.
    const streams = Array.from({ length: pressingStreamsMin + 1 }, () =>
      session.request({ ':method': 'POST', ':path': pods, 'content-type': 'application/json' }),
    );
    await isTold.promise;
    assert.deepEqual(limits, [streamsMax, pressingStreamsMax + 1]);
    isTold = Promise.withResolvers();
    await Promise.all(
      streams.map(async (stream) => {
        stream.end('{}');
        const status = await new Promise((resolve) => {
          stream.once('response', (headers) => resolve(headers[':status']));
        });
        assert.equal(status, 422);
        stream.resume();
        await once(stream, 'close');
      }),
    );
    for (let i = 0; i < 2; i++) api.clock.advance(streamsReviewMs);
    await isTold.promise;
    assert.equal(limits.at(-1), streamsMax);
  } finally {
    session.destroy();
  }
});

it('ends what a client has left before its body had come', async () => {
  const session: ClientHttp2Session = connectHttp2(`https://127.0.0.1:${http.port}`, {
    ca,
    cert: admin.certificatePem,
    key: admin.keyPem,
  });
  try {
    const gone = Array.from({ length: 8 }, () => {
      const stream = session.request({ ':method': 'POST', ':path': pods, 'content-type': 'application/json' });
      stream.on('error', () => undefined);
      stream.write('{');
      return stream;
    });
    await Promise.all(
      gone.map(async (stream) => {
        if (stream.pending) await once(stream, 'ready');
        stream.close(8);
        await once(stream, 'close');
      }),
    );
    assert.equal((await get('/api/v1/nodes', admin)).status, 200);
    // Whoever is waited for in vain is under way for ever.
    while (api.api.server.requests.inFlight > 0) await new Promise((resolve) => setImmediate(resolve));
  } finally {
    session.destroy();
  }
});
