/** `--filter reference=`: a pattern over the familiar name, with or without its tag (Go's path.Match: `*` stops at a slash). */
import { compilePattern } from '#build/patterns.ts';

export function compileGlob(pattern: string): (name: string) => boolean {
  const regexp = compilePattern(pattern, { doubleStar: false });
  return (name) => regexp.test(name) || regexp.test(name.replace(/(?::[^/:]*|@.*)$/, ''));
}
