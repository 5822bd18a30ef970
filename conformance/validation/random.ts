/** Chance from a seed: what is drawn follows from the words it is seeded with, on every machine. */
export interface Chance {
  /** From 0 up to, not including, `bound`. */
  below(bound: number): number;
  /** True in so many of a hundred. */
  percent(share: number): boolean;
  /** One of a list that has some. */
  pick<T>(list: readonly T[]): T;
}

export function chanceOf(...words: (string | number)[]): Chance {
  let state = 2_166_136_261;
  for (const char of words.join('\0')) state = Math.imul(state ^ char.codePointAt(0)!, 16_777_619);
  // Mulberry32.
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
  const below = (bound: number): number => Math.floor(next() * bound);
  return {
    below,
    percent: (share) => next() * 100 < share,
    pick: (list) => list[below(list.length)]!,
  };
}
