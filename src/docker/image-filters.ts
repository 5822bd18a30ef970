/**
 * `--filter reference=`: a pattern over the familiar or the canonical name, with or without its tag (Go's path.Match:
 * `*` stops at a slash).
 */
import { canonicalName, parseReference } from '#base/reference.ts';
import { compilePattern } from '#build/patterns.ts';

export function compileGlob(pattern: string): (name: string) => boolean {
  const compiled = compilePattern(pattern, { doubleStar: false });
  const matches = (name: string): boolean => compiled.test(name) || compiled.test(name.replace(/(?::[^/:]*|@.*)$/, ''));
  return (name) => matches(name) || matches(canonicalName(parseReference(name)));
}
