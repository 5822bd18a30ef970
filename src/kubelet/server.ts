/**
 * The kubelet's HTTPS API: logs, exec, attach, port-forward, Pods, stats and metrics. Called by the API server, and by
 * those whom it lets (`access.ts`). Paths are the kubelet's own (Kubernetes documentation, "Kubelet
 * authentication/authorization").
 */
import { createServer, type Server } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { PassThrough, type Duplex } from 'node:stream';
import { ApiError, toApiError } from '#base/errors.ts';
import { onceClosed, whenDrained } from '#base/streams.ts';
import { messageOf } from '#base/thrown.ts';
import type { Exposition } from '#observe/exposition.ts';
import type { Logger } from '#observe/log.ts';
import { KubeletAccess, type AccessOptions } from './access.ts';
import { acceptPortForward } from './port-forward.ts';
import { openLog, sendMessages } from './log-stream.ts';
import {
  acceptRemoteCommand,
  acceptWebSocket,
  exitStatus,
  failureStatus,
  isWebSocket,
  success,
} from './remote-command.ts';
import { findPod, type LoggedContainer, runningContainer, type Served } from './serving.ts';
import { containerNamed } from './containers.ts';
import { containerMetrics } from './container-metrics.ts';
import { claimMetrics, resourceMetrics } from './resource-metrics.ts';
import type { NodeUsage } from './stats.ts';
import { statsSummary } from './summary.ts';

export interface KubeletServerOptions extends Served, AccessOptions {
  log: Logger;
  nodeUsage(): Promise<NodeUsage>;
  /** What `/configz` shows. */
  configuration: object;
  /** What the node process measures, as text, and what its probes do. */
  metrics(): Promise<Exposition>;
  probeMetrics(): Promise<Exposition>;
}

type Serving = KubeletServerOptions & { access: KubeletAccess };

/** Answers nobody until it is given a certificate, and the authority of its clients (`setSecureContext`). */
export async function startKubeletServer(options: KubeletServerOptions, host: string, port: number): Promise<Server> {
  const server = createServer({
    requestCert: true,
    rejectUnauthorized: false,
  });
  const access = new KubeletAccess(options);
  server.on('request', (request, response) => {
    void answer({ ...options, access }, request, response).catch((error: unknown) => {
      const problem = toApiError(error);
      if (!response.headersSent) response.writeHead(problem.code, { 'content-type': 'text/plain' });
      response.end(`${problem.message}\n`);
    });
  });
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on('error', () => socket.destroy());
    void upgrade({ ...options, access }, request, socket, head).catch((error: unknown) => {
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

/** `WHAT/NAMESPACE/POD/CONTAINER`. */
function containerIn([, namespace = '', podName = '', container = '']: string[]): LoggedContainer {
  return { namespace, podName, container };
}

async function answer(options: Serving, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(`https://kubelet${request.url?.startsWith('/') === true ? request.url : '/'}`);
  if (url.pathname === '/healthz') {
    response.end('ok');
    return;
  }
  await options.access.check(request, url.pathname);
  const parts = decodeParts(url);
  const sendJson = (body: unknown): void => {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(body));
  };
  if (parts[0] === 'containerLogs' && parts.length === 4) {
    await sendLogs(options, response, containerIn(parts), url.searchParams);
    return;
  }
  if (url.pathname === '/pods' || url.pathname === '/runningpods/') {
    sendJson({ kind: 'PodList', apiVersion: 'v1', metadata: {}, items: options.kubelet.pods() });
    return;
  }
  if (url.pathname === '/stats/summary') {
    sendJson(await statsSummary(options, url.searchParams.get('only_cpu_and_memory') === 'true'));
    return;
  }
  const exposed = {
    '/metrics': async () => joined(await options.metrics(), await claimMetrics(options)),
    '/metrics/probes': options.probeMetrics,
    '/metrics/cadvisor': () => containerMetrics(options),
  }[url.pathname];
  if (exposed !== undefined) {
    const { contentType, body } = await exposed();
    response.writeHead(200, { 'content-type': contentType });
    response.end(body);
    return;
  }
  if (url.pathname === '/metrics/resource') {
    response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4' });
    response.end(await resourceMetrics(options));
    return;
  }
  if (url.pathname === '/configz') {
    sendJson({ kubeletconfig: options.configuration });
    return;
  }
  if (parts[0] === 'checkpoint' && parts.length === 4 && request.method === 'POST')
    refuseCheckpoint(options, containerIn(parts));
  if (parts[0] === 'run' && parts.length >= 4) {
    await runOnce(options, response, parts, url.searchParams);
    return;
  }
  throw new ApiError('NotFound', '404 page not found');
}

const joined = (one: Exposition, other: Exposition): Exposition => ({ ...one, body: one.body + other.body });

/** No container is written down while it runs: in the words of a runtime that has no such call. */
function refuseCheckpoint(options: Serving, { namespace, podName, container }: LoggedContainer): never {
  const pod = findPod(options, namespace, podName);
  if (containerNamed(pod, container) === undefined)
    throw new ApiError('NotFound', `container ${container} does not exist`);
  throw new ApiError(
    'InternalError',
    `checkpointing of ${namespace}/${podName}/${container} failed (rpc error: code = Unimplemented desc = method CheckpointContainer not implemented)`,
  );
}

async function sendLogs(
  options: KubeletServerOptions,
  response: ServerResponse,
  named: LoggedContainer,
  query: URLSearchParams,
): Promise<void> {
  const gone = new AbortController();
  onceClosed(response, () => gone.abort(new Error('client went away')));
  const chunks = openLog(options, named, query, gone.signal);
  response.writeHead(200, { 'content-type': 'text/plain' });
  response.flushHeaders();
  for await (const chunk of chunks) if (!response.write(chunk)) await whenDrained(response);
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
async function upgrade(options: Serving, request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
  const url = new URL(`https://kubelet${request.url?.startsWith('/') === true ? request.url : '/'}`);
  await options.access.check(request, url.pathname);
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
  if (parts[0] === 'containerLogs' && parts.length === 4 && isWebSocket(request)) {
    const gone = new AbortController();
    const chunks = openLog(options, containerIn(parts), query, gone.signal);
    const ws = await acceptWebSocket({ request, socket, head });
    ws.on('close', () => gone.abort(new Error('client went away')));
    await sendMessages(ws, chunks);
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
