/**
 * The thread that this runs on. Its processor time is asked of the kernel's clock of the thread: what `getrusage` says
 * (`process.threadCpuUsage`) moves once in a tick of the kernel, which is four milliseconds on many.
 */
import { bindLibrary } from './ffi.linux.ts';

/** CLOCK_THREAD_CPUTIME_ID. */
const threadClock = 3;

const { clock_gettime: readClock } = bindLibrary('libc.so.6', {
  clock_gettime: { arguments: ['i32', 'buffer'], return: 'i32' },
});
const time = new BigInt64Array(2);
const timeBytes = new Uint8Array(time.buffer);

export const ownThread = {
  /** Calls back when what this turn of the event loop has brought is read. */
  afterTurn(run: () => void): void {
    setImmediate(run);
  },

  /** Its processor time so far, in milliseconds; a fraction of a microsecond to ask. */
  busyMs(): number {
    readClock(threadClock, timeBytes);
    return Number(time[0]) * 1000 + Number(time[1]) / 1e6;
  },
};
