/**
 * Source as a tree, for the tests of structure. Types are blanked out first, so that offsets stay those of the file.
 */
import { stripTypeScriptTypes } from 'node:module';
import { parse } from 'acorn';

export interface SyntaxNode {
  type: string;
  start: number;
  end: number;
  [key: string]: unknown;
}

export interface Comment {
  start: number;
  end: number;
}

/** `comments` is filled with those of the file. */
export function parseSource(text: string, comments: Comment[] = []): unknown {
  return parse(stripTypeScriptTypes(text), {
    ecmaVersion: 'latest',
    sourceType: 'module',
    allowHashBang: true,
    onComment: comments as never,
  });
}

/** Every node at and below this one. */
export function* walk(node: unknown): Generator<SyntaxNode> {
  if (Array.isArray(node)) {
    for (const item of node) yield* walk(item);
    return;
  }
  if (node === null || typeof node !== 'object') return;
  const found = node as SyntaxNode;
  if (typeof found.type === 'string') yield found;
  for (const value of Object.values(found)) if (typeof value === 'object') yield* walk(value);
}
