/** Times as objects carry them (RFC 3339, UTC). */
let lastSecond = NaN;
let lastText = '';

/** To the second, as `metav1.Time` prints; writes come in bursts, so that the last answer often serves again. */
export function timestamp(ms: number): string {
  const second = Math.floor(ms / 1000);
  if (second !== lastSecond) {
    lastText = `${new Date(second * 1000).toISOString().slice(0, 19)}Z`;
    lastSecond = second;
  }
  return lastText;
}

/** To the microsecond: Leases and events.k8s.io. */
export function microTimestamp(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 23)}000Z`;
}

/**
 * Nanoseconds since 1970 of an RFC 3339 time; undefined when it is none. A second of 60 (a leap) counts as the next
 * one.
 */
export function parseRfc3339(text: string): bigint | undefined {
  const match = /^(\d{4}-\d\d-\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d+))?([Zz]|[+-]\d\d:?\d\d)$/.exec(text);
  if (match === null) return undefined;
  const [, date = '', hours = '', minutes = '', seconds = '', fraction = '', zone = 'Z'] = match;
  const day = Date.parse(`${date}T00:00:00Z`);
  if (
    Number.isNaN(day) ||
    new Date(day).toISOString().slice(0, 10) !== date ||
    Number(hours) > 23 ||
    Number(minutes) > 59 ||
    Number(seconds) > 60
  )
    return undefined;
  const offset = /^([+-])(\d\d):?(\d\d)$/.exec(zone);
  const offsetSeconds =
    offset === null ? 0 : (offset[1] === '-' ? -1 : 1) * (Number(offset[2]) * 3600 + Number(offset[3]) * 60);
  const whole = day / 1000 + Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds) - offsetSeconds;
  return BigInt(whole) * 1_000_000_000n + BigInt(fraction.padEnd(9, '0').slice(0, 9));
}

/** RFC 3339 in UTC with nine digits, so that texts compare as the times do (years 0000 to 9999). */
export function formatNanoseconds(ns: bigint): string {
  const seconds = ns >= 0n ? ns / 1_000_000_000n : -((-ns + 999_999_999n) / 1_000_000_000n);
  const second = Math.min(Math.max(Number(seconds), -62_167_219_200), 253_402_300_799);
  return `${new Date(second * 1000).toISOString().slice(0, 19)}.${String(ns - seconds * 1_000_000_000n).padStart(9, '0')}Z`;
}
