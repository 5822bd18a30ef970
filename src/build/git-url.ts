/** Which sources are git repositories. */

export function isGitUrl(text: string): boolean {
  return (
    /^(?:git|ssh):\/\//i.test(text) || /^[\w.-]+@[\w.-]+:/.test(text) || /^https?:\/\/[^#?]+\.git(?:#.*)?$/i.test(text)
  );
}
