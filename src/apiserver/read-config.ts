/** Files that flags name. */
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { readIfExists } from '#os/files.ts';

/** Throws BadRequest, with the flag. */
export function readConfig(file: string, flag: string): string {
  let text: string | undefined;
  try {
    text = readIfExists(file);
  } catch (error) {
    throw new ApiError('BadRequest', `--${flag}: ${messageOf(error)}`);
  }
  if (text === undefined) throw new ApiError('BadRequest', `--${flag}: open ${file}: no such file or directory`);
  return text;
}
