/** Asks aggregated API servers over HTTPS, as the front proxy that they trust. */
import { Agent, request as httpsRequest } from 'node:https';
import { readAnswer } from './answer-body.ts';
import type { RemoteAnswer, RemoteCaller, RemoteTarget } from './remote-apis.ts';
import type { KeyPair } from '#base/x509.ts';
import { remoteAnswerBytesMax } from './limits.ts';

/** How a connection to the target is made: whom it trusts, and as whom it comes. */
export function remoteAgent({ ca, servername, insecure }: RemoteTarget, client: KeyPair): Agent {
  return new Agent({
    cert: client.certificatePem,
    key: client.keyPem,
    servername,
    rejectUnauthorized: !insecure,
    keepAlive: false,
    ...(ca === undefined ? {} : { ca }),
  });
}

/** `client` gives the front proxy's certificate of now. */
export function createRemoteCaller(client: () => KeyPair): RemoteCaller {
  return (target, { method, path, headers, body, timeoutMs }) =>
    new Promise<RemoteAnswer>((resolve, reject) => {
      const out = httpsRequest(
        {
          host: target.host,
          port: target.port,
          path,
          method,
          headers: { ...headers, host: target.servername },
          agent: remoteAgent(target, client()),
          signal: AbortSignal.timeout(timeoutMs),
        },
        (answer) => {
          const done = (body: Buffer): void => {
            const type = answer.headers['content-type'];
            resolve({
              status: answer.statusCode ?? 502,
              headers: type === undefined ? {} : { 'content-type': type },
              body,
            });
          };
          readAnswer(answer, { out, bytesMax: remoteAnswerBytesMax }, done, reject);
        },
      );
      out.on('error', (error) =>
        reject(error.name === 'TimeoutError' ? new Error('context deadline exceeded') : error),
      );
      out.end(body);
    });
}
