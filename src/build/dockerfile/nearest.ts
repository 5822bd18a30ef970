/** The word that was meant, for "did you mean". */

function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    row = next;
  }
  return row[b.length]!;
}

/** At most two changes away; the first of several. undefined: none is near, or the word is one of them. */
export function nearest(word: string, options: readonly string[]): string | undefined {
  let [found, best]: [string | undefined, number] = [undefined, 3];
  for (const option of options) {
    if (option === word) return undefined;
    if (Math.abs(option.length - word.length) >= best) continue;
    const away = distance(word, option);
    if (away < best) [found, best] = [option, away];
  }
  return found;
}
