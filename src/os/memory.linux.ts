/**
 * Gives memory back that a process no longer uses. Node collects when it allocates, so one that has become idle keeps
 * its garbage; the memory of buffers is freed some time after that, by another thread; and the C library keeps free
 * blocks between used ones. So this is called several times, some seconds apart: each call gives back what the last one
 * made free. A collection stands still for some tens of milliseconds: it is for moments when nothing is asked for.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { bindLibrary } from './ffi.linux.ts';

type Collect = (options: { type: 'major'; execution: 'async' }) => Promise<void>;

let collect: Collect | undefined;
let trim: (() => void) | undefined;

export async function releaseMemory(): Promise<void> {
  if (collect === undefined) {
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc') as Collect;
    const libc = bindLibrary('libc.so.6', { malloc_trim: { arguments: ['u64'], return: 'i32' } });
    trim = () => {
      libc.malloc_trim(0);
    };
  }
  trim!();
  await collect({ type: 'major', execution: 'async' });
}
