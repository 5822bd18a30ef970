/**
 * The log of one part of the platform: its standard output, a file that supervise.sh opened to append. It holds at most
 * twice `processLogBytesMax`: a full file becomes
 * `.1` by copy, and the file begins anew under the same descriptors, which the supervisor and every child hold too. A
 * line that comes between the two is lost.
 */
import { copyFileSync, fstatSync, ftruncateSync, readlinkSync, rmSync, writeSync } from 'node:fs';
import { processLogBytesMax, processLogCheckBytes } from './limits.ts';

/** Bytes written since the size was looked at; a new process looks at once. */
let unchecked = Infinity;

/** Where a part's log lines go. On a full disk a line is lost; the process must not be. */
export function writeLogLine(line: string): void {
  try {
    writeSync(1, line);
    unchecked += line.length;
    if (unchecked < processLogCheckBytes) return;
    unchecked = 0;
    boundLog(1, processLogBytesMax);
  } catch {
    /* no space, or nobody reads any more */
  }
}

/** Where a process that others supervise writes: whoever holds its standard error bounds it. */
export function writeStderrLine(line: string): void {
  try {
    writeSync(2, line);
  } catch {
    /* no space, or nobody reads any more */
  }
}

/** Of a descriptor that is open to append; a pipe or terminal is left alone. Exported for tests. */
export function boundLog(descriptor: number, bytesMax: number): void {
  const stat = fstatSync(descriptor);
  if (!stat.isFile() || stat.size < bytesMax) return;
  const path = readlinkSync(`/proc/self/fd/${descriptor}`);
  try {
    copyFileSync(path, `${path}.1`);
  } catch {
    rmSync(`${path}.1`, { force: true });
  }
  ftruncateSync(descriptor, 0);
}
