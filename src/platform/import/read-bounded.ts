/** Files of another engine, which are whatever is there: read only up to a bound. */
import { readFileSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import { isObject, type JsonObject } from '#base/unknown.ts';
import { statIfExists } from '#os/files.ts';
import { importedTextBytesMax } from '../limits.ts';

/** Undefined where there is none. */
export function readBounded(path: string, bytesMax: number): Buffer | undefined {
  const stat = statIfExists(path);
  if (stat?.isFile() !== true) return undefined;
  if (stat.size > bytesMax)
    throw new ApiError('RequestEntityTooLarge', `${path} has ${stat.size} bytes, at most ${bytesMax} are read`);
  return readFileSync(path);
}

export function readText(path: string): string | undefined {
  return readBounded(path, importedTextBytesMax)?.toString();
}

/** Undefined where there is none; an ApiError where it is no JSON object. */
export function readObject(path: string): JsonObject | undefined {
  const text = readText(path);
  return text === undefined ? undefined : parseObject(text, path);
}

export function parseObject(text: string, what: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new ApiError('BadRequest', `${what} is not valid JSON`);
  }
  if (!isObject(value)) throw new ApiError('BadRequest', `${what} is not a JSON object`);
  return value;
}
