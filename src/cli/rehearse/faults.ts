/**
 * Reads how faults and roll-outs are written: `TIME[~LATEST][+FOR][=WHAT]`, such as `10m`, `10m~50m`, `10m+15m=node-1`.
 * Pure.
 */
import { durationMs } from '#sim/duration.ts';
import type { Fault } from '#sim/rehearse/types.ts';
import { UsageError } from '../output.ts';

export interface Moment {
  atMs: number;
  latestMs?: number;
  forMs?: number;
  target?: string;
}

/** A duration an option has; throws `UsageError` that names the option. */
export function readDuration(option: string, text: string): number {
  let ms: number;
  // A bare number would be milliseconds, which nobody means.
  try {
    if (/^\d+(\.\d+)?$/.test(text.trim()) && Number(text) !== 0) throw new Error('no unit');
    ms = /^0+$/.test(text.trim()) ? 0 : durationMs(text);
  } catch {
    throw new UsageError(`${option}: ${JSON.stringify(text)} is not a time like 90s, 10m or 2h`);
  }
  return ms;
}

export function readMoment(option: string, text: string): Moment {
  const [times = '', ...named] = text.split('=');
  const match = /^([^~+]+)(?:~([^~+]+))?(?:\+([^~+]+))?$/.exec(times);
  if (match === null || (named.length > 0 && named.join('=') === ''))
    throw new UsageError(
      `${option}: ${JSON.stringify(text)} is not written TIME[~LATEST][+FOR][=NAME], such as 10m, 10m~50m or 10m+15m=node-1`,
    );
  const [, first = '', latest, lasting] = match;
  const atMs = readDuration(option, first);
  const latestMs = latest === undefined ? undefined : readDuration(option, latest);
  if (latestMs !== undefined && latestMs < atMs)
    throw new UsageError(`${option}: ${JSON.stringify(text)}: the latest time is before the first`);
  return {
    atMs,
    ...(latestMs === undefined ? {} : { latestMs }),
    ...(lasting === undefined ? {} : { forMs: readDuration(option, lasting) }),
    ...(named.length === 0 ? {} : { target: named.join('=') }),
  };
}

export function readFaults(kind: Fault['kind'], texts: readonly string[] = [], forMs: number): Fault[] {
  return texts.map((text) => {
    const moment = readMoment(`--${kind}`, text);
    if (kind === 'api-down' && moment.target !== undefined)
      throw new UsageError(`--api-down: there is one API server, ${JSON.stringify(moment.target)} names nothing`);
    if ((moment.latestMs ?? moment.atMs) >= forMs)
      throw new UsageError(`--${kind} ${text}: that is not before the end (--for)`);
    return { kind, ...moment };
  });
}
