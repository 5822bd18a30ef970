/**
 * Probes and hooks: one attempt of an exec, HTTP, TCP or gRPC action against a container.
 * Rules: Kubernetes documentation, "Configure Liveness, Readiness and Startup Probes" and "Container Lifecycle Hooks".
 */
import type { GRPCAction, HTTPGetAction, Probe } from '#api/core.v1.ts';
import type { AnyContainer } from './containers.ts';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { connect as connectHttp2 } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { Writable } from 'node:stream';
import { messageOf } from '#base/thrown.ts';
import type { Clock, Random, Timer } from '#os/clock.ts';
import type { ActionResult, ActionTarget, KubeletEngine, Prober, ProbeKind, ProbeListener } from './doors.ts';
import { lateProbeMs, probeOutputBytesMax } from './limits.ts';

/** What actions are done with. */
interface Tools {
  engine: Pick<KubeletEngine, 'containers'>;
  clock: Clock;
  /** Ends the action before its time. */
  signal?: AbortSignal;
}
type Target = ActionTarget & Tools;

/** Calls `end` once, when the time is over or the signal aborts, unless it is cancelled first. */
function limit({ clock, signal }: Pick<Tools, 'clock' | 'signal'>, timeoutMs: number, end: () => void): Timer {
  const cancel = (): void => {
    timer.cancel();
    signal?.removeEventListener('abort', finish);
  };
  const finish = (): void => {
    cancel();
    end();
  };
  const timer = clock.setTimer(timeoutMs, finish);
  signal?.addEventListener('abort', finish, { once: true });
  return { cancel };
}

/** Of a probe or a hook; what a hook does not have is never there. */
type Action = Pick<Probe, 'exec' | 'httpGet' | 'tcpSocket' | 'grpc'>;

/** A port by number or by the name of one of the container's ports. */
function resolvePort(container: AnyContainer, port: unknown): number {
  const number = Number(port);
  if (Number.isInteger(number) && number > 0) return number;
  const named = (container.ports ?? []).find((entry) => entry.name === port);
  if (named === undefined) throw new Error(`couldn't find port: "${String(port)}"`);
  return named.containerPort;
}

/** Collects output up to a bound and drops the rest. */
function boundedSink(bytesMax: number): { stream: Writable; text(): string } {
  const chunks: Buffer[] = [];
  let size = 0;
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done): void {
      if (size < bytesMax) {
        const part = chunk.subarray(0, bytesMax - size);
        chunks.push(part);
        size += part.length;
      }
      done();
    },
  });
  return { stream, text: () => Buffer.concat(chunks).toString('utf8') };
}

async function runAction(action: Action, target: Target, timeoutMs: number): Promise<ActionResult> {
  if (action.exec !== undefined) return runExec(action.exec.command ?? [], target, timeoutMs);
  if (action.httpGet !== undefined) return runHttp(action.httpGet, target, timeoutMs);
  if (action.tcpSocket !== undefined)
    return runTcp(
      action.tcpSocket.host || target.podIp,
      resolvePort(target.container, action.tcpSocket.port),
      target,
      timeoutMs,
    );
  if (action.grpc !== undefined) return runGrpc(action.grpc, target, timeoutMs);
  return { ok: false, message: 'missing probe handler', unknown: true };
}

async function runExec(command: string[], target: Target, timeoutMs: number): Promise<ActionResult> {
  const output = boundedSink(probeOutputBytesMax);
  const controller = new AbortController();
  const timer = limit(target, timeoutMs, () => controller.abort(new Error('timed out')));
  try {
    const code = await target.engine.containers.exec(
      target.containerId,
      { command, tty: false },
      { stdout: output.stream, stderr: output.stream },
      controller.signal,
    );
    return { ok: code === 0, message: output.text() };
  } catch (error) {
    if (controller.signal.aborted)
      return { ok: false, message: `command timed out: "${command.join(' ')}" timed out after ${timeoutMs / 1000}s` };
    return { ok: false, message: messageOf(error), unknown: true };
  } finally {
    timer.cancel();
  }
}

function runHttp(action: HTTPGetAction, target: Target, timeoutMs: number): Promise<ActionResult> {
  const scheme = (action.scheme ?? 'HTTP').toLowerCase();
  const host: string = action.host || target.podIp;
  const port = resolvePort(target.container, action.port);
  const path: string = action.path ?? '/';
  const headers: Record<string, string> = { 'user-agent': 'kube-probe/1.37', accept: '*/*', connection: 'close' };
  for (const { name, value } of action.httpHeaders ?? []) headers[String(name).toLowerCase()] = value;
  const url = `${scheme}://${host}:${port}${path.startsWith('/') ? path : `/${path}`}`;
  return new Promise((resolve) => {
    const request = (scheme === 'https' ? httpsRequest : httpRequest)(
      url,
      { headers, agent: false, rejectUnauthorized: false },
      (response) => {
        const sink = boundedSink(probeOutputBytesMax);
        response.on('data', (chunk: Buffer) => sink.stream.write(chunk));
        const finish = (): void => {
          timer.cancel();
          const status = response.statusCode ?? 0;
          const ok = status >= 200 && status < 400;
          resolve({ ok, message: ok ? '' : `HTTP probe failed with statuscode: ${status}` });
        };
        response.on('end', finish);
        response.on('error', finish);
      },
    );
    const timer = limit(target, timeoutMs, () =>
      request.destroy(new Error('context deadline exceeded (Client.Timeout exceeded while awaiting headers)')),
    );
    request.on('error', (error) => {
      timer.cancel();
      resolve({ ok: false, message: `Get "${url}": ${messageOf(error)}` });
    });
    request.end();
  });
}

function runTcp(host: string, port: number, tools: Tools, timeoutMs: number): Promise<ActionResult> {
  return new Promise((resolve) => {
    const socket: Socket = connect({ host, port });
    const finish = (result: ActionResult): void => {
      timer.cancel();
      socket.destroy();
      resolve(result);
    };
    const timer = limit(tools, timeoutMs, () =>
      finish({ ok: false, message: `dial tcp ${host}:${port}: i/o timeout` }),
    );
    socket.on('connect', () => finish({ ok: true, message: '' }));
    socket.on('error', (error) => finish({ ok: false, message: `dial tcp ${host}:${port}: ${messageOf(error)}` }));
  });
}

/** As protobuf writes a length. */
function varint(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...varint(value >>> 7)];
}

/** gRPC health check (grpc.health.v1.Health/Check): one message, encoded by hand because it has one field each way. */
function runGrpc(action: GRPCAction, target: Target, timeoutMs: number): Promise<ActionResult> {
  const service = Buffer.from(action.service ?? '', 'utf8');
  const message =
    service.length === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a, ...varint(service.length)]), service]);
  const frame = Buffer.alloc(5 + message.length);
  frame.writeUInt32BE(message.length, 1);
  message.copy(frame, 5);
  return new Promise((resolve) => {
    const session = connectHttp2(`http://${target.podIp}:${action.port}`);
    const finish = (result: ActionResult): void => {
      timer.cancel();
      session.destroy();
      resolve(result);
    };
    const timer = limit(target, timeoutMs, () =>
      finish({ ok: false, message: `timeout: health rpc did not complete within ${timeoutMs / 1000}s` }),
    );
    session.on('error', (error: Error) =>
      finish({
        ok: false,
        message: `timeout: failed to connect service "${target.podIp}:${action.port}": ${messageOf(error)}`,
      }),
    );
    const stream = session.request({
      ':method': 'POST',
      ':path': '/grpc.health.v1.Health/Check',
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    const chunks: Buffer[] = [];
    let status = '';
    stream.on('response', (headers) => {
      status = String(headers['grpc-status'] ?? '');
    });
    stream.on('trailers', (headers) => {
      status = String(headers['grpc-status'] ?? '');
    });
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', (error: Error) => finish({ ok: false, message: messageOf(error) }));
    stream.on('end', () => {
      const body = Buffer.concat(chunks);
      const serving = body.length >= 7 && body[5] === 0x08 && body[6] === 1;
      finish({
        ok: (status === '' || status === '0') && serving,
        message: serving
          ? ''
          : `service unhealthy (responded with "${status === '0' || status === '' ? 'NOT_SERVING' : `code ${status}`}")`,
      });
    });
    stream.end(frame);
  });
}

/** How a Linux node's containers are asked: by exec, HTTP, TCP and gRPC, every period. */
export function createProber(tools: Tools & { random: Random }): Prober {
  const fieldOf = {
    Startup: 'startupProbe',
    Readiness: 'readinessProbe',
    Liveness: 'livenessProbe',
  } as const satisfies Record<ProbeKind, string>;
  return {
    isAsked: (kind, { container }) => container[fieldOf[kind]] !== undefined,
    act: (action, target, timeoutMs, signal) => runAction(action, { ...target, ...tools, signal }, timeoutMs),
    start(kind, target, startedAtMs, listener) {
      const probe = target.container[fieldOf[kind]] ?? {};
      // After a restart of the kubelet all probes would fire at once; a part of a second spreads them.
      const isLate = tools.clock.now() - startedAtMs > lateProbeMs;
      const jitterMs = isLate ? tools.random.float() * Math.min(1_000, (probe.periodSeconds ?? 10) * 1000) : 0;
      return runProbe(probe, { ...target, ...tools }, { startedAtMs, jitterMs }, listener);
    },
  };
}

/** When the container started (ms since 1970), and how much later than due the first attempt is made. */
interface ProbeStart {
  startedAtMs: number;
  jitterMs: number;
}

/**
 * Runs one probe until it is cancelled, and reports each verdict that its thresholds allow, the first one included. An
 * attempt that could not be made does not count.
 */
function runProbe(
  probe: Probe,
  target: Target,
  { startedAtMs, jitterMs }: ProbeStart,
  listener: ProbeListener,
): { cancel(): void } {
  const periodMs = (probe.periodSeconds ?? 10) * 1000;
  const timeoutMs = (probe.timeoutSeconds ?? 1) * 1000;
  const failureThreshold: number = probe.failureThreshold ?? 3;
  const successThreshold: number = probe.successThreshold ?? 1;
  let cancelled = false;
  let run = 0;
  let lastOk: boolean | undefined;
  const firstMs = startedAtMs + (probe.initialDelaySeconds ?? 0) * 1000 - target.clock.now();
  let timer = target.clock.setTimer(Math.max(0, firstMs) + jitterMs, () => void attempt());
  const attempt = async (): Promise<void> => {
    const beganMs = target.clock.monotonic();
    const result = await runAction(probe, target, timeoutMs).catch((error: unknown): ActionResult => ({
      ok: false,
      message: messageOf(error),
      unknown: true,
    }));
    if (cancelled) return;
    timer = target.clock.setTimer(periodMs, () => void attempt());
    const told = result.unknown === true ? 'unknown' : result.ok ? 'successful' : 'failed';
    listener.looked?.(told, target.clock.monotonic() - beganMs);
    if (!result.ok) listener.failed(result.message);
    if (result.unknown === true) return;
    run = result.ok === lastOk ? run + 1 : 1;
    lastOk = result.ok;
    const isFirst = run === (result.ok ? successThreshold : failureThreshold);
    const isAgain = !result.ok && run > failureThreshold && run % failureThreshold === 0;
    if (isFirst || isAgain) listener.decided(result.ok);
  };
  return {
    cancel: () => {
      cancelled = true;
      timer.cancel();
    },
  };
}
