/**
 * Servers that the API server asks by a kubeconfig file: for audit, authentication and authorisation (Kubernetes,
 * "Webhook Token Authentication", "Webhook Mode", "Webhook backend"). `clusters` says where the server is, `users` how
 * this one shows who it is.
 */
import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest, type AgentOptions } from 'node:https';
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { fieldOf, isObject, itemsOf, textOf } from '#base/unknown.ts';
import { parseYaml } from '#base/yaml.ts';
import { readIfExists } from '#os/files.ts';
import { readAnswer } from './answer-body.ts';
import { webhookAnswerBytesMax } from './limits.ts';

/** Sends a body; answers what it answered, which is a stranger's. */
export interface AskedServer {
  ask(body: object, timeoutMs: number): Promise<unknown>;
  close(): void;
}

/** An answer that was no success. */
class WebhookStatusError extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`the server answered with status ${status}`);
    this.status = status;
  }
}

interface Connection {
  url: URL;
  agent: HttpAgent | HttpsAgent;
  headers: Record<string, string>;
}

/** Throws BadRequest, with the file's name, for what it cannot be asked by. */
export function serverOfKubeconfig(file: string): AskedServer {
  const { url, agent, headers } = connectionOf(file);
  return {
    ask: async (body, timeoutMs) => askOnce({ url, agent, headers }, JSON.stringify(body), timeoutMs),
    close: () => agent.destroy(),
  };
}

function connectionOf(file: string): Connection {
  const wrong = (why: string): ApiError => new ApiError('BadRequest', `${file}: ${why}`);
  const text = readIfExists(file);
  if (text === undefined) throw wrong('no such file');
  let config: unknown;
  try {
    config = parseYaml(text);
  } catch (error) {
    throw wrong(messageOf(error));
  }
  const find = (list: string, name: string): unknown =>
    itemsOf(fieldOf(config, list)).find((each) => textOf(each, 'name') === name);
  const current = textOf(config, 'current-context') ?? '';
  const context = fieldOf(find('contexts', current), 'context');
  if (!isObject(context)) throw wrong(`context ${JSON.stringify(current)} does not exist`);
  const cluster = fieldOf(find('clusters', textOf(context, 'cluster') ?? ''), 'cluster');
  const server = textOf(cluster, 'server') ?? '';
  if (!URL.canParse(server) || !/^https?:$/.test(new URL(server).protocol))
    throw wrong(`cluster of context ${JSON.stringify(current)} has no server: ${JSON.stringify(server)}`);
  const user = fieldOf(find('users', textOf(context, 'user') ?? ''), 'user');
  if (fieldOf(user, 'exec') !== undefined || fieldOf(user, 'auth-provider') !== undefined)
    throw wrong('users with exec or auth-provider are not supported');
  const given = (from: unknown, name: string): string | undefined => {
    const data = textOf(from, `${name}-data`);
    if (data !== undefined) return Buffer.from(data, 'base64').toString();
    const path = textOf(from, name);
    if (path === undefined || path === '') return undefined;
    const content = readIfExists(new URL(path, `file://${file}`).pathname);
    if (content === undefined) throw wrong(`${name}: no such file: ${path}`);
    return content;
  };
  const tls: AgentOptions = {
    keepAlive: true,
    maxSockets: 64,
    ...optional('ca', given(cluster, 'certificate-authority')),
    ...optional('cert', given(user, 'client-certificate')),
    ...optional('key', given(user, 'client-key')),
    ...optional('servername', textOf(cluster, 'tls-server-name')),
    ...(fieldOf(cluster, 'insecure-skip-tls-verify') === true ? { rejectUnauthorized: false } : {}),
  };
  const url = new URL(server);
  try {
    return {
      url,
      agent: url.protocol === 'http:' ? new HttpAgent({ keepAlive: true, maxSockets: 64 }) : new HttpsAgent(tls),
      headers: authorizationOf(user, given(user, 'tokenFile') ?? textOf(user, 'token')),
    };
  } catch (error) {
    throw wrong(messageOf(error));
  }
}

const optional = (name: string, value: string | undefined): object => (value === undefined ? {} : { [name]: value });

function authorizationOf(user: unknown, token: string | undefined): Record<string, string> {
  if (token !== undefined) return { authorization: `Bearer ${token.trim()}` };
  const [name, password] = [textOf(user, 'username'), textOf(user, 'password')];
  return name === undefined
    ? {}
    : { authorization: `Basic ${Buffer.from(`${name}:${password ?? ''}`).toString('base64')}` };
}

function askOnce({ url, agent, headers }: Connection, text: string, timeoutMs: number): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const make = url.protocol === 'http:' ? httpRequest : httpsRequest;
    const out = make(
      url,
      {
        method: 'POST',
        agent,
        signal: AbortSignal.timeout(timeoutMs),
        headers: {
          ...headers,
          accept: 'application/json',
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(text),
        },
      },
      (answer) => {
        const done = (received: Buffer): void => {
          const { statusCode = 0 } = answer;
          const body = received.toString();
          // Where it leads elsewhere it is not followed: what is sent is for this server.
          if (statusCode < 200 || statusCode > 299) reject(new WebhookStatusError(statusCode));
          else resolve(body.trim() === '' ? undefined : JSON.parse(body));
        };
        readAnswer(answer, { out, bytesMax: webhookAnswerBytesMax }, done, reject);
      },
    );
    out.on('error', (error) => reject(error.name === 'TimeoutError' ? new Error('context deadline exceeded') : error));
    out.end(text);
  });
}

const retryFactor = 1.5;
const retryMsMax = 30_000;

/** Whether asking again may help. */
const mayPass = (error: unknown): boolean =>
  !(error instanceof WebhookStatusError) || error.status === 429 || error.status >= 500;

/** Asks again, later each time, while that may help. */
export async function askAgain<T>(
  sleep: (ms: number) => Promise<void>,
  { attempts, firstMs }: { attempts: number; firstMs: number },
  ask: () => Promise<T>,
): Promise<T> {
  for (let attempt = 1, delayMs = firstMs; ; attempt++, delayMs = Math.min(retryMsMax, delayMs * retryFactor)) {
    try {
      return await ask();
    } catch (error) {
      if (attempt >= attempts || !mayPass(error)) throw error;
      await sleep(delayMs);
    }
  }
}
