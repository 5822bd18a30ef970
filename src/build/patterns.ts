/**
 * File patterns: Go's `filepath.Match` for COPY sources, and `.dockerignore` with its `**`, exclusions (`!`) and parents, as moby's
 * patternmatcher defines them: the last pattern that matches a path, or one of its parents, decides.
 */
import { ApiError } from '#base/errors.ts';
import { ignoreFileBytesMax, ignorePatternsMax } from './limits.ts';

/** `[a-z]` from its bracket on, as Go reads it: no bare `-` or `]` at an end. undefined where it is malformed. */
function compileClass(pattern: string, from: number): { source: string; end: number } | undefined {
  let at = from + 1;
  const isNegated = pattern[at] === '^';
  if (isNegated) at++;
  let source = '';
  const take = (): string | undefined => {
    let char = pattern[at];
    if (char === undefined || char === '-' || char === ']') return undefined;
    if (char === '\\') { char = pattern[++at]; if (char === undefined) return undefined; }
    const point = String.fromCodePoint(pattern.codePointAt(at)!);
    at += point.length;
    return point.replace(/[\\\]^[-]/g, '\\$&');
  };
  for (let count = 0; ; count++) {
    if (pattern[at] === ']' && count > 0) break;
    const low = take();
    if (low === undefined) return undefined;
    source += low;
    if (pattern[at] !== '-') continue;
    at++;
    const high = take();
    if (high === undefined) return undefined;
    source += `-${high}`;
  }
  return { source: `(?!/)[${isNegated ? '^' : ''}${source}]`, end: at };
}

/** A pattern as a regular expression over slash-separated paths. Throws `syntax error in pattern`. */
export function compilePattern(pattern: string, options: { doubleStar: boolean }): RegExp {
  let out = '^';
  for (let at = 0; at < pattern.length; at++) {
    const char = pattern[at]!;
    if (char === '*') {
      if (options.doubleStar && pattern[at + 1] === '*') {
        at++;
        if (pattern[at + 1] === '/') at++;
        out += at + 1 >= pattern.length ? '.*' : '(?:.*/)?';
      } else out += '[^/]*';
    } else if (char === '?') out += '[^/]';
    else if (char === '[') {
      const found = compileClass(pattern, at);
      if (found === undefined) throw new ApiError('BadRequest', `syntax error in pattern: ${pattern}`);
      out += found.source;
      at = found.end;
    } else if (char === '\\') {
      at++;
      if (at >= pattern.length) throw new ApiError('BadRequest', `syntax error in pattern: ${pattern}`);
      out += pattern[at]!.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
    } else out += char.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
  }
  try { return new RegExp(`${out}$`, 'su'); } catch { throw new ApiError('BadRequest', `syntax error in pattern: ${pattern}`); }
}

export function hasWildcard(text: string): boolean { return /(?:^|[^\\])[*?[]/.test(text); }

function cleanPattern(pattern: string): string {
  const out: string[] = [];
  for (const part of pattern.split('/')) { if (part === '' || part === '.') continue; if (part === '..' && out.length > 0 && out.at(-1) !== '..') out.pop(); else out.push(part); }
  return out.join('/');
}

export interface IgnoreRules { isEmpty: boolean; /** True: left out. `path` is relative, without a leading slash. */ ignores(path: string): boolean; /** False when nothing below an ignored directory can come back. */ hasExclusions: boolean }

interface Rule { isExclusion: boolean; regexp: RegExp; parts: number }

/** `.dockerignore`: comments, trimmed lines, leading slashes dropped. */
export function parseIgnoreFile(text: string): IgnoreRules {
  if (text.length > ignoreFileBytesMax) throw new ApiError('BadRequest', '.dockerignore is too large');
  const lines = text.replace(/^\uFEFF/, '').split(/\r?\n/).filter((line) => !line.startsWith('#')).map((line) => line.trim()).filter((line) => line !== '');
  if (lines.length > ignorePatternsMax) throw new ApiError('BadRequest', '.dockerignore has too many patterns');
  return createIgnoreRules(lines);
}

export function createIgnoreRules(lines: string[]): IgnoreRules {
  const rules = lines.flatMap((line): Rule[] => {
    const isExclusion = line.startsWith('!');
    const raw = (isExclusion ? line.slice(1) : line).trim();
    if (isExclusion && raw === '') throw new ApiError('BadRequest', 'illegal exclusion pattern: "!"');
    const pattern = cleanPattern(raw);
    if (pattern === '') return [];
    return [{ isExclusion, regexp: compilePattern(pattern, { doubleStar: true }), parts: pattern.split('/').length }];
  });
  return {
    isEmpty: rules.length === 0,
    hasExclusions: rules.some((rule) => rule.isExclusion),
    ignores(path) {
      let ignored = false;
      const parents = path.split('/').map((_, index, parts) => parts.slice(0, index + 1).join('/'));
      for (const rule of rules) {
        if (rule.isExclusion !== ignored) continue;
        if (parents.some((parent) => rule.regexp.test(parent))) ignored = !rule.isExclusion;
      }
      return ignored;
    },
  };
}
