/**
 * Kubernetes resource quantities (`100m`, `1.5Gi`, `1e3`): parse, compare, add and print in canonical form.
 * A quantity is an exact whole number of billionths (a bigint), as Kubernetes keeps nothing finer: what is finer is
 * rounded away from zero, and magnitudes beyond 2^63-1 are capped. The suffix family that was written is kept for
 * printing.
 * Source: Kubernetes reference, "Quantity". Pure; `milliOf` and `wholeOf` are the fast paths for schedulers.
 */
export type QuantityFormat = 'DecimalSI' | 'BinarySI' | 'DecimalExponent';
export interface Quantity {
  readonly nano: bigint;
  readonly format: QuantityFormat;
}

const nanoPerOne = 1_000_000_000n;
const nanoMax = (2n ** 63n - 1n) * nanoPerOne;
const decimalExponents: Record<string, number> = { n: -9, u: -6, m: -3, '': 0, k: 3, M: 6, G: 9, T: 12, P: 15, E: 18 };
const binaryPowers: Record<string, bigint> = { Ki: 10n, Mi: 20n, Gi: 30n, Ti: 40n, Pi: 50n, Ei: 60n };
const decimalSuffixes: readonly [number, string][] = [
  [18, 'E'],
  [15, 'P'],
  [12, 'T'],
  [9, 'G'],
  [6, 'M'],
  [3, 'k'],
  [0, ''],
  [-3, 'm'],
  [-6, 'u'],
  [-9, 'n'],
];
const binarySuffixes: readonly [bigint, string][] = [
  [60n, 'Ei'],
  [50n, 'Pi'],
  [40n, 'Ti'],
  [30n, 'Gi'],
  [20n, 'Mi'],
  [10n, 'Ki'],
];
const quantityPattern = /^([+-]?)(\d*)(?:\.(\d*))?(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?\d+)?$/;
/** Longer input is refused before any arithmetic: no meaningful quantity needs it. */
const quantityTextCharactersMax = 256;
const exponentMagnitudeMax = 100;

const quantityPatternText = '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$';

class QuantityError extends Error {}

function malformed(): QuantityError {
  return new QuantityError(`quantities must match the regular expression '${quantityPatternText}'`);
}

function roundedUp(numerator: bigint, denominator: bigint): bigint {
  const whole = numerator / denominator;
  return numerator % denominator === 0n ? whole : whole + 1n;
}

/** A cluster writes the same few quantities over and over. */
const parsed = new Map<string | number, Quantity>();
const parsedMax = 4096;

/**
 * Parses a quantity (frozen); throws `QuantityError` with the message that an API server gives. JSON numbers are
 * accepted as they are in YAML.
 */
export function parseQuantity(input: string | number): Quantity {
  let known = parsed.get(input);
  if (known === undefined) {
    known = Object.freeze(parseText(input));
    if (parsed.size >= parsedMax) parsed.clear();
    parsed.set(input, known);
  }
  return known;
}

function parseText(input: string | number): Quantity {
  const text = typeof input === 'number' ? String(input) : input;
  if (typeof text !== 'string' || text.length > quantityTextCharactersMax) throw malformed();
  const match = quantityPattern.exec(text);
  const whole = match?.[2] ?? '';
  const fraction = match?.[3] ?? '';
  if (match === null || (whole === '' && fraction === '')) throw malformed();
  const suffix = match[4] ?? '';
  const digits = BigInt(whole + fraction);
  let numerator = digits * nanoPerOne;
  let denominator = 10n ** BigInt(fraction.length);
  let format: QuantityFormat = 'DecimalSI';
  const binary = binaryPowers[suffix];
  if (binary !== undefined) {
    numerator <<= binary;
    format = 'BinarySI';
  } else {
    let exponent = decimalExponents[suffix];
    if (exponent === undefined) {
      exponent = Number(suffix.slice(1));
      format = 'DecimalExponent';
      if (Math.abs(exponent) > exponentMagnitudeMax) exponent = Math.sign(exponent) * exponentMagnitudeMax;
    }
    if (exponent >= 0) numerator *= 10n ** BigInt(exponent);
    else denominator *= 10n ** BigInt(-exponent);
  }
  let nano = roundedUp(numerator, denominator);
  if (format === 'BinarySI' && nano > nanoMax) nano = nanoMax;
  return { nano: match[1] === '-' ? -nano : nano, format };
}

/** True when `input` is a well-formed quantity. */
export function isQuantity(input: unknown): input is string | number {
  if (typeof input !== 'string' && typeof input !== 'number') return false;
  try {
    parseQuantity(input);
    return true;
  } catch {
    return false;
  }
}

function formatDecimal(nano: bigint, format: QuantityFormat): string {
  const sign = nano < 0n ? '-' : '';
  const magnitude = nano < 0n ? -nano : nano;
  for (const [exponent, suffix] of decimalSuffixes) {
    const unit = 10n ** BigInt(exponent + 9);
    if (magnitude % unit !== 0n) continue;
    const shown = format === 'DecimalExponent' ? (exponent === 0 ? '' : `e${exponent}`) : suffix;
    return `${sign}${magnitude / unit}${shown}`;
  }
  return '0';
}

/** The canonical text: no fraction, the largest suffix that divides. */
export function formatQuantity(quantity: Quantity): string {
  const { nano } = quantity;
  if (nano === 0n) return '0';
  const magnitude = nano < 0n ? -nano : nano;
  if (quantity.format !== 'BinarySI' || magnitude < 1024n * nanoPerOne) {
    return formatDecimal(nano, quantity.format === 'BinarySI' ? 'DecimalSI' : quantity.format);
  }
  const value = roundedUp(magnitude, nanoPerOne);
  const sign = nano < 0n ? '-' : '';
  for (const [power, suffix] of binarySuffixes) {
    if (value % (1n << power) === 0n) return `${sign}${value >> power}${suffix}`;
  }
  return `${sign}${value}`;
}

/** Text in canonical form: `1000m` → `1`, `0.5` → `500m`, `1024Mi` → `1Gi`. */
export function canonicalQuantity(input: string | number): string {
  return formatQuantity(parseQuantity(input));
}

const nanoPerMilli = 1_000_000n;

/** The canonical text of the quantity, rounded up to thousandths: resources are not counted finer. */
export function canonicalResource(input: string | number): string {
  const { nano, format } = parseQuantity(input);
  const isWhole = nano % nanoPerMilli === 0n;
  if (isWhole) return formatQuantity({ nano, format });
  const magnitude = nano < 0n ? -nano : nano;
  const rounded = roundedUp(magnitude, nanoPerMilli) * nanoPerMilli;
  return formatQuantity({ nano: nano < 0n ? -rounded : rounded, format });
}

/** -1, 0 or 1. */
export function compareQuantities(a: string | number | Quantity, b: string | number | Quantity): -1 | 0 | 1 {
  const left = asQuantity(a).nano;
  const right = asQuantity(b).nano;
  return left < right ? -1 : left > right ? 1 : 0;
}

function asQuantity(value: string | number | Quantity): Quantity {
  return typeof value === 'object' ? value : parseQuantity(value);
}

/** The sum, printed in the family of the first (of the second where the first is zero). */
export function addQuantities(a: Quantity, b: Quantity): Quantity {
  return { nano: a.nano + b.nano, format: a.nano === 0n ? b.format : a.format };
}

export function subtractQuantities(a: Quantity, b: Quantity): Quantity {
  return { nano: a.nano - b.nano, format: a.nano === 0n ? b.format : a.format };
}

export function zeroQuantity(format: QuantityFormat = 'DecimalSI'): Quantity {
  return { nano: 0n, format };
}

/** Thousandths, rounded up, as a number: CPU. Precise up to 2^53 thousandths. */
export function milliOf(input: string | number | Quantity | undefined): number {
  if (input === undefined) return 0;
  if (typeof input === 'string' && input.length < 12) {
    const last = input.charCodeAt(input.length - 1);
    const value = Number(last === 109 ? input.slice(0, -1) : input);
    if (Number.isSafeInteger(value)) return last === 109 ? value : value * 1000;
  }
  const { nano } = asQuantity(input);
  return nano >= 0n ? Number(roundedUp(nano, 1_000_000n)) : -Number(roundedUp(-nano, 1_000_000n));
}

/** Whole units, rounded up, as a number: bytes, counts. */
export function wholeOf(input: string | number | Quantity | undefined): number {
  if (input === undefined) return 0;
  if (typeof input === 'string' && input.length < 12) {
    const scale = input.endsWith('Mi') ? 1_048_576 : input.endsWith('Gi') ? 1_073_741_824 : 1;
    const value = Number(scale === 1 ? input : input.slice(0, -2));
    if (Number.isSafeInteger(value * scale)) return value * scale;
  }
  const { nano } = asQuantity(input);
  return nano >= 0n ? Number(roundedUp(nano, nanoPerOne)) : -Number(roundedUp(-nano, nanoPerOne));
}
