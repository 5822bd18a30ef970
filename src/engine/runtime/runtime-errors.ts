/**
 * What crun and runc say when a container cannot be made, in the words and with the code that docker's clients look
 * for.
 */
import { ApiError } from '#base/errors.ts';

const prefix = 'failed to create task for container: failed to create shim task: OCI runtime create failed';

/** Clients turn `executable file not found` into exit code 127, and `permission denied` into 126. */
/** `program`: what was to be run; the runtime does not always say it. */
export function explainRuntimeError(runtime: string, text: string, program = ''): ApiError {
  const message = lastMessage(text);
  // runc has `exec: "PATH": reason`, crun `PATH` between backticks.
  const missing =
    /executable file [`'"]?([^`'"]+?)[`'"]? not found in \$PATH/i.exec(message) ??
    /exec: "([^"]+)": executable file not found in \$PATH/i.exec(message);
  if (missing !== null)
    return new ApiError(
      'BadRequest',
      `${prefix}: ${runtime} create failed: unable to start container process: exec: "${missing[1]}": executable file not found in $PATH: unknown`,
      undefined,
      400,
    );
  const notThere =
    /exec[^`]*`([^`]+)`: No such file or directory/i.exec(message) ??
    /exec: "([^"]+)": (?:stat [^:]+: )?no such file or directory/i.exec(message) ??
    /open executable: No such file or directory/i.exec(message);
  if (notThere !== null)
    return new ApiError(
      'BadRequest',
      `${prefix}: ${runtime} create failed: unable to start container process: exec: "${notThere[1] ?? program}": stat ${notThere[1] ?? program}: no such file or directory: unknown`,
      undefined,
      400,
    );
  const denied =
    /(open executable|exec[^`]*`[^`]+`|exec: "[^"]+"|executable).*(Permission denied|Operation not permitted|Is a directory)/i.exec(
      message,
    );
  if (denied !== null)
    return new ApiError(
      'BadRequest',
      `${prefix}: ${runtime} create failed: unable to start container process: ${program === '' ? message : `exec: "${program}"`}: permission denied: unknown`,
      undefined,
      400,
    );
  const directory = /chdir[^`'"]*[`'"]([^`'"]+)[`'"].*no such file/i.exec(message);
  if (directory !== null)
    return new ApiError(
      'BadRequest',
      `${prefix}: ${runtime} create failed: unable to start container process: chdir to cwd ("${directory[1]}") set in config.json failed: no such file or directory: unknown`,
      undefined,
      400,
    );
  return new ApiError('InternalError', `${prefix}: ${runtime} create failed: ${message}: unknown`);
}

/** Runtimes log plain lines or JSON; the last line that says something is the cause. */
function lastMessage(text: string): string {
  const lines = text
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean);
  const last = lines.at(-1) ?? 'no reason given';
  try {
    return plain((JSON.parse(last) as { msg?: string }).msg ?? last);
  } catch {
    const quoted = /^time="[^"]*" level=\w+ msg="(.*)"$/.exec(last)?.[1];
    return plain(
      quoted === undefined ? last.replace(/^time="[^"]*" level=\w+ msg=/, '') : quoted.replaceAll('\\"', '"'),
    );
  }
}

/** Without what the prefix says already. */
function plain(message: string): string {
  return message
    .replace(/^(runc create failed|exec failed|runc run failed): /, '')
    .replace(/^unable to start container process: (?=.*(permission denied|is a directory))/, '');
}
