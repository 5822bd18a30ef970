/** Secrets and SSH agents of a build's client, over its session. */
import type { Socket } from 'node:net';
import { whenDrained } from '#base/streams.ts';
import { notForwarded } from '../llb/secrets.ts';
import type { SecretSource } from '../llb/secrets.ts';
import { GrpcError, code } from '#grpc/errors.ts';
import { bytesIn } from '#grpc/fields.ts';
import type { Message } from '#grpc/fields.ts';
import type { Session } from './session.ts';

const getSecret = '/moby.buildkit.secrets.v1.Secrets/GetSecret';
const checkAgent = '/moby.sshforward.v1.SSH/CheckAgent';
const forwardAgent = '/moby.sshforward.v1.SSH/ForwardAgent';

export function sessionSecrets(session: (signal: AbortSignal) => Promise<Session>): SecretSource {
  return {
    async get(id, signal) {
      const { client, serves } = await session(signal);
      if (!serves(getSecret)) return undefined;
      try {
        return bytesIn(await client.call(getSecret, { ID: id }, signal), 'data');
      } catch (error) {
        if (error instanceof GrpcError && error.status === code.notFound) return undefined;
        throw error;
      }
    },
    async whyNoAgent(id, signal) {
      const { client, serves } = await session(signal);
      if (!serves(checkAgent)) return notForwarded(id);
      try {
        await client.call(checkAgent, { ID: id }, signal);
        return undefined;
      } catch (error) {
        // The client forwards something, and no agent of this id.
        if (error instanceof GrpcError) return error.message.slice(0, 500);
        throw error;
      }
    },
    async forwardAgent(id, socket, signal) {
      const { client } = await session(signal);
      using stream = client.open(forwardAgent, { 'buildkit.ssh.id': id }, signal);
      const sending = (async () => {
        for await (const data of socket.iterator({ destroyOnReturn: false })) await stream.send({ data });
        stream.end();
      })();
      const receiving = receive(stream.messages, socket);
      await Promise.all([sending, receiving]);
    },
  };
}

async function receive(messages: AsyncIterable<Message>, socket: Socket): Promise<void> {
  for await (const message of messages) if (!socket.write(bytesIn(message, 'data'))) await whenDrained(socket);
  socket.end();
}
