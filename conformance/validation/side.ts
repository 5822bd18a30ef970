/**
 * The two API servers as one interface: kube-apiserver over HTTPS, which is the judge, and Tiphys' own in this process,
 * over a store in memory.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createTestApi } from '#apiserver/fixture.ts';
import { realClock } from '#os/clock.real.ts';

export interface Question {
  method: string;
  path: string;
  body?: string;
  headers: Record<string, string>;
}
export interface Reply {
  /** 0 where the server gave none. */
  status: number;
  warnings: string[];
  body: unknown;
}
export interface Side extends AsyncDisposable {
  name: string;
  ask(question: Question): Promise<Reply>;
}

const startMsMax = 120_000;
const connectionsMax = 8;
const attemptsMax = 3;

/** `299 - "text"`, several in one header. */
function warningsOf(header: string | undefined): string[] {
  return [...(header ?? '').matchAll(/299 - "((?:[^"\\]|\\.)*)"/g)].map(([, text = '']) =>
    text.replace(/\\(["\\])/g, '$1'),
  );
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** As kube-apiserver has it from its file of tokens. */
const user = { name: 'admin', uid: 'admin', groups: ['system:masters', 'system:authenticated'] };

/** Tiphys' API server, without a transport: what validation answers does not depend on it. */
export async function openSubject(): Promise<Side> {
  // Beside the judge there is no controller that checks policies.
  const api = await createTestApi({ clock: realClock, checksPolicies: false });
  return {
    name: 'Tiphys',
    async ask({ method, path, body, headers }) {
      const answer = await api.call(method, path, body, { headers, user });
      const warnings = warningsOf(answer.headers.warning ?? answer.headers.Warning);
      return { status: answer.status, warnings, body: parse(answer.text) };
    },
    [Symbol.asyncDispose]: () => api[Symbol.asyncDispose](),
  };
}

function connectJudge(port: number, token: string): Side {
  const agent = new Agent({ keepAlive: true, maxSockets: connectionsMax, rejectUnauthorized: false });
  const authorization = `Bearer ${token}`;
  const ask = (question: Question, attempt = 0): Promise<Reply> =>
    new Promise((resolve, reject) => {
      const { method, path, body, headers } = question;
      const sent = request(
        { agent, method, path, port, hostname: '127.0.0.1', headers: { ...headers, authorization } },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('error', reject);
          response.on('end', () => {
            const header = response.rawHeaders.filter((_, i, all) => all[i - 1]?.toLowerCase() === 'warning');
            resolve({
              status: response.statusCode ?? 0,
              warnings: warningsOf(header.join(', ')),
              body: parse(Buffer.concat(chunks).toString()),
            });
          });
        },
      );
      // A connection that was kept may end just now: none of the requests leaves anything behind. One that breaks it
      // each time makes the server panic.
      sent.on('error', (error: NodeJS.ErrnoException) => {
        if (error.code !== 'ECONNRESET') reject(error);
        else if (attempt >= attemptsMax) resolve({ status: 0, warnings: [], body: undefined });
        else ask(question, attempt + 1).then(resolve, reject);
      });
      sent.end(body);
    });
  return {
    name: 'Kubernetes',
    ask: (question) => ask(question),
    async [Symbol.asyncDispose]() {
      agent.destroy();
    },
  };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

function ended(child: ChildProcess): Promise<unknown> {
  return child.exitCode === null && child.signalCode === null
    ? new Promise((resolve) => child.once('exit', resolve))
    : Promise.resolve();
}

/**
 * etcd and kube-apiserver from a directory of programs, on ports that were free, with all their files in a temporary
 * directory. All admission plug-ins that are on by default are on; no controller runs.
 */
export async function startJudge(programs: string): Promise<Side> {
  const directory = mkdtempSync(join(tmpdir(), 'tiphys-judge-'));
  const children: ChildProcess[] = [];
  const stop = async (): Promise<void> => {
    for (const child of [...children].reverse()) {
      child.kill('SIGKILL');
      await ended(child);
    }
    rmSync(directory, { recursive: true, force: true });
  };
  const start = (name: string, ...words: string[]): void => {
    const log = openSync(join(directory, `${name}.log`), 'w');
    children.push(spawn(join(programs, name), words, { stdio: ['ignore', log, log] }));
  };
  try {
    const [client, peer, secure] = [await freePort(), await freePort(), await freePort()];
    const token = randomBytes(16).toString('hex');
    const key = join(directory, 'service-account.key');
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    writeFileSync(key, privateKey.export({ type: 'pkcs1', format: 'pem' }), { mode: 0o600 });
    writeFileSync(join(directory, 'tokens.csv'), `${token},admin,admin,system:masters\n`, { mode: 0o600 });
    const store = `http://127.0.0.1:${client}`;
    start(
      'etcd',
      ...['--data-dir', join(directory, 'etcd'), '--unsafe-no-fsync', '--log-level', 'warn'],
      ...['--listen-client-urls', store, '--advertise-client-urls', store],
      ...['--listen-peer-urls', `http://127.0.0.1:${peer}`],
    );
    start(
      'kube-apiserver',
      ...[`--etcd-servers=${store}`, `--secure-port=${secure}`, '--bind-address=127.0.0.1', '--allow-privileged'],
      ...[`--cert-dir=${directory}/certificates`, `--token-auth-file=${directory}/tokens.csv`],
      ...['--authorization-mode=Node,RBAC', '--service-account-issuer=https://judge'],
      ...[`--service-account-key-file=${key}`, `--service-account-signing-key-file=${key}`],
      '--service-cluster-ip-range=10.96.0.0/16',
    );
    const judge = connectJudge(secure, token);
    await untilReady(judge, children);
    return {
      ...judge,
      async [Symbol.asyncDispose]() {
        await judge[Symbol.asyncDispose]();
        await stop();
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function untilReady(judge: Side, children: readonly ChildProcess[]): Promise<void> {
  const until = Date.now() + startMsMax;
  for (;;) {
    // Nobody listens at first.
    const reply = await judge.ask({ method: 'GET', path: '/readyz', headers: {} }).catch(() => undefined);
    if (reply?.status === 200) return;
    const dead = children.find((child) => child.exitCode !== null || child.signalCode !== null);
    if (dead !== undefined) throw new Error(`${dead.spawnfile} ended with ${dead.exitCode ?? dead.signalCode}`);
    if (Date.now() > until) throw new Error(`kube-apiserver is not ready after ${startMsMax / 1000} s`);
    await sleep(200);
  }
}
