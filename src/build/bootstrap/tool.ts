/** What the recipes of base images work with, and how they run a program. */
import { ApiError } from '#base/errors.ts';
import type { Content } from '#content/content.ts';
import type { ImageRecords } from '#content/image-records.ts';
import type { Clock } from '#os/clock.ts';
import type { Processes } from '#os/processes.ts';

export interface BootstrapContext {
  content: Content;
  images: ImageRecords;
  processes: Processes;
  clock: Clock;
  /** Proxies and certificates that the package tools are to see. */
  environment: Record<string, string>;
  onProgress?: (line: string) => void;
  signal?: AbortSignal;
}

/** Runs a program to its end; an ApiError with the end of its output when it fails. */
export async function runTool(
  context: BootstrapContext,
  file: string,
  args: string[],
  environment: Record<string, string> = {},
): Promise<string> {
  context.signal?.throwIfAborted();
  const found = context.processes.find(file);
  if (found === undefined) throw new ApiError('InternalError', `${file} is not installed`);
  const output = await context.processes.run(found, args, {
    env: {
      PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      LC_ALL: 'C',
      DEBIAN_FRONTEND: 'noninteractive',
      ...context.environment,
      ...environment,
    },
  });
  if (output.code !== 0)
    throw new ApiError(
      'InternalError',
      `${file} failed with ${output.code}: ${(output.stderr.trim() || output.stdout.trim()).split('\n').slice(-3).join('; ')}`,
    );
  return output.stdout;
}
