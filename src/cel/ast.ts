/**
 * Expressions of the Common Expression Language as plain data. Macros are expanded: what they do is a `fold`, as in the
 * language's own definition. Operators are calls: `_+_`, `_[_]`, `_?_:_`.
 */
import type { Value } from './values.ts';

interface At {
  /** One for each node of an expression; types and references are kept by it. */
  id: number;
  /** Where a message about it points: an offset in UTF-16 units. */
  at: number;
}

export type Node = At &
  (
    | { op: 'const'; value: Value }
    | { op: 'ident'; name: string }
    | { op: 'select'; operand: Node; field: string; isTest: boolean; isOptional: boolean }
    | { op: 'call'; name: string; target: Node | undefined; args: Node[] }
    | { op: 'list'; items: Item[] }
    | { op: 'map'; entries: MapEntry[] }
    | { op: 'struct'; name: string; fields: StructField[] }
    | Fold
  );

export interface Item {
  value: Node;
  isOptional: boolean;
}
export interface MapEntry extends Item {
  key: Node;
  at: number;
}
export interface StructField extends Item {
  name: string;
  at: number;
}

/** `accu = init; for (key, item in range) { if (!condition) break; accu = step }; result`. */
export interface Fold {
  op: 'fold';
  range: Node;
  /** The one variable, or the key or index of two. */
  first: string;
  second: string | undefined;
  accu: string;
  init: Node;
  condition: Node;
  step: Node;
  result: Node;
}

export type NodeOf<Op extends Node['op']> = Extract<Node, { op: Op }>;

/** A problem of an expression at a place in it, in the words of cel-go. */
export interface Problem {
  at: number;
  message: string;
}

/** Problems as cel-go prints them: with the line, and a mark under the place. */
export function problemsText(source: string, problems: readonly Problem[]): string {
  return [...problems]
    .sort((a, b) => a.at - b.at)
    .map(({ at, message }) => {
      const before = source.slice(0, at);
      const line = before.split('\n').length;
      const start = before.lastIndexOf('\n') + 1;
      const end = source.indexOf('\n', at);
      const column = [...before.slice(start)].length;
      const text = source.slice(start, end === -1 ? undefined : end);
      return `ERROR: <input>:${line}:${column + 1}: ${message}\n | ${text}\n | ${'.'.repeat(column)}^`;
    })
    .join('\n');
}
