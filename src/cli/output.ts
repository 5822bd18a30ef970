/** What commands print: progress lines with times, tables, questions. Plain text where there is no terminal. */
import { Option } from 'commander';
import { createInterface } from 'node:readline/promises';

export const json = (): Option => new Option('--json', 'print JSON');

/** Wrong usage, or something this machine lacks: exit code 2. */
export class UsageError extends Error {}

export function print(text = ''): void {
  process.stdout.write(`${text}\n`);
}

export function table(rows: string[][], indent = ''): string {
  const widths: number[] = [];
  for (const row of rows)
    row.forEach((cell, index) => {
      widths[index] = Math.max(widths[index] ?? 0, cell.length);
    });
  return rows
    .map(
      (row) =>
        indent +
        row
          .map((cell, index) => (index === row.length - 1 ? cell : cell.padEnd(widths[index] ?? 0)))
          .join('  ')
          .trimEnd(),
    )
    .join('\n');
}

export function seconds(ms: number): string {
  return ms < 1000
    ? `${Math.round(ms)} ms`
    : ms < 10_000
      ? `${(ms / 1000).toFixed(2)} s`
      : `${(ms / 1000).toFixed(1)} s`;
}

export function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** Asks on a terminal; without one the answer is yes, as documented. */
export async function confirm(question: string): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) return true;
  const lines = createInterface({ input: process.stdin, output: process.stdout });
  try {
    const answer = (await lines.question(`${question} [Y/n] `)).trim().toLowerCase();
    return answer === '' || answer === 'y' || answer === 'yes';
  } finally {
    lines.close();
  }
}

/** A line that is typed and not shown; undefined without a terminal. Rejects where the user gives up (Ctrl-C). */
export async function askSecret(question: string): Promise<string | undefined> {
  const { stdin, stderr } = process;
  if (!stdin.isTTY || !stderr.isTTY) return undefined;
  stderr.write(question);
  stdin.setRawMode(true);
  stdin.setEncoding('utf8');
  try {
    return await new Promise<string>((resolve, reject) => {
      let line = '';
      const take = (text: string): void => {
        for (const letter of text)
          if (letter === '\r' || letter === '\n' || letter === '\u0004') {
            stdin.off('data', take);
            resolve(line);
            return;
          } else if (letter === '\u0003') {
            stdin.off('data', take);
            reject(new UsageError('given up'));
            return;
          } else if (letter === '\u007f' || letter === '\b') line = [...line].slice(0, -1).join('');
          else line += letter;
      };
      stdin.on('data', take);
      stdin.resume();
    });
  } finally {
    stdin.setRawMode(false);
    stdin.pause();
    stderr.write('\n');
  }
}
