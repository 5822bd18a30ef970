/** `SOURCE_DATE_EPOCH`: the time that nothing of an image is to be later than. */
import { ApiError } from '#base/errors.ts';

/** Whether the text is a time, rather than the name of something that has one. */
export function isEpoch(text: string): boolean {
  return /^-?\d{1,12}$/.test(text);
}

/** Of seconds since 1970; undefined where nothing is said. Throws BadRequest. */
export function parseEpoch(text: string | undefined): number | undefined {
  if (text === undefined || text === '') return undefined;
  if (!isEpoch(text)) throw new ApiError('BadRequest', `invalid SOURCE_DATE_EPOCH: ${text.slice(0, 100)}`);
  return Number(text) * 1000;
}
