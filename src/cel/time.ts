/** Moments and spans of time in nanoseconds (CEL, "Timestamps and durations"). */

const secondNanos = 1_000_000_000n;
/** The years 1 to 9999. */
const momentMin = -62_135_596_800n * secondNanos;
const momentMax = 253_402_300_799n * secondNanos + 999_999_999n;
const spanMax = 2n ** 63n - 1n;

const floorDiv = (a: bigint, b: bigint): bigint => (a < 0n && a % b !== 0n ? a / b - 1n : a / b);
const fraction = (nanos: bigint): string => {
  const digits = nanos.toString().padStart(9, '0').replace(/0+$/, '');
  return digits === '' ? '' : `.${digits}`;
};

export class Timestamp {
  /** Since 1970. */
  readonly nanos: bigint;

  constructor(nanos: bigint) {
    this.nanos = nanos;
  }

  static isWithin(nanos: bigint): boolean {
    return nanos >= momentMin && nanos <= momentMax;
  }

  /** From RFC 3339; undefined where the text is none. */
  static parse(text: string): Timestamp | undefined {
    const found = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)$/.exec(text);
    if (found === null) return undefined;
    const [, date = '', time = '', digits = '', zone = ''] = found;
    const ms = Date.parse(`${date}T${time}${zone}`);
    // A 30th of February would be taken for the 1st of March, and 24:00 for the next day.
    if (Number.isNaN(ms) || new Date(`${date}T00:00:00Z`).toISOString().slice(0, 10) !== date || time.startsWith('24'))
      return undefined;
    const nanos = BigInt(ms) * 1_000_000n + BigInt(digits.padEnd(9, '0'));
    return Timestamp.isWithin(nanos) ? new Timestamp(nanos) : undefined;
  }

  get ms(): number {
    return Number(floorDiv(this.nanos, 1_000_000n));
  }

  toString(): string {
    const seconds = floorDiv(this.nanos, secondNanos);
    const text = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
    return `${text}${fraction(this.nanos - seconds * secondNanos)}Z`;
  }
}

const unitNanos: Record<string, bigint> = {
  ns: 1n,
  us: 1_000n,
  µs: 1_000n,
  μs: 1_000n,
  ms: 1_000_000n,
  s: secondNanos,
  m: 60n * secondNanos,
  h: 3600n * secondNanos,
};

export class Duration {
  readonly nanos: bigint;

  constructor(nanos: bigint) {
    this.nanos = nanos;
  }

  static isWithin(nanos: bigint): boolean {
    return nanos >= -spanMax - 1n && nanos <= spanMax;
  }

  /** From Go's form (`1h30m`, `-1.5s`); undefined where the text is none. */
  static parse(text: string): Duration | undefined {
    const found = /^([-+]?)((?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+|0)$/.exec(text);
    if (found === null) return undefined;
    let nanos = 0n;
    for (const [, whole = '', part = '', unit = ''] of (found[2] ?? '').matchAll(
      /(\d*)\.?(\d*)(ns|us|µs|μs|ms|s|m|h)/g,
    )) {
      const scale = unitNanos[unit] ?? 0n;
      nanos += BigInt(whole === '' ? 0 : whole) * scale;
      if (part !== '') nanos += (BigInt(part) * scale) / 10n ** BigInt(part.length);
    }
    if (found[1] === '-') nanos = -nanos;
    return Duration.isWithin(nanos) ? new Duration(nanos) : undefined;
  }

  /** In seconds, as CEL prints it. */
  toString(): string {
    const isNegative = this.nanos < 0n;
    const nanos = isNegative ? -this.nanos : this.nanos;
    return `${isNegative ? '-' : ''}${nanos / secondNanos}${fraction(nanos % secondNanos)}s`;
  }
}
