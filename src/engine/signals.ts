/** Signals by name or number, as `docker kill`, `--stop-signal` and `STOPSIGNAL` take them (signal(7)). */
import { constants } from 'node:os';
import { ApiError } from '#base/errors.ts';

const realtimeMin = 34;
const realtimeMax = 64;

export function parseSignal(text: string): number {
  const plain = text.trim().toUpperCase().replace(/^SIG/, '');
  if (/^\d+$/.test(text.trim())) {
    const number = Number(plain);
    if (number >= 1 && number <= realtimeMax) return number;
  }
  const realtime = /^RT(MIN|MAX)([+-]\d+)?$/.exec(plain);
  if (realtime !== null) {
    const number = (realtime[1] === 'MIN' ? realtimeMin : realtimeMax) + Number(realtime[2] ?? 0);
    if (number >= realtimeMin && number <= realtimeMax) return number;
  }
  const number = (constants.signals as Record<string, number>)[`SIG${plain}`];
  if (number === undefined) throw new ApiError('BadRequest', `invalid signal: ${text}`);
  return number;
}
