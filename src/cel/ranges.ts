/** Least and most of a size or a cost; what goes beyond 64 bits stays there (reference implementation, cost model). */

export interface Range {
  readonly min: number;
  readonly max: number;
}

/** Stands for what has no bound. */
export const boundless = 2 ** 64;
const capped = (value: number): number => Math.min(value, boundless);

export const none: Range = { min: 0, max: 0 };
export const unknown: Range = { min: 0, max: boundless };
export const fixed = (value: number): Range => ({ min: value, max: value });

export const add = (a: Range, b: Range): Range => ({ min: capped(a.min + b.min), max: capped(a.max + b.max) });
export const multiply = (a: Range, b: Range): Range => ({ min: capped(a.min * b.min), max: capped(a.max * b.max) });
export const scale = (a: Range, factor: number): Range => ({
  min: capped(Math.ceil(a.min * factor)),
  max: capped(Math.ceil(a.max * factor)),
});
export const unite = (a: Range, b: Range): Range => ({ min: Math.min(a.min, b.min), max: Math.max(a.max, b.max) });
export const sum = (ranges: readonly Range[]): Range => ranges.reduce(add, none);
