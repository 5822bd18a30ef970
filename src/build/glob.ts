/**
 * Patterns as small automata. A user writes the pattern and a stranger the names, so a match must never take more than
 * their product: all states that the pattern can be in are followed side by side, one character at a time, and none is
 * tried twice. What was done is counted against a budget that the patterns of one request share.
 */
import { ApiError } from '#base/errors.ts';
import { patternStepsMax } from './limits.ts';

export type Token =
  | { kind: 'character'; text: string }
  /** One character, or one of a class. `crossesSlash` false: but not a slash. */
  | { kind: 'any'; crossesSlash: boolean }
  | { kind: 'class'; isNegated: boolean; ranges: [number, number][] }
  | { kind: 'star'; crossesSlash: boolean }
  /**
   * Nothing, or anything that ends with a slash (`** /`): takes the place of two tokens, itself and
   * `insideDirectories`.
   */
  | { kind: 'directories' }
  | { kind: 'insideDirectories' };

/** How many steps are left: characters times states. */
export class StepBudget {
  left: number;
  constructor(left = patternStepsMax) {
    this.left = left;
  }
  take(count: number): void {
    this.left -= count;
    if (this.left < 0) throw new ApiError('BadRequest', 'the patterns take too long to match: use fewer wildcards');
  }
}

function takes(token: Token & { kind: 'character' | 'any' | 'class' }, character: string): boolean {
  if (token.kind === 'character') return token.text === character;
  if (token.kind === 'any') return token.crossesSlash || character !== '/';
  if (character === '/') return false;
  const point = character.codePointAt(0)!;
  return token.ranges.some(([low, high]) => point >= low && point <= high) !== token.isNegated;
}

/** The states that a list of states may be in at one place of the text. */
class States {
  readonly #tokens: readonly Token[];
  readonly #marks: Uint8Array;
  readonly list: number[] = [];
  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
    this.#marks = new Uint8Array(tokens.length + 1);
  }
  clear(): void {
    for (const state of this.list) this.#marks[state] = 0;
    this.list.length = 0;
  }
  /** With what is reached from it without a character. */
  add(state: number): void {
    for (let at = state; this.#marks[at] === 0;) {
      this.#marks[at] = 1;
      this.list.push(at);
      const kind = this.#tokens[at]?.kind;
      if (kind === 'star') at++;
      else if (kind === 'directories') at += 2;
      else return;
    }
  }
  get isAccepting(): boolean {
    return this.#marks[this.#tokens.length] === 1;
  }
}

interface Search {
  /** The text's characters. */
  text: readonly string[];
  /** Where the match begins; 0 when absent. */
  from?: number;
  /** The first place where it may end, the last, or only the end of the text. */
  which: 'shortest' | 'longest' | 'whole';
  budget: StepBudget;
}

/** Where a match ends; undefined: nowhere. */
export function findEnd(tokens: readonly Token[], { text, from = 0, which, budget }: Search): number | undefined {
  let now = new States(tokens);
  let next = new States(tokens);
  now.add(0);
  let end: number | undefined;
  for (let at = from; ; at++) {
    if (now.isAccepting && (which !== 'whole' || at === text.length)) {
      if (which !== 'longest') return at;
      end = at;
    }
    if (at >= text.length || now.list.length === 0) return end;
    const character = text[at]!;
    budget.take(now.list.length);
    next.clear();
    for (const state of now.list) {
      const token = tokens[state];
      if (token === undefined) continue;
      if (token.kind === 'star') {
        if (token.crossesSlash || character !== '/') next.add(state);
      } else if (token.kind === 'directories') next.add(character === '/' ? state : state + 1);
      else if (token.kind === 'insideDirectories') next.add(character === '/' ? state - 1 : state);
      else if (takes(token, character)) next.add(state + 1);
    }
    [now, next] = [next, now];
  }
}
