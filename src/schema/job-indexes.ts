/** Indexes of an Indexed Job as its fields list them: `1,3-5,7` (batch/v1, `completedIndexes`). */

interface Interval {
  from: number;
  to: number;
  problem: string;
}

const wrong = (problem: string): Interval => ({ from: 0, to: 0, problem });

/** `3-5` or `7`, below the number of completions. */
function intervalOf(text: string, completions: number): Interval {
  const parts = text.split('-');
  if (parts.length > 2)
    return wrong(
      `the fragment ${JSON.stringify(text)} violates the requirement that an index interval can have at most two parts separated by '-'`,
    );
  for (const part of parts) {
    if (!/^\+?\d+$/.test(part)) return wrong(`cannot convert string to integer for index: ${JSON.stringify(part)}`);
    if (Number(part) >= completions) return wrong(`too large index: ${JSON.stringify(part)}`);
  }
  const [from, to] = [Number(parts[0]), Number(parts.at(-1))];
  return parts.length === 2 && from >= to
    ? wrong(`non-increasing order, previous: ${from}, current: ${to}`)
    : { from, to, problem: '' };
}

/** How many indexes a list names, and what is wrong with it, or ''. */
export function indexesOf(text: string, completions: number): { total: number; problem: string } {
  let [last, total] = [-1, 0];
  if (text === '') return { total, problem: '' };
  for (const part of text.split(',')) {
    const { from, to, problem } = intervalOf(part, completions);
    if (problem !== '') return { total: 0, problem };
    if (from <= last) return { total: 0, problem: `non-increasing order, previous: ${last}, current: ${from}` };
    total += to - from + 1;
    last = to;
  }
  return { total, problem: '' };
}

/** The first index that two lists share. Intervals that are none are passed over. */
export function sharedIndex(one: string, other: string, completions: number): number | undefined {
  const read = (text: string): Interval[] =>
    text === ''
      ? []
      : text
          .split(',')
          .map((part) => intervalOf(part, completions))
          .filter(({ problem }) => problem === '');
  const [first, second] = [read(one), read(other)];
  for (let [i, j] = [0, 0]; i < first.length && j < second.length;) {
    const [a, b] = [first[i], second[j]];
    if (a === undefined || b === undefined) return undefined;
    if (a.from <= b.to && b.from <= a.to) return Math.max(a.from, b.from);
    if (a.from <= b.from) i++;
    else j++;
  }
}
