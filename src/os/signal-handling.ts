/** Whether the kernel would deliver a signal at all: proc(5) `SigCgt`, pid_namespaces(7). */
import { constants } from 'node:os';
import { readFileSync } from 'node:fs';

/**
 * False for the first process of a PID namespace that has no handler for the signal (waiting for it to end would be for
 * nothing), and for a process that is gone.
 */
export function wouldHeed(pid: number, signal: number | string): boolean {
  const number = typeof signal === 'number' ? signal : constants.signals[signal as NodeJS.Signals];
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const inner = /^NSpid:(.*)$/m.exec(status)?.[1]?.trim().split(/\s+/).at(-1);
    const caught = BigInt(`0x${/^SigCgt:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`);
    return inner !== '1' || (caught & (1n << BigInt(number - 1))) !== 0n;
  } catch {
    return false;
  }
}
