/** For tests: `tiphys engine` as a process of its own, with the docker client to talk to it. */
import { spawn, type ChildProcess } from 'node:child_process';
import { request } from 'node:http';
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import type { TestContext } from 'node:test';
import { makeImage, removeTestEngine } from '#engine/testing.ts';
import { createCertificateAuthority, issueCertificate } from '#base/x509.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { join } from 'node:path';
import { packageRoot } from '#platform/paths.ts';
import { run, type Output } from './machine.ts';

interface StartOptions {
  environment?: Record<string, string>;
  descriptor?: number;
  /** Shell commands before it, in a mount namespace of its own. */
  within?: string;
}

export interface TestDaemon {
  home: string;
  host: string;
  /** Starts it (again), and waits until it answers. */
  start(words?: string[], options?: StartOptions): Promise<void>;
  /** Resolves with its exit code when it has ended. */
  end(signal: NodeJS.Signals): Promise<number>;
  readonly process: ChildProcess;
  log(): string;
  docker(...words: string[]): Promise<Output>;
  /** Standard output of a command that must succeed, without the last newline. */
  ok(...words: string[]): Promise<string>;
}

const answerMsMax = 30_000;

/** Below /tmp, so that the socket's path is short; gone with the test. */
export async function makeDaemon(t: TestContext): Promise<TestDaemon> {
  const home = mkdtempSync('/tmp/tiphys-daemon-');
  const host = `unix://${home}/run/docker.sock`;
  let child: ChildProcess | undefined;
  let text = '';
  const docker = async (...words: string[]): Promise<Output> => run('docker', ['-H', host, ...words]);
  const ended = async (signal: NodeJS.Signals): Promise<number> => {
    const { promise, resolve } = Promise.withResolvers<number>();
    if (child!.exitCode !== null || child!.signalCode !== null) return child!.exitCode ?? 128;
    child!.once('exit', (code) => resolve(code ?? 128));
    child!.kill(signal);
    return promise;
  };
  t.after(async () => {
    if (child !== undefined) await ended('SIGKILL');
    await removeTestEngine(home, idOf(home));
  });
  makeImage(home, ['sh', 'sleep', 'echo', 'true', 'cat', 'seq', 'ls', 'id', 'grep', 'hostname', 'readlink']);
  const daemon: TestDaemon = {
    home,
    host,
    docker,
    get process() {
      return child!;
    },
    log: () => text,
    end: ended,
    async start(words = [], { environment = {}, descriptor, within } = {}) {
      const all = [
        'engine',
        ...(words.some((word) => word.startsWith('--config-file')) ? [] : ['--config-file=/dev/null']),
      ];
      text = '';
      const around = within === undefined ? [] : ['unshare', '-m', 'sh', '-ec', `${within}\nexec "$@"`, 'sh'];
      const [file, ...before] = [...around, '/bin/sh'];
      // LISTEN_PID is the pid of what execs the engine, as systemd's child does.
      child = spawn(
        file,
        [...before, '-c', 'export LISTEN_PID=$$; exec "$@"', 'sh', join(packageRoot, 'tiphys'), ...all, ...words],
        {
          env: { ...process.env, TIPHYS_HOME: home, ...environment },
          stdio: ['ignore', 'ignore', 'pipe', ...(descriptor === undefined ? [] : [descriptor])],
        },
      );
      child.stderr!.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
      const started = child;
      const deadline = realClock.monotonic() + answerMsMax;
      while (!text.includes('completed initialization')) {
        if (started.exitCode !== null || realClock.monotonic() > deadline)
          throw new Error(`it does not start: ${text}`);
        await realClock.sleep(20);
      }
    },
    async ok(...words) {
      const { code, stdout, stderr } = await docker(...words);
      if (code !== 0) throw new Error(`docker ${words.join(' ')}: ${stderr}`);
      return stdout.trim();
    },
  };
  return daemon;
}

/** An image `busybox` of the machine's own program. */
export async function importBusybox(daemon: TestDaemon): Promise<void> {
  const { code, stderr } = await run('sh', [
    '-c',
    `tar -C ${daemon.home}/image -c . | docker -H ${daemon.host} import -c 'CMD ["sh"]' - busybox`,
  ]);
  if (code !== 0) throw new Error(stderr);
}

function idOf(home: string): string {
  try {
    return (JSON.parse(readFileSync(`${home}/engine/engine.json`, 'utf8')) as { id: string }).id;
  } catch {
    return '0000';
  }
}

/** `tiphys registry` with these words, once it is ready; killed at the end of the test. */
export async function startRegistry(
  t: TestContext,
  words: string[],
): Promise<{ end(signal: NodeJS.Signals): Promise<void> }> {
  const child = spawn(join(packageRoot, 'tiphys'), ['registry', ...words], { stdio: ['ignore', 'ignore', 'pipe'] });
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
  });
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    child.kill(signal);
    await exited;
  };
  t.after(() => end('SIGKILL'));
  let text = '';
  child.stderr.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  const deadline = realClock.monotonic() + answerMsMax;
  while (!text.includes('registry is ready')) {
    if (child.exitCode !== null || realClock.monotonic() > deadline) throw new Error(`it does not start: ${text}`);
    await realClock.sleep(20);
  }
  return { end };
}

/** Certificates of an authority in files `ca.pem`, `NAME.pem` and `NAME-key.pem` of a directory. */
export function writeCertificates(
  directory: string,
  names: Record<string, 'server' | 'client'>,
  addresses: string[],
): void {
  mkdirSync(directory, { recursive: true });
  const ca = createCertificateAuthority('test', realRandom, realClock);
  writeFileSync(`${directory}/ca.pem`, ca.certificatePem);
  for (const [name, kind] of Object.entries(names)) {
    const side = kind === 'server' ? { server: true } : { client: true };
    const request = { commonName: name, dnsNames: ['localhost'], ipAddresses: addresses, ...side };
    const pair = issueCertificate(request, ca, realRandom, realClock);
    writeFileSync(`${directory}/${name}.pem`, pair.certificatePem);
    writeFileSync(`${directory}/${name}-key.pem`, pair.keyPem);
  }
}

/** The status and text of an answer of its API; of events, which go on, the beginning. A body is bytes, or sent as JSON. */
export function ask(
  home: string,
  method: string,
  path: string,
  sent?: unknown,
): Promise<{ status: number; body: string; type: string }> {
  const body = sent instanceof Uint8Array ? sent : sent === undefined ? '' : JSON.stringify(sent);
  const type = sent instanceof Uint8Array ? 'application/x-tar' : 'application/json';
  const headers = sent === undefined ? {} : { 'Content-Type': type };
  return new Promise((resolve, reject) => {
    const call = request({ socketPath: `${home}/run/docker.sock`, method, path, headers }, (answer) => {
      let body = '';
      const type = answer.headers['content-type'] ?? '';
      const done = (): void => resolve({ status: answer.statusCode ?? 0, body, type });
      answer.on('data', (part: Buffer) => {
        body += part.toString();
      });
      answer.on('end', done);
      if (path.endsWith('/events')) {
        call.destroy();
        done();
      }
    });
    call.on('error', reject);
    call.on('upgrade', (answer, socket) => {
      socket.destroy();
      resolve({ status: answer.statusCode ?? 0, body: '', type: '' });
    });
    call.end(body);
  });
}
