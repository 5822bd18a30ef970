/**
 * `--filter reference=`: a pattern over the familiar name, with or without its tag (Go's path.Match: `*` stops at a
 * slash).
 */
import { compilePattern } from '#build/patterns.ts';

export function compileGlob(pattern: string): (name: string) => boolean {
  const compiled = compilePattern(pattern, { doubleStar: false });
  return (name) => compiled.test(name) || compiled.test(name.replace(/(?::[^/:]*|@.*)$/, ''));
}
