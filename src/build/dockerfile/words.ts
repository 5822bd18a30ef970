/**
 * Words of Dockerfile instructions: splitting, quotes and variables, with the meaning that BuildKit gives them (a POSIX
 * shell's parameter expansion without commands, arithmetic and `~`). Single quotes keep everything; double quotes keep
 * spaces; the escape character is the file's. Supported: `$a`, `${a}`, `${a:-w}`, `${a-w}`, `:+`, `+`, `:?`, `?`, `#`,
 * `##`, `%`, `%%`, `/p/r`, `//p/r`.
 */
import { ApiError } from '#base/errors.ts';
import { StepBudget, findEnd } from '../glob.ts';
import type { Token } from '../glob.ts';
import { wordDepthMax, wordExpandedBytesMax } from '../limits.ts';

export type Variables = (name: string) => string | undefined;

const nameStart = /[a-zA-Z_]/;
const nameChar = /[a-zA-Z0-9_]/;
const specialName = /[@*#?\-$!0-9]/;

/** A shell pattern, and the character that escapes in it. */
interface ShellPattern {
  text: string;
  escape: string;
}

/** `*` and `?` take slashes too. */
function patternTokens({ text, escape }: ShellPattern): Token[] {
  const tokens: Token[] = [];
  const characters = [...text];
  for (let at = 0; at < characters.length; at++) {
    const character = characters[at]!;
    if (character === escape && at + 1 < characters.length) tokens.push({ kind: 'character', text: characters[++at]! });
    else if (character === '*') tokens.push({ kind: 'star', crossesSlash: true });
    else if (character === '?') tokens.push({ kind: 'any', crossesSlash: true });
    else tokens.push({ kind: 'character', text: character });
  }
  return tokens;
}

interface Replacement {
  pattern: ShellPattern;
  by: string;
  /** At all places, not the leftmost only. */
  isGlobal: boolean;
}

/** `${a/pattern/replacement}`: what is replaced is the longest match at a place. */
function replacePattern(value: string, { pattern, by, isGlobal }: Replacement): string {
  const tokens = patternTokens(pattern);
  const characters = [...value];
  const budget = new StepBudget();
  const out: string[] = [];
  let length = 0;
  const add = (text: string): void => {
    length += text.length;
    if (length > wordExpandedBytesMax) throw new ApiError('BadRequest', 'an expanded word is too long');
    out.push(text);
  };
  let at = 0;
  for (let isDone = false; at < characters.length && !isDone;) {
    const end = findEnd(tokens, { text: characters, from: at, which: 'longest', budget });
    budget.take(1);
    if (end === undefined || end === at) {
      add(characters[at++]!);
      continue;
    }
    add(by);
    at = end;
    isDone = !isGlobal;
  }
  add(characters.slice(at).join(''));
  return out.join('');
}

interface Cut {
  pattern: ShellPattern;
  side: 'start' | 'end';
  which: 'shortest' | 'longest';
}

/** `${a#pattern}` and its like: without the beginning, or end, that matches. */
function cutPattern(value: string, { pattern, side, which }: Cut): string {
  const tokens = patternTokens(pattern);
  const text = [...value];
  // An end is a beginning of the value read backwards.
  if (side === 'end') {
    tokens.reverse();
    text.reverse();
  }
  const end = findEnd(tokens, { text, which, budget: new StepBudget() });
  if (end === undefined) return value;
  const rest = text.slice(end);
  return (side === 'end' ? rest.reverse() : rest).join('');
}

interface Expansion {
  variables: Variables;
  escape: string;
  /** Quotes are characters as others are. */
  isRaw?: boolean;
  /** In a pattern an escape has a meaning still to come: it stays. */
  isPattern?: boolean;
  /** How many substitutions are around. */
  depth?: number;
}

class Expander {
  readonly #text: string;
  readonly #variables: Variables;
  readonly #escape: string;
  readonly #isRaw: boolean;
  readonly #depth: number;
  readonly #keepsEscapes: boolean;
  #at = 0;
  /** Finished words, and whether the current one exists though it may be empty (quotes). */
  readonly words: string[] = [];
  #word = '';
  #hasWord = false;
  #plain = '';

  constructor(text: string, { variables, escape, isRaw = false, isPattern = false, depth = 0 }: Expansion) {
    this.#text = text;
    this.#variables = variables;
    this.#escape = escape;
    this.#isRaw = isRaw;
    this.#depth = depth;
    this.#keepsEscapes = isPattern;
    if (depth > wordDepthMax) this.#fail('substitutions are nested too deeply');
  }

  get plain(): string {
    return this.#plain;
  }

  #fail(message: string): never {
    throw new ApiError('BadRequest', message);
  }

  /** Adds text; unquoted spaces end a word. */
  #add(text: string, isQuoted: boolean): void {
    this.#plain += text;
    if (this.#plain.length > wordExpandedBytesMax) this.#fail('an expanded word is too long');
    if (isQuoted) {
      this.#word += text;
      this.#hasWord = true;
      return;
    }
    for (const char of text) {
      if (char === ' ' || char === '\t' || char === '\n' || char === '\r') this.#endWord();
      else {
        this.#word += char;
        this.#hasWord = true;
      }
    }
  }
  #endWord(): void {
    if (this.#hasWord) this.words.push(this.#word);
    this.#word = '';
    this.#hasWord = false;
  }

  run(stop = ''): void {
    while (this.#at < this.#text.length) {
      const char = this.#text[this.#at]!;
      if (stop !== '' && char === stop) return;
      if (char === "'" && !this.#isRaw) this.#single();
      else if (char === '"' && !this.#isRaw) this.#double();
      else if (char === '$') this.#add(this.#dollar(), false);
      else if (char === this.#escape) {
        this.#at++;
        if (this.#keepsEscapes) this.#add(this.#escape, true);
        if (this.#at >= this.#text.length) break;
        this.#add(this.#text[this.#at++]!, true);
      } else {
        this.#add(char, false);
        this.#at++;
      }
    }
    if (stop === '') this.#endWord();
  }

  #single(): void {
    const end = this.#text.indexOf("'", this.#at + 1);
    if (end < 0) this.#fail('unexpected end of statement while looking for matching single-quote');
    this.#add(this.#text.slice(this.#at + 1, end), true);
    this.#at = end + 1;
  }

  #double(): void {
    this.#at++;
    let out = '';
    for (;;) {
      const char = this.#text[this.#at];
      if (char === undefined) this.#fail('unexpected end of statement while looking for matching double-quote');
      if (char === '"') {
        this.#at++;
        break;
      }
      if (char === '$') {
        out += this.#dollar();
        if (out.length > wordExpandedBytesMax) this.#fail('an expanded word is too long');
        continue;
      }
      if (char === this.#escape) {
        const next = this.#text[this.#at + 1];
        if (next === undefined) this.#fail('unexpected end of statement while looking for matching double-quote');
        const isSpecial = next === '"' || next === '$' || next === this.#escape;
        out += isSpecial ? next : this.#escape + next;
        this.#at += 2;
        continue;
      }
      out += char;
      this.#at++;
    }
    this.#add(out, true);
  }

  #name(): string {
    const first = this.#text[this.#at] ?? '';
    if (specialName.test(first)) {
      this.#at++;
      let name = first;
      if (/[0-9]/.test(first)) while (/[0-9]/.test(this.#text[this.#at] ?? '')) name += this.#text[this.#at++];
      return name;
    }
    let name = '';
    while (this.#at < this.#text.length && (name === '' ? nameStart : nameChar).test(this.#text[this.#at]!))
      name += this.#text[this.#at++];
    return name;
  }

  #dollar(): string {
    this.#at++;
    if (this.#text[this.#at] !== '{') {
      const name = this.#name();
      return name === '' ? '$' : (this.#variables(name) ?? '');
    }
    this.#at++;
    if (this.#text[this.#at] === undefined) this.#fail("syntax error: missing '}'");
    if (this.#text[this.#at] === '}') this.#fail('bad substitution');
    const name = this.#name();
    if (name === '') this.#fail('bad substitution');
    const char = this.#text[this.#at];
    if (char === '}') {
      this.#at++;
      return this.#variables(name) ?? '';
    }
    if (char === undefined) this.#fail("syntax error: missing '}'");
    return this.#modifier(name);
  }

  /** The text up to the closing brace or another mark, expanded. */
  #inner(stop: string, isPattern = false): string {
    const inner = new Expander(this.#text, {
      variables: this.#variables,
      escape: this.#escape,
      isPattern,
      depth: this.#depth + 1,
    });
    inner.#at = this.#at;
    inner.run(stop);
    this.#at = inner.#at;
    return inner.#plain;
  }
  #close(): void {
    if (this.#text[this.#at] !== '}') this.#fail("syntax error: missing '}'");
    this.#at++;
  }

  #modifier(name: string): string {
    let modifier = this.#text[this.#at++]!;
    const value = this.#variables(name);
    if (modifier === ':') {
      const second = this.#text[this.#at++];
      if (second !== '-' && second !== '+' && second !== '?')
        this.#fail(`unsupported modifier (${second ?? ''}) in substitution`);
      modifier = `:${second}`;
    }
    if (modifier === '/' || modifier === '#' || modifier === '%') return this.#pattern(modifier, value ?? '');
    const word = this.#inner('}');
    this.#close();
    const isSet = modifier.startsWith(':') ? value !== undefined && value !== '' : value !== undefined;
    switch (modifier.at(-1)) {
      case '-':
        return isSet ? value! : word;
      case '+':
        return isSet ? word : '';
      case '?':
        if (!isSet) this.#fail(`${name}: ${word === '' ? 'not allowed to be unset' : word}`);
        return value!;
      default:
        return this.#fail(`unsupported modifier (${modifier}) in substitution`);
    }
  }

  #pattern(kind: string, value: string): string {
    let isDouble = false;
    if (this.#text[this.#at] === kind) {
      isDouble = true;
      this.#at++;
    }
    if (kind === '/') {
      const text = this.#inner('/', true);
      if (this.#text[this.#at] !== '/') this.#fail("syntax error: missing '/' in ${}");
      this.#at++;
      const by = this.#inner('}');
      this.#close();
      const pattern = { text, escape: this.#escape };
      return text === '' ? value : replacePattern(value, { pattern, by, isGlobal: isDouble });
    }
    const pattern = { text: this.#inner('}', true), escape: this.#escape };
    this.#close();
    return cutPattern(value, {
      pattern,
      side: kind === '%' ? 'end' : 'start',
      which: isDouble ? 'longest' : 'shortest',
    });
  }
}

/** One word: quotes removed, variables expanded; spaces stay. */
export function expandWord(text: string, variables: Variables, escape = '\\'): string {
  const expander = new Expander(text, { variables, escape });
  expander.run();
  return expander.plain;
}

/** Variables expanded and escapes taken off, quotes kept: for a here-document. */
export function expandRaw(text: string, variables: Variables): string {
  const expander = new Expander(text, { variables, escape: '\\', isRaw: true });
  expander.run();
  return expander.plain;
}

/** Expands and splits at unquoted spaces. */
export function expandWords(text: string, variables: Variables, escape = '\\'): string[] {
  const expander = new Expander(text, { variables, escape });
  expander.run();
  return expander.words;
}

/** A text for people: variables that are known in place of their names, outside single quotes; all else as it is. */
export function showVariables(text: string, variables: Variables): string {
  return text.replace(/'[^']*'|\\.|\$(?:(\w+)|\{(\w+)\})/gs, (whole, plain?: string, braced?: string) => {
    const name = plain ?? braced;
    return (name === undefined ? undefined : variables(name)) ?? whole;
  });
}
