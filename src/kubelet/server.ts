/**
 * The kubelet's HTTPS API: logs, exec, attach, port-forward, Pods, stats and metrics. Called by the API server with its
 * client certificate; anyone else is refused. Paths are the kubelet's own (Kubernetes documentation, "Kubelet
 * authentication/authorization").
 */
import { createServer, type Server } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { PassThrough, type Duplex } from 'node:stream';
import { ApiError, toApiError } from '#base/errors.ts';
import type { LogLine } from '#engine/engine.ts';
import type { Clock } from '#os/clock.ts';
import { onceClosed, whenDrained } from '#base/streams.ts';
import { parseRfc3339 } from '#base/timestamp.ts';
import { messageOf } from '#base/thrown.ts';
import type { Exposition } from '#observe/exposition.ts';
import type { Logger } from '#observe/log.ts';
import { acceptPortForward } from './port-forward.ts';
import { acceptRemoteCommand, exitStatus, failureStatus, success } from './remote-command.ts';
import { findPod, loggedContainer, type LoggedContainer, runningContainer, type Served } from './serving.ts';
import { resourceMetrics, statsSummary, type NodeUsage } from './stats.ts';

export interface KubeletServerOptions extends Served {
  clock: Clock;
  log: Logger;
  nodeName: string;
  /** Subjects that may call: common names or organisations of client certificates. */
  allowed: { commonNames: string[]; organizations: string[] };
  nodeUsage(): Promise<NodeUsage>;
  /** What the node process measures, as text. */
  metrics(): Promise<Exposition>;
}

function mayCall(request: IncomingMessage, options: KubeletServerOptions): boolean {
  const socket = request.socket as TLSSocket;
  if (!socket.authorized) return false;
  const subject = socket.getPeerCertificate().subject as { CN?: string; O?: string | string[] } | undefined;
  const organizations = subject?.O === undefined ? [] : [subject.O].flat();
  return (
    options.allowed.commonNames.includes(subject?.CN ?? '') ||
    organizations.some((name) => options.allowed.organizations.includes(name))
  );
}

/** Answers nobody until it is given a certificate, and the authority of its clients (`setSecureContext`). */
export async function startKubeletServer(options: KubeletServerOptions, host: string, port: number): Promise<Server> {
  const server = createServer({
    requestCert: true,
    rejectUnauthorized: false,
  });
  server.on('request', (request, response) => {
    void answer(options, request, response).catch((error: unknown) => {
      const problem = toApiError(error);
      if (!response.headersSent) response.writeHead(problem.code, { 'content-type': 'text/plain' });
      response.end(`${problem.message}\n`);
    });
  });
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on('error', () => socket.destroy());
    void upgrade(options, request, socket, head).catch((error: unknown) => {
      const problem = toApiError(error);
      const body = `${problem.message}\n`;
      if (socket.writable)
        socket.end(
          `HTTP/1.1 ${problem.code} ${problem.reason}\r\nContent-Type: text/plain\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
        );
    });
  });
  server.on('tlsClientError', () => {});
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  return server;
}

/** Parts of a path; what is not an escape is the caller's mistake. */
function decodeParts(url: URL): string[] {
  try {
    return url.pathname
      .split('/')
      .filter((part) => part !== '')
      .map((part) => decodeURIComponent(part));
  } catch {
    throw new ApiError('BadRequest', `invalid URL escape in ${JSON.stringify(url.pathname.slice(0, 200))}`);
  }
}

async function answer(
  options: KubeletServerOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = new URL(`https://kubelet${request.url?.startsWith('/') === true ? request.url : '/'}`);
  if (url.pathname === '/healthz') {
    response.end('ok');
    return;
  }
  if (!mayCall(request, options)) throw new ApiError('Unauthorized', 'Unauthorized');
  const parts = decodeParts(url);
  const sendJson = (body: unknown): void => {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(body));
  };
  if (parts[0] === 'containerLogs' && parts.length === 4) {
    await sendLogs(
      options,
      response,
      { namespace: parts[1]!, podName: parts[2]!, container: parts[3]! },
      url.searchParams,
    );
    return;
  }
  if (url.pathname === '/pods' || url.pathname === '/runningpods/') {
    sendJson({ kind: 'PodList', apiVersion: 'v1', metadata: {}, items: options.kubelet.pods() });
    return;
  }
  if (url.pathname === '/stats/summary') {
    sendJson(await statsSummary(options));
    return;
  }
  if (url.pathname === '/metrics') {
    const { contentType, body } = await options.metrics();
    response.writeHead(200, { 'content-type': contentType });
    response.end(body);
    return;
  }
  if (url.pathname === '/metrics/resource') {
    response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4' });
    response.end(await resourceMetrics(options));
    return;
  }
  if (parts[0] === 'run' && parts.length >= 4) {
    await runOnce(options, response, parts, url.searchParams);
    return;
  }
  throw new ApiError('NotFound', '404 page not found');
}

function formatLine(line: LogLine, timestamps: boolean): Uint8Array {
  return timestamps ? Buffer.concat([Buffer.from(`${line.timestamp} `), line.data]) : line.data;
}

async function sendLogs(
  options: KubeletServerOptions,
  response: ServerResponse,
  named: LoggedContainer,
  query: URLSearchParams,
): Promise<void> {
  const attempt = loggedContainer(options, named, query.get('previous') === 'true');
  const number = (name: string): number | undefined => (query.get(name) === null ? undefined : Number(query.get(name)));
  const sinceSeconds = number('sinceSeconds');
  const sinceTime = query.get('sinceTime');
  const sinceNs =
    sinceSeconds !== undefined
      ? BigInt(options.clock.now() - sinceSeconds * 1000) * 1_000_000n
      : sinceTime === null
        ? undefined
        : parseRfc3339(sinceTime);
  const stream = query.get('stream') ?? 'All';
  const gone = new AbortController();
  onceClosed(response, () => gone.abort(new Error('client went away')));
  response.writeHead(200, { 'content-type': 'text/plain' });
  response.flushHeaders();
  let left = number('limitBytes') ?? Infinity;
  const tailLines = number('tailLines');
  const lines = options.engine.containers.logs(attempt.id, {
    stdout: stream !== 'Stderr',
    stderr: stream !== 'Stdout',
    follow: query.get('follow') === 'true',
    ...(sinceNs === undefined ? {} : { sinceNs }),
    ...(tailLines === undefined ? {} : { tailLines }),
    signal: gone.signal,
  });
  const timestamps = query.get('timestamps') === 'true';
  /** A piece of a line was sent last: what follows of its stream is the same line. */
  const open = { stdout: false, stderr: false };
  let batch: Uint8Array[] = [];
  let batchBytes = 0;
  const flush = async (): Promise<void> => {
    if (batchBytes === 0) return;
    const chunk = Buffer.concat(batch);
    batch = [];
    batchBytes = 0;
    if (!response.write(chunk)) await whenDrained(response);
  };
  try {
    for await (const line of lines) {
      const bytes = formatLine(line, timestamps && !open[line.stream]);
      open[line.stream] = line.partial;
      const cut = bytes.length > left ? bytes.subarray(0, left) : bytes;
      left -= cut.length;
      batch.push(cut);
      batchBytes += cut.length;
      if (batchBytes > 32 * 1024 || query.get('follow') === 'true') await flush();
      if (left <= 0 || gone.signal.aborted) break;
    }
  } catch (error) {
    if (!gone.signal.aborted) throw error;
  }
  await flush();
  response.end();
}

async function runOnce(
  options: KubeletServerOptions,
  response: ServerResponse,
  parts: string[],
  query: URLSearchParams,
): Promise<void> {
  const container = runningContainer(options, parts[1]!, parts[2]!, parts.at(-1)!);
  const output = new PassThrough();
  output.pipe(response);
  const code = await options.engine.containers.exec(
    container.id,
    { command: (query.get('cmd') ?? '').split(' '), tty: false },
    { stdout: output, stderr: output },
  );
  output.end(code === 0 ? undefined : `\ncommand terminated with exit code ${code}`);
}

// walk exec-stream 3/5: the kubelet finds the running container.
async function upgrade(
  options: KubeletServerOptions,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  if (!mayCall(request, options)) throw new ApiError('Unauthorized', 'Unauthorized');
  const url = new URL(`https://kubelet${request.url?.startsWith('/') === true ? request.url : '/'}`);
  const query = url.searchParams;
  const parts = decodeParts(url);
  const flag = (...names: string[]): boolean => names.some((name) => ['1', 'true'].includes(query.get(name) ?? ''));
  const wanted = {
    stdin: flag('input', 'stdin'),
    stdout: flag('output', 'stdout'),
    stderr: flag('error', 'stderr'),
    tty: flag('tty'),
  };
  if (parts[0] === 'portForward') {
    const pod = findPod(options, parts[1]!, parts[2]!);
    const ports = (query.getAll('port').length > 0 ? query.getAll('port') : query.getAll('ports'))
      .flatMap((text) => text.split(','))
      .map(Number);
    const dial = (port: number): Promise<Duplex> => options.engine.sandboxes.connect(pod.metadata.uid, port);
    await acceptPortForward({ request, socket, head }, ports, dial, pod.metadata.name);
    return;
  }
  if (parts[0] !== 'exec' && parts[0] !== 'attach') throw new ApiError('NotFound', '404 page not found');
  const container = runningContainer(options, parts[1]!, parts[2]!, parts.at(-1)!);
  const session = await acceptRemoteCommand({ request, socket, head }, wanted, options.clock);
  try {
    if (parts[0] === 'attach') {
      await options.engine.containers.attach(container.id, session.streams, session.signal);
      session.finish(success);
      return;
    }
    const command = query.getAll('command');
    const code = await options.engine.containers.exec(
      container.id,
      { command, tty: wanted.tty, stdin: wanted.stdin },
      session.streams,
      session.signal,
    );
    session.finish(exitStatus(code));
  } catch (error) {
    options.log.debug('remote command failed', { error });
    session.finish(
      failureStatus(
        `Internal error occurred: error ${parts[0] === 'exec' ? 'executing command in' : 'attaching to'} container: ${messageOf(error)}`,
      ),
    );
  }
}
