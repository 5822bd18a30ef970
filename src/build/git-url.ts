/** Which sources are git repositories, and each as an operation of the graph. */
import type { SourceOp } from './llb/vertex.ts';

export function isGitUrl(text: string): boolean {
  return (
    /^(?:git|ssh):\/\//i.test(text) || /^[\w.-]+@[\w.-]+:/.test(text) || /^https?:\/\/[^#?]+\.git(?:#.*)?$/i.test(text)
  );
}

/** `url`: a remote, and behind `#` a reference and a directory. */
export function gitSource(url: string, more: Readonly<Record<string, string>> = {}): SourceOp {
  return {
    kind: 'source',
    identifier: `git://${url.replace(/^[a-z]+:\/\//i, '')}`,
    attributes: { 'git.fullurl': url.replace(/#.*$/, ''), ...more },
  };
}
