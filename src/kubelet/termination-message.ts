/**
 * What a container left to say when it ended: the file it was given, the end of its log where the policy says so, or
 * why it could not start.
 * Rules: Kubernetes documentation, "Determine the Reason for Pod Failure".
 */
import type { AnyContainer } from './containers.ts';
import type { Containers, ContainerStatus } from '#engine/engine.ts';
import { terminationLogBytesMax, terminationLogLinesMax } from './limits.ts';

/** `text`: of the file, as far as it counts. */
export async function readTerminationMessage(
  engine: { containers: Pick<Containers, 'logs'> },
  text: string,
  container: AnyContainer | undefined,
  status: ContainerStatus,
): Promise<string> {
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
