/** gRPC on connections that are there already: answers, streams, statuses, and what is refused. */
import assert from 'node:assert/strict';
import { duplexPair } from 'node:stream';
import { test } from 'node:test';
import { ApiError } from '#base/errors.ts';
import { GrpcError } from '#grpc/errors.ts';
import type { GrpcClient } from '#grpc/client.ts';
import { connectGrpc, serveGrpc, unary } from './grpc.ts';
import type { Handler } from './grpc.ts';
import { messageBytesMax } from './limits.ts';

const info = '/moby.buildkit.v1.Control/Info';
const status = '/moby.buildkit.v1.Control/Status';
const session = '/moby.buildkit.v1.Control/Session';
const forever = new AbortController().signal;

async function withServer(handlers: [string, Handler][], check: (client: GrpcClient) => Promise<void>): Promise<void> {
  const [near, far] = duplexPair();
  serveGrpc(far, new Map(handlers));
  const client = connectGrpc(near);
  try {
    await check(client);
  } finally {
    client.close();
    near.destroy();
    far.destroy();
  }
}

test('a call is answered, and a failure keeps its status and words', () =>
  withServer(
    [
      [info, async () => ({ buildkitVersion: { version: 'v1' } })],
      [
        status,
        unary(async ({ request }) => {
          if (request['Ref'] === 'gone') throw new ApiError('NotFound', 'no “job” 100 %');
          throw new Error('plain');
        }),
      ],
    ],
    async (client) => {
      const answer = await client.call(info, {}, forever);
      assert.equal((answer['buildkitVersion'] as { version: string }).version, 'v1');
      const fails = (code: number, message: string) => (error: unknown) =>
        error instanceof GrpcError && error.status === code && error.message === message;
      await assert.rejects(client.call(status, { Ref: 'gone' }, forever), fails(5, 'no “job” 100 %'));
      await assert.rejects(client.call(status, { Ref: 'x' }, forever), fails(2, 'plain'));
      await assert.rejects(client.call(session, {}, forever), (error: GrpcError) => error.status === 12);
    },
  ));

test('streams carry messages both ways until both sides have said all', () =>
  withServer(
    [
      [
        session,
        async ({ messages, send }) => {
          for await (const message of messages) await send(message);
          return undefined;
        },
      ],
    ],
    async (client) => {
      using stream = client.open(session, {}, forever);
      const large = Buffer.alloc(3_000_000, 'x');
      await stream.send({ data: Buffer.from('one') });
      const seen: number[] = [];
      for await (const message of stream.messages) {
        seen.push((message['data'] as Buffer).length);
        if (seen.length === 1) await stream.send({ data: large });
        if (seen.length === 2) stream.end();
      }
      assert.deepEqual(seen, [3, large.length]);
    },
  ));

test('who goes away is heard of', () =>
  withServer(
    [
      [
        status,
        async ({ signal, send }) => {
          await send({});
          await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
          ended.resolve();
          return undefined;
        },
      ],
    ],
    async (client) => {
      {
        using stream = client.open(status, {}, forever);
        await stream.send({ Ref: 'r' });
        assert.equal((await stream.messages.next()).done, false);
      }
      await ended.promise;
    },
  ));
const ended = Promise.withResolvers<void>();

test('a message beyond the bound is refused before it is there', async () => {
  let received = 0;
  await withServer(
    [
      [
        session,
        async ({ messages }) => {
          for await (const message of messages) received += (message['data'] as Buffer).length;
          return {};
        },
      ],
    ],
    async (client) => {
      using stream = client.open(session, {}, forever);
      await stream.send({ data: Buffer.from('x') });
      void stream.send({ data: Buffer.alloc(messageBytesMax + 1) }).catch(() => undefined); // The other side hangs up.
      await assert.rejects(
        async () => {
          for await (const message of stream.messages) assert.fail(`answered ${JSON.stringify(message)}`);
        },
        (error: unknown) => error instanceof GrpcError && error.status === 8,
      );
    },
  );
  assert.equal(received, 1, 'the small one before it');
});
