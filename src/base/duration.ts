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
