/**
 * Structured log lines: one JSON object a line, `ts` in milliseconds since 1970, `level`, `part`, `msg` and fields.
 * The sink and the clock are passed in, so that a simulated cluster's log is the same for the same seed.
 */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export interface Logger {
  debug(msg: string, fields?: Record<string, unknown>): void;
  info(msg: string, fields?: Record<string, unknown>): void;
  warn(msg: string, fields?: Record<string, unknown>): void;
  error(msg: string, fields?: Record<string, unknown>): void;
  /** A logger whose lines name this part. */
  child(part: string): Logger;
}

const rank: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3 };

function plain(fields: Record<string, unknown> | undefined): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(fields ?? {}))
    out[key] = value instanceof Error ? (value.stack ?? value.message) : value;
  return out;
}

export function createLogger(
  now: () => number,
  write: (line: string) => void,
  level: LogLevel | (() => LogLevel) = 'info',
  part = 'tiphys',
): Logger {
  const emit = (at: LogLevel, msg: string, fields?: Record<string, unknown>): void => {
    if (rank[at] < rank[typeof level === 'function' ? level() : level]) return;
    write(`${JSON.stringify({ ts: now(), level: at, part, msg, ...plain(fields) })}\n`);
  };
  return {
    debug: (msg, fields) => emit('debug', msg, fields),
    info: (msg, fields) => emit('info', msg, fields),
    warn: (msg, fields) => emit('warn', msg, fields),
    error: (msg, fields) => emit('error', msg, fields),
    child: (name) => createLogger(now, write, level, name),
  };
}

export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => silentLogger };
