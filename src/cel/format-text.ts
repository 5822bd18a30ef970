/** `format` of texts (cel-go, strings extension): `%s`, `%d`, `%f`, `%e`, `%b`, `%x`, `%X`, `%o`. */
import { doubleText } from './standard.ts';
import { Duration, Timestamp } from './time.ts';
import { CelError, isKind, itemsOf, Uint, typeNameOf, type ListValue, type Value } from './values.ts';

const clause = /%(?:%|(?:\.(\d+))?(.))/gs;

export function formatText(template: string, args: ListValue): string {
  let next = 0;
  return template.replace(clause, (all, precision: string | undefined, verb: string | undefined) => {
    if (all === '%%') return '%';
    if (next >= args.size) throw new CelError(`index ${next} out of range`);
    const value = args.at(next++);
    const digits = precision === undefined ? 6 : Math.min(Number(precision), 100);
    switch (verb) {
      case 's':
        return plainText(value);
      case 'd':
        return wholeText(value);
      case 'f':
        return doubleIn(value, 'fixed-point', (number) => number.toFixed(digits));
      case 'e':
        return doubleIn(value, 'scientific', (number) =>
          number.toExponential(digits).replace(/e([+-])(\d)$/, 'e$10$2'),
        );
      case 'b':
        return typeof value === 'boolean' ? String(Number(value)) : integerIn(value, 'binary').toString(2);
      case 'o':
        return integerIn(value, 'octal').toString(8);
      case 'x':
        return hexText(value);
      case 'X':
        return hexText(value).toUpperCase();
      default:
        throw new CelError(`could not parse formatting clause: unrecognized formatting clause ${JSON.stringify(verb)}`);
    }
  });
}

function plainText(value: Value): string {
  if (value === null || typeof value === 'boolean' || typeof value === 'bigint') return String(value);
  if (typeof value === 'string') return value;
  if (typeof value === 'number') return doubleText(value);
  if (value instanceof Uint) return String(value.value);
  if (value instanceof Uint8Array) return Buffer.from(value).toString();
  if (value instanceof Timestamp || value instanceof Duration) return value.toString();
  if (isKind(value, 'list')) return `[${[...itemsOf(value)].map(innerText).join(', ')}]`;
  if (isKind(value, 'map'))
    return `{${[...value.keys()]
      .map((key) => `${innerText(key)}:${innerText(value.get(key)!)}`)
      .sort()
      .join(', ')}}`;
  if (isKind(value, 'type')) return value.name;
  throw new CelError(
    `error during formatting: string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps, was given ${typeNameOf(value)}`,
  );
}

/** Within lists and maps, texts are quoted. */
const innerText = (value: Value): string => (typeof value === 'string' ? JSON.stringify(value) : plainText(value));

function wholeText(value: Value): string {
  if (typeof value === 'bigint') return String(value);
  if (value instanceof Uint) return String(value.value);
  if (typeof value === 'number' && !Number.isFinite(value)) return doubleText(value);
  throw wrong('decimal', 'integers', value);
}
const wrong = (clauseName: string, allowed: string, value: Value): CelError =>
  new CelError(
    `error during formatting: ${clauseName} clause can only be used on ${allowed}, was given ${typeNameOf(value)}`,
  );

function doubleIn(value: Value, name: string, print: (number: number) => string): string {
  if (typeof value !== 'number') throw wrong(name, 'doubles', value);
  return Number.isFinite(value) ? print(value) : doubleText(value);
}
function integerIn(value: Value, name: string): bigint {
  if (typeof value === 'bigint') return value;
  if (value instanceof Uint) return value.value;
  throw wrong(name, name === 'binary' ? 'integers and bools' : 'integers', value);
}
function hexText(value: Value): string {
  if (typeof value === 'string' || value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  return integerIn(value, 'hex').toString(16);
}
