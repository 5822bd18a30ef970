/** A moment as a calendar of a time zone shows it (CEL, "Timestamps": zones by IANA name or offset). */
import { CelError } from './values.ts';

export interface Moment {
  year: number;
  /** From 1. */
  month: number;
  day: number;
  dayOfYear: number;
  /** From Sunday, 0. */
  weekday: number;
  hour: number;
  minute: number;
  second: number;
  millisecond: number;
}

const dayMs = 86_400_000;

export function zoned(nanos: bigint, zone: string): Moment {
  const ms = Number(nanos / 1_000_000n - (nanos < 0n && nanos % 1_000_000n !== 0n ? 1n : 0n));
  const date = new Date(ms + offsetMs(ms, zone));
  const firstOfYear = Date.UTC(date.getUTCFullYear(), 0, 1);
  return {
    year: date.getUTCFullYear(),
    month: date.getUTCMonth() + 1,
    day: date.getUTCDate(),
    dayOfYear: Math.floor((date.getTime() - firstOfYear) / dayMs) + 1,
    weekday: date.getUTCDay(),
    hour: date.getUTCHours(),
    minute: date.getUTCMinutes(),
    second: date.getUTCSeconds(),
    millisecond: date.getUTCMilliseconds(),
  };
}

/** How far the zone is ahead of UTC at the moment. */
function offsetMs(ms: number, zone: string): number {
  if (zone === 'UTC' || zone === '') return 0;
  const fixed = /^([-+]?)(\d{1,2}):(\d\d)$/.exec(zone);
  if (fixed !== null) return (fixed[1] === '-' ? -1 : 1) * (Number(fixed[2]) * 60 + Number(fixed[3])) * 60_000;
  try {
    const parts = new Intl.DateTimeFormat('en-US', { timeZone: zone, timeZoneName: 'longOffset' }).formatToParts(ms);
    const name = parts.find(({ type }) => type === 'timeZoneName')?.value ?? '';
    const [, sign, hours = '0', minutes = '0'] = /GMT(?:([-+])(\d\d):(\d\d))?/.exec(name) ?? [];
    return (sign === '-' ? -1 : 1) * (Number(hours) * 60 + Number(minutes)) * 60_000;
  } catch {
    throw new CelError(`unknown time zone ${zone}`);
  }
}
