/**
 * Logs and exec of a simulated cluster for the program it runs in: through the kubelet's own choice of container and
 * its errors, without a connection.
 */
import { Readable, Writable } from 'node:stream';
import { ApiError } from '#base/errors.ts';
import { loggedContainer, runningContainer } from '#kubelet/serving.ts';
import { type Duration, durationMs } from './duration.ts';
import type { SimNodes } from './nodes.ts';
import type { SimNodeState } from './sim-node.ts';

/** What of a cluster is asked: where its Pods are, and what time it is. */
export interface Whereabouts {
  readonly nodes: SimNodes;
  readonly now: number;
}

export interface LogsOptions {
  /** The Pod's default container when absent. */
  container?: string;
  /** Of the run before the newest. */
  previous?: boolean;
  /** Only the last so many lines. */
  tail?: number;
  /** Only what is not older than this. */
  since?: Duration;
  timestamps?: boolean;
}
export interface ExecOptions {
  /** The Pod's default container when absent. */
  container?: string;
  stdin?: string | Uint8Array;
  tty?: boolean;
}
export interface ExecAnswer {
  stdout: string;
  stderr: string;
  exitCode: number;
}

/** Whose container is meant. */
interface PodName {
  namespace: string;
  name: string;
  container?: string;
}
export interface LogsRequest extends LogsOptions, PodName {}
export interface ExecRequest extends ExecOptions, PodName {
  command: readonly string[];
}

function serve(cluster: Whereabouts, { namespace, name, container }: PodName): { node: SimNodeState; target: string } {
  const found = cluster.nodes.find(`${namespace}/${name}`);
  if (found === undefined) throw new ApiError('NotFound', `no Pod ${namespace}/${name} runs on a node`);
  const { node, pod } = found;
  if (!cluster.nodes.isReachable(node.name))
    throw new ApiError('ServiceUnavailable', `node ${node.name} cannot be reached`);
  const preferred = pod.pod.metadata.annotations?.['kubectl.kubernetes.io/default-container'];
  return { node, target: container ?? preferred ?? pod.pod.spec.containers[0]?.name ?? '' };
}

export function readLogs(cluster: Whereabouts, request: LogsRequest): string[] {
  const { namespace, name, previous = false, tail, since, timestamps = false } = request;
  const { node, target } = serve(cluster, request);
  if (tail !== undefined && !(Number.isInteger(tail) && tail >= 0))
    throw new Error(`tail is a number of lines, not ${tail}`);
  const { id } = loggedContainer(node.served, { namespace, podName: name, container: target }, previous);
  const { lines } = node.engine.readLog(id, {
    stdout: true,
    stderr: true,
    follow: false,
    ...(tail === undefined ? {} : { tailLines: tail }),
    ...(since === undefined
      ? {}
      : { sinceNs: BigInt(Math.round(cluster.now + node.skewMs - durationMs(since))) * 1_000_000n }),
  });
  const out: string[] = [];
  /** Where a line stands whose rest may follow. */
  const open: { stdout?: number | undefined; stderr?: number | undefined } = {};
  for (const { stream, timestamp, data, partial } of lines) {
    const text = Buffer.from(data).toString('utf8').replace(/\n$/, '');
    const at = open[stream];
    if (at === undefined) out.push(`${timestamps ? `${timestamp} ` : ''}${text}`);
    else out[at] += text;
    open[stream] = partial ? (at ?? out.length - 1) : undefined;
  }
  return out;
}

function collect(): { stream: Writable; text(): string } {
  const chunks: Buffer[] = [];
  return {
    stream: new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        chunks.push(chunk);
        done();
      },
    }),
    text: () => Buffer.concat(chunks).toString('utf8'),
  };
}

export async function execCommand(cluster: Whereabouts, request: ExecRequest): Promise<ExecAnswer> {
  const { namespace, name, command, stdin, tty = false } = request;
  const { node, target } = serve(cluster, request);
  const { id } = runningContainer(node.served, namespace, name, target);
  const [stdout, stderr] = [collect(), collect()];
  const streams = {
    stdout: stdout.stream,
    stderr: stderr.stream,
    ...(stdin === undefined ? {} : { stdin: Readable.from([Buffer.from(stdin)]) }),
  };
  const exitCode = await node.engine.containers.exec(
    id,
    { command: [...command], tty, stdin: stdin !== undefined },
    streams,
  );
  return { stdout: stdout.text(), stderr: stderr.text(), exitCode };
}
