/**
 * Which program this machine runs, and which it ran before: `DATA/program.json`. Absent as long as it was never
 * upgraded: then it runs what the checkout or package is from which it was started.
 */
import { existsSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import { fieldOf, textOf } from '#base/unknown.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import { files, packageRoot, type Paths } from '../paths.ts';
import { rootOf } from './program.ts';

const recordFormat = 1;

export interface ProgramRecord {
  /** Ids. What its processes are, or come to be; absent where it was never upgraded. */
  current?: string;
  /** Kept for the way back; absent where it is not kept. */
  previous?: string;
  /** Not all processes are known to be of the current one: `upgrade` was interrupted, or goes on. */
  isBegun?: boolean;
  /** Of the last order that another machine gave and that was followed, to its end or to a failure. */
  attempt?: string;
  /** What was tried last, and does not run here. */
  failed?: Failed;
}

export interface Failed {
  id: string;
  reason: string;
  /** Of the order, where another machine gave one. */
  attempt?: string;
}

export function loadRecord(paths: Paths): ProgramRecord | undefined {
  const text = readIfExists(files.programRecord(paths));
  if (text === undefined) return undefined;
  const value: unknown = JSON.parse(text);
  const format = fieldOf(value, 'format');
  if (typeof format !== 'number' || format > recordFormat)
    throw new ApiError(
      'BadRequest',
      `${files.programRecord(paths)} has format ${String(format)}; this program knows ${recordFormat}: use a newer one`,
    );
  const texts = {
    current: textOf(value, 'current'),
    previous: textOf(value, 'previous'),
    attempt: textOf(value, 'attempt'),
  };
  const failed = readFailed(fieldOf(value, 'failed'));
  return {
    ...Object.fromEntries(Object.entries(texts).filter(([, text]) => text !== undefined)),
    ...(fieldOf(value, 'isBegun') === true ? { isBegun: true } : {}),
    ...(failed === undefined ? {} : { failed }),
  };
}

export function readFailed(value: unknown): Failed | undefined {
  const [id, reason = '', attempt] = [textOf(value, 'id'), textOf(value, 'reason'), textOf(value, 'attempt')];
  return id === undefined ? undefined : { id, reason, ...(attempt === undefined ? {} : { attempt }) };
}

export function saveRecord(paths: Paths, record: ProgramRecord): void {
  writeFileAtomic(files.programRecord(paths), `${JSON.stringify({ format: recordFormat, ...record })}\n`, {
    sync: true,
  });
}

/** Where the program lies that this machine runs, where that is another one than this; commands are for it to do. */
export function otherRoot(paths: Paths): string | undefined {
  const record = loadRecord(paths);
  if (record?.current === undefined) return undefined;
  const root = rootOf(paths, record.current);
  return root === packageRoot || !existsSync(root) ? undefined : root;
}

/** What a user should know of the program that runs here. */
export function upgradeProblems(paths: Paths): string[] {
  const record = loadRecord(paths);
  return [
    ...(record?.isBegun === true ? ["an upgrade was begun and did not end: 'tiphys upgrade' finishes it"] : []),
    ...(record?.failed === undefined
      ? []
      : [`program ${record.failed.id} was tried and does not run here: ${record.failed.reason}`]),
  ];
}
