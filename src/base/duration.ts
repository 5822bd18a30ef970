/** Go's durations, as docker's clients and options have them. */
const unitNs: Readonly<Record<string, bigint>> = {
  ns: 1n,
  us: 1000n,
  µs: 1000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
};

/** Nanoseconds of `1h2m3.5s` or `-10m`; undefined for what is none. */
export function parseDuration(text: string): bigint | undefined {
  if (!/^[+-]?(?:\d{1,12}(?:\.\d{1,18})?(?:ns|us|µs|ms|s|m|h))+$/.test(text)) return undefined;
  let sum = 0n;
  for (const [, whole = '', fraction = '', unit = ''] of text.matchAll(/(\d+)(?:\.(\d+))?(ns|us|µs|ms|s|m|h)/g)) {
    sum +=
      BigInt(whole) * (unitNs[unit] ?? 0n) +
      (fraction === '' ? 0n : (BigInt(fraction) * (unitNs[unit] ?? 0n)) / 10n ** BigInt(fraction.length));
  }
  return text.startsWith('-') ? -sum : sum;
}

/** Milliseconds as Go prints a duration: `50ms`, `1.5s`, `2m0s`, `1h0m30s`. */
export function formatDuration(ms: number): string {
  if (ms < 1000) return ms === 0 ? '0s' : `${ms}ms`;
  const minutes = Math.floor(ms / 60_000);
  const seconds = `${(ms % 60_000) / 1000}s`;
  if (minutes === 0) return seconds;
  const hours = Math.floor(minutes / 60);
  return `${hours === 0 ? '' : `${hours}h`}${minutes % 60}m${seconds}`;
}
