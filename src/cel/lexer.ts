/** The words of an expression (Common Expression Language, "Syntax"). */
import type { Problem } from './ast.ts';
import { Uint, type Value } from './values.ts';

export class SyntaxProblem extends Error implements Problem {
  readonly at: number;

  constructor(at: number, message: string) {
    super(message);
    this.at = at;
  }
}

export interface Token {
  kind: 'ident' | 'quoted' | 'const' | 'mark' | 'end';
  text: string;
  at: number;
  value?: Value;
}

const marks = /\|\||&&|==|!=|<=|>=|[-+*/%<>!?:.,()[\]{}]/y;
const blank = /(?:[ \t\r\n\f]|\/\/[^\n]*)+/y;
const word = /[A-Za-z_][A-Za-z0-9_]*/y;
const quoted = /`([A-Za-z0-9_.\-/ ]+)`/y;
const number = /0x([0-9a-fA-F]+)(u?)|(\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?)|(\d+)(u?)/iy;
const opening = /([bB]?[rR]?|[rR][bB])("""|'''|"|')/y;
/** These are never names of variables. */
export const reserved = new Set(
  'as break const continue else false for function if import in let loop namespace null package return true var void while'.split(
    ' ',
  ),
);

export function tokensOf(source: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  const match = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    return pattern.exec(source);
  };
  while (at < source.length) {
    const skipped = match(blank);
    if (skipped !== null) {
      at += skipped[0].length;
      continue;
    }
    const text = match(opening);
    if (text !== null) {
      const token = readText(source, at, text);
      tokens.push(token);
      at += token.text.length;
      continue;
    }
    const found = match(number) ?? match(word) ?? match(quoted) ?? match(marks);
    if (found === null)
      throw new SyntaxProblem(at, `Syntax error: token recognition error at: '${source.slice(at, at + 1)}'`);
    tokens.push(tokenOf(found, at));
    at += found[0].length;
  }
  tokens.push({ kind: 'end', text: '<EOF>', at: source.length });
  return tokens;
}

const int64 = { min: -(2n ** 63n), max: 2n ** 63n - 1n };
const uint64Max = 2n ** 64n - 1n;

function tokenOf(found: RegExpExecArray, at: number): Token {
  const text = found[0];
  const first = text.charCodeAt(0);
  if (first === 0x60) return { kind: 'quoted', text: found[1] ?? '', at };
  if (/[A-Za-z_]/.test(text.charAt(0))) {
    if (text === 'true' || text === 'false') return { kind: 'const', text, at, value: text === 'true' };
    return text === 'null' ? { kind: 'const', text, at, value: null } : { kind: 'ident', text, at };
  }
  if (/^\.?\d/.test(text)) return { kind: 'const', text, at, value: numberOf(found, at) };
  return { kind: 'mark', text, at };
}

function numberOf([text, hex, hexUnsigned, double, digits, unsigned]: RegExpExecArray, at: number): Value {
  if (double !== undefined) return Number(double);
  const value = BigInt(hex === undefined ? (digits ?? '') : `0x${hex}`);
  const isUnsigned = (hex === undefined ? unsigned : hexUnsigned) !== '';
  if (isUnsigned) {
    if (value > uint64Max) throw new SyntaxProblem(at, 'invalid uint literal');
    return new Uint(value);
  }
  // One more may follow a minus sign: the parser looks.
  if (value > int64.max + 1n) throw new SyntaxProblem(at, `invalid int literal`);
  return text === '' ? 0n : value;
}

/** Letters that stand for a character after a backslash, as in C. */
export const letterEscapes: Readonly<Record<string, string>> = {
  a: '\u0007',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
};
const escaped =
  /\\(?:x([0-9a-fA-F]{2})|X([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|([abfnrtv])|([\\?"'`])|([\s\S]?))/g;

function readText(source: string, at: number, [start, prefix = '', quote = '']: RegExpExecArray): Token {
  const isRaw = /r/i.test(prefix);
  const isBytes = /b/i.test(prefix);
  const begin = at + start.length;
  let end = begin;
  while (!source.startsWith(quote, end)) {
    const char = source.charAt(end);
    if (char === '' || (quote.length === 1 && char === '\n'))
      throw new SyntaxProblem(at, `Syntax error: token recognition error at: '${source.slice(at, end)}'`);
    end += char === '\\' && !isRaw ? 2 : 1;
  }
  const raw = source.slice(begin, end);
  const text = source.slice(at, end + quote.length);
  const value = isBytes ? bytesOf(raw, isRaw, at) : isRaw ? raw : unescape(raw, at);
  return { kind: 'const', text, at, value };
}

function unescape(raw: string, at: number): string {
  return raw.replace(escaped, (...found: string[]) => {
    const [all = '', x, upper, short, long, octal = '', letter, plain] = found;
    if (letter !== undefined) return letterEscapes[letter] ?? '';
    if (plain !== undefined) return plain;
    const digits = x ?? upper ?? short ?? long;
    const code = digits === undefined ? parseInt(octal, 8) : parseInt(digits, 16);
    if (Number.isNaN(code) || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
      throw new SyntaxProblem(at, `unable to unescape string: ${all}`);
    return String.fromCodePoint(code);
  });
}

/** In bytes, `\xNN` and octal escapes are bytes, and letters their UTF-8. */
function bytesOf(raw: string, isRaw: boolean, at: number): Uint8Array {
  if (isRaw) return Buffer.from(raw);
  const parts: Buffer[] = [];
  let last = 0;
  for (const found of raw.matchAll(escaped)) {
    parts.push(Buffer.from(raw.slice(last, found.index)));
    last = found.index + found[0].length;
    const [all, x, upper, , , octal] = found;
    const digits = x ?? upper;
    if (digits !== undefined) parts.push(Buffer.of(parseInt(digits, 16)));
    else parts.push(octal === undefined ? Buffer.from(unescape(all, at)) : Buffer.of(parseInt(octal, 8)));
  }
  parts.push(Buffer.from(raw.slice(last)));
  return Buffer.concat(parts);
}
