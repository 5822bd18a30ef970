/**
 * What a container left to say when it ended: the file it was given, the end of its log where the policy says so, or
 * why it could not start.
 * Rules: Kubernetes documentation, "Determine the Reason for Pod Failure".
 */
import { readFile } from 'node:fs/promises';
import type { Json } from '#base/objects.ts';
import type { ContainerStatus, Engine } from '#engine/engine.ts';
import { terminationLogBytesMax, terminationLogLinesMax, terminationMessageBytesMax } from './limits.ts';

export async function readTerminationMessage(
  engine: Engine,
  path: string,
  container: Json | undefined,
  status: ContainerStatus,
): Promise<string> {
  const file = await readFile(path).catch(() => Buffer.alloc(0));
  const text = file.subarray(0, terminationMessageBytesMax).toString('utf8');
  if (text !== '') return text;
  if (container?.terminationMessagePolicy === 'FallbackToLogsOnError' && status.exitCode !== 0) {
    const lines: Uint8Array[] = [];
    for await (const line of engine.containers.logs(status.id, {
      stdout: true,
      stderr: true,
      follow: false,
      tailLines: terminationLogLinesMax,
    }))
      lines.push(line.data);
    const tail = Buffer.concat(lines).subarray(-terminationLogBytesMax).toString('utf8');
    if (tail !== '') return tail;
  }
  return status.error;
}
