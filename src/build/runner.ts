/**
 * How a build runs a command. The builder knows no containers: it hands over an image and a command and gets an exit
 * code; what the command wrote is then in the writable layer of `id` (`content/snapshots.ts`). `runner-containers.ts`
 * does it with the engine.
 */
import type { Readable, Writable } from 'node:stream';
import type { Resources } from '#engine/engine.ts';

export interface RunRequest {
  /** Container id, 64 hexadecimal digits, chosen by the builder. */
  id: string;
  imageId: string;
  command: string[];
  env: string[];
  user: string;
  workingDir: string;
  network: string;
  extraHosts: string[];
  /** '' for one of its own. */
  hostname: string;
  shmSizeBytes?: number;
  /** Bounds of the step: memory, processors, ulimits. They do not count for the cache. */
  resources?: Resources;
  cgroupParent?: string;
  mounts: { type: 'bind' | 'tmpfs'; source: string; target: string; readOnly: boolean; sizeBytes?: number }[];
  onOutput: (bytes: Uint8Array) => void;
  /** In place of no input, and of `onOutput` for what the command writes to its standard output. */
  io?: { stdin: Readable; stdout: Writable };
  signal: AbortSignal;
}

export interface BuildRunner {
  /** Resolves when the command has ended; kills it when the signal aborts. */
  run(request: RunRequest): Promise<{ exitCode: number }>;
  /** Takes the container away; a no-op when it is gone. */
  remove(id: string): Promise<void>;
  /** Containers that an earlier process left behind. */
  removeStale(): Promise<void>;
}
