/** Durations as people write them: `1h30m`, `250ms`, `2d`; plain numbers are milliseconds. Pure. */
export type Duration = number | string;

const unitMs: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

export function durationMs(duration: Duration): number {
  if (typeof duration === 'number') return duration;
  let total = 0;
  const rest = duration.replaceAll(/(\d+(?:\.\d+)?)\s*(ms|[smhd])/g, (_all, amount: string, unit: string) => {
    total += Number(amount) * (unitMs[unit] ?? NaN);
    return '';
  });
  if (rest.trim() !== '' || duration.trim() === '')
    throw new Error(`not a duration: ${JSON.stringify(duration)} (write 90s, 1h30m, 2d)`);
  return total;
}

export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)}ms`;
  const parts: string[] = [];
  let left = Math.round(ms / 1000);
  for (const [unit, seconds] of [
    ['d', 86_400],
    ['h', 3_600],
    ['m', 60],
    ['s', 1],
  ] as const) {
    if (left >= seconds) {
      parts.push(`${Math.floor(left / seconds)}${unit}`);
      left %= seconds;
    }
  }
  return parts.slice(0, 2).join('');
}
