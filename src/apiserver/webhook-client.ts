/**
 * Calls webhooks over HTTPS: by URL, or through a Service's cluster address with the Service's name in the certificate.
 */
import { request } from 'node:https';
import { isIp } from '#base/ip.ts';
import type { WebhookClientConfig } from '#api/admissionregistration.v1.ts';
import { kinds } from '#base/kinds.ts';
import { readAnswer } from './answer-body.ts';
import type { Server, WebhookCaller } from './context.ts';
import { lookUp } from './lookup.ts';
import { requestBodyBytesMax } from './limits.ts';

/** Without a name, the address itself must be in the certificate: TLS names no addresses. */
interface Target {
  host: string;
  port: number;
  path: string;
  servername: string | undefined;
}

async function targetOf(server: Server, config: WebhookClientConfig): Promise<Target> {
  if (config.url) {
    const url = new URL(config.url);
    const host = url.hostname.replace(/^\[|\]$/g, '');
    return {
      host,
      port: Number(url.port || 443),
      path: url.pathname + url.search,
      servername: isIp(host) ? undefined : host,
    };
  }
  if (config.service === undefined) throw new Error('neither a URL nor a service is given');
  const { namespace, name, path, port } = config.service;
  const service = await lookUp(server, kinds.Service, name, namespace);
  if (service === undefined) throw new Error(`service ${JSON.stringify(name)} not found`);
  const address = service.spec?.clusterIP;
  if (!address || address === 'None') throw new Error(`service ${JSON.stringify(name)} has no cluster address`);
  return { host: address, port: port ?? 443, path: path ?? '/', servername: `${name}.${namespace}.svc` };
}

export function createWebhookCaller(server: Server): WebhookCaller {
  return async (config, body, timeoutMs) => {
    const target = await targetOf(server, config);
    const text = JSON.stringify(body);
    const ca = config.caBundle ? Buffer.from(config.caBundle, 'base64').toString() : undefined;
    return new Promise<unknown>((resolve, reject) => {
      const out = request(
        {
          host: target.host,
          port: target.port,
          path: target.path,
          method: 'POST',
          ...(target.servername === undefined ? {} : { servername: target.servername }),
          agent: false,
          signal: AbortSignal.timeout(timeoutMs),
          headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) },
          ...(ca === undefined ? {} : { ca }),
        },
        (answer) => {
          const done = (received: Buffer): void => {
            if (answer.statusCode === 200) resolve(JSON.parse(received.toString()));
            else reject(new Error(`an error on the server (status ${answer.statusCode})`));
          };
          readAnswer(answer, { out, bytesMax: requestBodyBytesMax }, done, reject);
        },
      );
      out.on('error', (error) =>
        reject(
          error.name === 'TimeoutError' || error.name === 'AbortError'
            ? new Error(
                `Post "https://${target.servername ?? target.host}:${target.port}${target.path}?timeout=${timeoutMs / 1000}s": context deadline exceeded`,
              )
            : error,
        ),
      );
      out.end(text);
    });
  };
}
