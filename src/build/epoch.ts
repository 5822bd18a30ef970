/** `SOURCE_DATE_EPOCH`: the time that nothing of an image is to be later than. */
import { ApiError } from '#base/errors.ts';

/** Seconds since 1970; undefined where nothing is said. Throws BadRequest. */
export function parseEpoch(text: string | undefined): number | undefined {
  if (text === undefined || text === '') return undefined;
  const seconds = /^-?\d{1,12}$/.test(text) ? Number(text) : undefined;
  if (seconds === undefined) throw new ApiError('BadRequest', `invalid SOURCE_DATE_EPOCH: ${text.slice(0, 100)}`);
  return seconds * 1000;
}
