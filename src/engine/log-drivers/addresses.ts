/** Addresses of receivers as the drivers' options have them; errors are docker's. */
import { ApiError } from '#base/errors.ts';

export interface ReceiverUrl {
  scheme: string;
  host: string;
  /** Undefined where none is given. */
  port: number | undefined;
  path: string;
}

export function refuseOption(message: string): never {
  throw new ApiError('BadRequest', message);
}

/** `SCHEME://HOST[:PORT]` or `SCHEME:///PATH`; undefined where it is none. */
export function parseReceiverUrl(text: string): ReceiverUrl | undefined {
  const match = /^([a-z0-9+]+):\/\/(?:(\/.*)|(?:\[([0-9a-fA-F:.]+)\]|([^/:[\]]*))(?::(\d{1,5}))?\/?)$/.exec(text);
  if (match === null) return undefined;
  const port = match[5] === undefined ? undefined : Number(match[5]);
  if (port !== undefined && (port < 1 || port > 65_535)) return undefined;
  return { scheme: match[1] ?? '', host: match[3] ?? match[4] ?? '', port, path: match[2] ?? '' };
}

const trueTexts = new Set(['1', 't', 'T', 'true', 'TRUE', 'True']);
const falseTexts = new Set(['0', 'f', 'F', 'false', 'FALSE', 'False']);

/** Go's strconv.ParseBool. */
export function parseBool(text: string): boolean {
  if (!trueTexts.has(text) && !falseTexts.has(text))
    refuseOption(`strconv.ParseBool: parsing ${JSON.stringify(text)}: invalid syntax`);
  return trueTexts.has(text);
}

export function parseInteger(text: string): number | undefined {
  return /^[+-]?\d{1,15}$/.test(text) ? Number(text) : undefined;
}
