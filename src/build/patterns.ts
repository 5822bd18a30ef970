/**
 * File patterns: Go's `filepath.Match` for COPY sources, and `.dockerignore` with its `**`, exclusions (`!`) and
 * parents, as moby's patternmatcher defines them: the last pattern that matches a path, or one of its parents, decides.
 */
import { ApiError } from '#base/errors.ts';
import { StepBudget, findEnd } from './glob.ts';
import type { Token } from './glob.ts';
import { ignoreFileBytesMax, ignorePatternsMax, ignoredPathsKeptMax, patternTokensMax } from './limits.ts';

/** `[a-z]` from its bracket on, as Go reads it: no bare `-` or `]` at an end. undefined where it is malformed. */
function compileClass(pattern: string, from: number): { token: Token; end: number } | undefined {
  let at = from + 1;
  const isNegated = pattern[at] === '^';
  if (isNegated) at++;
  const ranges: [number, number][] = [];
  const take = (): number | undefined => {
    let char = pattern[at];
    if (char === undefined || char === '-' || char === ']') return undefined;
    if (char === '\\') {
      char = pattern[++at];
      if (char === undefined) return undefined;
    }
    const point = pattern.codePointAt(at)!;
    at += point > 0xffff ? 2 : 1;
    return point;
  };
  for (let count = 0; ; count++) {
    if (pattern[at] === ']' && count > 0) break;
    const low = take();
    if (low === undefined) return undefined;
    let high: number | undefined = low;
    if (pattern[at] === '-') {
      at++;
      high = take();
    }
    if (high === undefined) return undefined;
    ranges.push([low, high]);
  }
  return { token: { kind: 'class', isNegated, ranges }, end: at };
}

function compileTokens(pattern: string, doubleStar: boolean): Token[] {
  const tokens: Token[] = [];
  const malformed = (): ApiError => new ApiError('BadRequest', `syntax error in pattern: ${pattern.slice(0, 1000)}`);
  for (let at = 0; at < pattern.length; at++) {
    const char = pattern[at]!;
    if (char === '*') {
      if (!doubleStar || pattern[at + 1] !== '*') {
        tokens.push({ kind: 'star', crossesSlash: false });
        continue;
      }
      at++;
      if (pattern[at + 1] === '/') at++;
      if (at + 1 >= pattern.length) tokens.push({ kind: 'star', crossesSlash: true });
      else tokens.push({ kind: 'directories' }, { kind: 'insideDirectories' });
    } else if (char === '?') tokens.push({ kind: 'any', crossesSlash: false });
    else if (char === '[') {
      const found = compileClass(pattern, at);
      if (found === undefined) throw malformed();
      tokens.push(found.token);
      at = found.end;
    } else {
      if (char === '\\' && ++at >= pattern.length) throw malformed();
      const text = String.fromCodePoint(pattern.codePointAt(at)!);
      tokens.push({ kind: 'character', text });
      at += text.length - 1;
    }
  }
  return tokens;
}

export interface Pattern {
  test(path: string): boolean;
  /** Of slash-separated parts. */ readonly isLiteral: boolean;
}

/**
 * A pattern over slash-separated paths. Throws `syntax error in pattern`. All uses of it, or of all that share
 * `budget`, are bounded together.
 */
export function compilePattern(pattern: string, options: { doubleStar: boolean; budget?: StepBudget }): Pattern {
  const tokens = compileTokens(pattern, options.doubleStar);
  if (tokens.length > patternTokensMax) throw new ApiError('BadRequest', 'a pattern is too long');
  if (tokens.every((token) => token.kind === 'character')) {
    const literal = tokens.map((token) => token.text).join('');
    return { isLiteral: true, test: (path) => path === literal };
  }
  const budget = options.budget ?? new StepBudget();
  // What begins or ends the pattern literally decides most names at once.
  const isText = (token: Token): token is Token & { kind: 'character' } => token.kind === 'character';
  const first = tokens.findIndex((token) => !isText(token));
  const last = tokens.findLastIndex((token) => !isText(token));
  const textOf = (some: Token[]): string =>
    some
      .filter(isText)
      .map((token) => token.text)
      .join('');
  const [head, tail] = [textOf(tokens.slice(0, first)), textOf(tokens.slice(last + 1))];
  return {
    isLiteral: false,
    test(path) {
      budget.take(1);
      return (
        path.startsWith(head) &&
        path.endsWith(tail) &&
        findEnd(tokens, { text: [...path], which: 'whole', budget }) !== undefined
      );
    },
  };
}

export function hasWildcard(text: string): boolean {
  return /(?:^|[^\\])[*?[]/.test(text);
}

function cleanPattern(pattern: string): string {
  const out: string[] = [];
  for (const part of pattern.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..' && out.length > 0 && out.at(-1) !== '..') out.pop();
    else out.push(part);
  }
  return out.join('/');
}

export interface IgnoreRules {
  isEmpty: boolean;
  /** True: left out. `path` is relative, without a leading slash. */ ignores(path: string): boolean;
  /** False when nothing below an ignored directory can come back. */ hasExclusions: boolean;
}

interface Rule {
  isExclusion: boolean;
  pattern: Pattern;
}

/** `.dockerignore`: comments, trimmed lines, leading slashes dropped. */
export function parseIgnoreFile(text: string): IgnoreRules {
  if (text.length > ignoreFileBytesMax) throw new ApiError('BadRequest', '.dockerignore is too large');
  const lines = text
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .filter((line) => !line.startsWith('#'))
    .map((line) => line.trim())
    .filter((line) => line !== '');
  if (lines.length > ignorePatternsMax) throw new ApiError('BadRequest', '.dockerignore has too many patterns');
  return createIgnoreRules(lines);
}

export function createIgnoreRules(lines: string[]): IgnoreRules {
  const budget = new StepBudget();
  const rules = lines.flatMap((line): Rule[] => {
    const isExclusion = line.startsWith('!');
    const raw = (isExclusion ? line.slice(1) : line).trim();
    if (isExclusion && raw === '') throw new ApiError('BadRequest', 'illegal exclusion pattern: "!"');
    const pattern = cleanPattern(raw);
    if (pattern === '') return [];
    return [{ isExclusion, pattern: compilePattern(pattern, { doubleStar: true, budget }) }];
  });
  // Which rules a directory's path, or one above it, matches: what lies below matches them too.
  const known = new Map<string, ReadonlySet<number>>([['', new Set()]]);
  const matchesOf = (path: string): ReadonlySet<number> => {
    const found = known.get(path);
    if (found !== undefined) return found;
    const above = matchesOf(path.slice(0, Math.max(0, path.lastIndexOf('/'))));
    budget.take(1 + (rules.length >> 4));
    const own = rules.flatMap((rule, index) => (!above.has(index) && rule.pattern.test(path) ? [index] : []));
    const all = own.length === 0 ? above : new Set([...above, ...own]);
    if (known.size >= ignoredPathsKeptMax) known.clear();
    known.set(path, all);
    return all;
  };
  return {
    isEmpty: rules.length === 0,
    hasExclusions: rules.some((rule) => rule.isExclusion),
    ignores(path) {
      let last = -1;
      for (const index of matchesOf(path)) if (index > last) last = index;
      return last >= 0 && !rules[last]!.isExclusion;
    },
  };
}

/** Lines of an ignore file as patterns that the client applies. */
export function ignorePatterns(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.replace(/^(!?)\s*\/?(.*?)\/?$/, '$1$2'));
}
