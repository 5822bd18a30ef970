/**
 * dockerd's log lines: `time="…" level=info msg="…" key=value`, made of the JSON lines that everything here writes. For
 * those who read the engine's log where they read dockerd's before.
 */
export function textLine(json: string): string {
  const { ts, level, msg, ...fields }: { ts: number; level: string; msg: string; [field: string]: unknown } =
    JSON.parse(json);
  const time = new Date(ts).toISOString().replace('Z', '000000Z');
  const name = level === 'warn' ? 'warning' : level;
  const rest = Object.entries(fields).map(([key, value]) => ` ${key}=${plain(value)}`);
  return `time="${time}" level=${name} msg=${JSON.stringify(msg)}${rest.join('')}\n`;
}

function plain(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return /^[A-Za-z0-9._/@^+:-]+$/.test(text) ? text : JSON.stringify(text);
}
