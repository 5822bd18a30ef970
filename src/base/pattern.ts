/**
 * Patterns that users give, in RE2's syntax and in time that grows with the text alone (RE2, "Syntax"). A pattern of
 * the language's own kind may take longer than the universe on twenty characters. Compiling is bounded in characters
 * and instructions, matching by a budget that the patterns of one object share.
 */
import { RE2JS } from 're2js';
import { messageOf } from '#base/thrown.ts';
import {
  patternCharsMax,
  patternInstructionsMax,
  patternStateBytesMax,
  patternStepsMax,
  patternsKeptMax,
} from './limits.ts';

export interface Pattern {
  readonly source: string;
  readonly instructions: number;
  test(text: string): boolean;
  /** What matches, from left to right, `limit` at most. */
  find(text: string, limit: number): string[];
  /** Each match becomes the template, in which `$1`, `${1}` and `${name}` are groups and `$$` is a dollar sign. */
  replace(text: string, template: string): string;
}

/** What is wrong with a pattern, in RE2's words. */
export class PatternError extends Error {}

/** Steps that are left to the patterns of one object. */
export class PatternBudget {
  left = patternStepsMax;

  /** Whether the text matches anywhere; throws `PatternError` when the budget does not allow to know. */
  test(pattern: Pattern, text: string): boolean {
    this.left -= pattern.instructions * (text.length + 1);
    if (this.left < 0)
      throw new PatternError(`patterns and texts are too long together: more than ${patternStepsMax} steps`);
    return pattern.test(text);
  }
}

const kept = new Map<string, Pattern | PatternError>();

/** Throws `PatternError`. Patterns are kept, so that one is compiled once. */
export function compilePattern(source: string): Pattern {
  let found = kept.get(source);
  if (found === undefined) {
    found = compile(source);
    if (kept.size >= patternsKeptMax) kept.clear();
    if (source.length <= patternCharsMax) kept.set(source, found);
  }
  if (found instanceof PatternError) throw found;
  return found;
}

function replaceAll(compiled: RE2JS, text: string, template: string): string {
  const names = compiled.namedGroups();
  const matcher = compiled.matcher(text);
  let out = '';
  let end = 0;
  while (matcher.find()) {
    const groupOf = (name: string): string => {
      const group = /^\d+$/.test(name) ? Number(name) : names[name];
      return group === undefined || group > matcher.groupCount() ? '' : (matcher.group(group) ?? '');
    };
    out += text.slice(end, matcher.start());
    out += template.replace(/\$(?:\$|(\w+)|\{(\w+)\})/g, (whole, plain?: string, braced?: string) =>
      whole === '$$' ? '$' : groupOf(plain ?? braced ?? ''),
    );
    end = matcher.end();
  }
  return out + text.slice(end);
}

function compile(source: string): Pattern | PatternError {
  if (source.length > patternCharsMax)
    return new PatternError(`error parsing regexp: expression too large: more than ${patternCharsMax} characters`);
  try {
    const compiled = RE2JS.compile(source);
    const instructions = compiled.programSize();
    if (instructions > patternInstructionsMax)
      return new PatternError(
        `error parsing regexp: expression too large: more than ${patternInstructionsMax} instructions`,
      );
    // The states that texts bring forth are kept with the pattern.
    const states = compiled.re2Input.dfa;
    states.memBudget = states.stateBudget = patternStateBytesMax;
    return {
      source,
      instructions,
      test: (text) => compiled.test(text),
      find(text, limit) {
        const matcher = compiled.matcher(text);
        const found: string[] = [];
        while (found.length < limit && matcher.find()) found.push(matcher.group() ?? '');
        return found;
      },
      replace: (text, template) => replaceAll(compiled, text, template),
    };
  } catch (error) {
    return new PatternError(messageOf(error));
  }
}
