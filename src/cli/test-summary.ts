/** The last lines of `tiphys test`: which tests took longest, and how many were left out. */

/** One test that has ended, as `test/summary.ts` writes it. */
interface TestLine {
  file: string;
  name: string;
  ms: number;
  skipped?: string;
}

const slowestShown = 10;

export function readTestLines(text: string): TestLine[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line): TestLine => JSON.parse(line));
}

/** Nothing for a run of a few tests. */
export function slowestTests(lines: readonly TestLine[]): string[] {
  if (lines.length <= slowestShown) return [];
  const slowest = lines.toSorted((a, b) => b.ms - a.ms).slice(0, slowestShown);
  return [
    `\nThe ${slowestShown} slowest tests:`,
    ...slowest.map(({ ms, file, name }) => `${(ms / 1000).toFixed(1).padStart(7)} s  ${file}: ${name}`),
  ];
}

/** How many tests a file holds, as far as its text says. */
function countTests(text: string): number {
  return text.match(/(?<![.\w])(?:test|it)\(|\bt\.test\(/g)?.length ?? 0;
}

/** `files`: those that were not run. Empty when everything ran. */
export function leftOutTests(
  lines: readonly TestLine[],
  files: readonly { path: string; why: string; text: string }[],
): string[] {
  const skipped = lines.filter((line) => line.skipped !== undefined);
  const count = skipped.length + files.reduce((sum, { text }) => sum + countTests(text), 0);
  if (skipped.length + files.length === 0) return [];
  return [
    '\nLeft out:',
    ...files.map(({ path, why, text }) => `  ${path} (${countTests(text)} tests; needs ${why})`),
    ...skipped.map(({ file, name, skipped: why }) => `  ${file}: ${name}${why === '' ? '' : ` (${why})`}`),
    `${count} ${count === 1 ? 'test was' : 'tests were'} left out`,
  ];
}
