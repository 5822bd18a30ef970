/**
 * The words of a command line as dockerd's flag parser (pflag) reads them: `--name=value`, `--name value`, `--name` of
 * a boolean, `-Hvalue`, `-DH value`. Errors are its own words.
 */
import { ApiError } from '#base/errors.ts';
import { parseSize } from '#base/sizes.ts';
import { isObject, itemsOf, type JsonObject } from '#base/unknown.ts';
import { daemonOptions, keyOf } from './options.ts';
import type { DaemonOption, OptionKind } from './options.ts';

const byFlag = new Map(daemonOptions.flatMap((option) => (option.flag === undefined ? [] : [[option.flag, option]])));
const byShort = new Map(
  daemonOptions.flatMap((option) => (option.short === undefined ? [] : [[option.short, option]])),
);

const trueTexts = new Set(['1', 't', 'T', 'true', 'TRUE', 'True']);
const falseTexts = new Set(['0', 'f', 'F', 'false', 'FALSE', 'False']);

/** By key, in the order of the words; each value of the kind that the file would have. */
export type FlagValues = Map<string, unknown>;

export function parseFlags(words: readonly string[]): FlagValues {
  const values: FlagValues = new Map();
  const left = words.values();
  const next = (): string | undefined => left.next().value;
  for (const word of left) {
    if (word === '--' || word === '-' || !word.startsWith('-'))
      throw new ApiError('BadRequest', '"tiphys engine" accepts no arguments.');
    if (word.startsWith('--')) takeLong(values, word.slice(2), next);
    else takeShort(values, word.slice(1), next);
  }
  return values;
}

function takeLong(values: FlagValues, text: string, next: () => string | undefined): void {
  const equals = text.indexOf('=');
  const name = equals < 0 ? text : text.slice(0, equals);
  const option = byFlag.get(name);
  if (option === undefined) throw new ApiError('BadRequest', `unknown flag: --${name}`);
  const value = equals >= 0 ? text.slice(equals + 1) : option.kind === 'bool' ? 'true' : next();
  if (value === undefined) throw new ApiError('BadRequest', `flag needs an argument: --${name}`);
  take(values, option, value, `--${name}`);
}

/** Booleans may stand together; what follows another letter is its value. */
function takeShort(values: FlagValues, text: string, next: () => string | undefined): void {
  for (const [at, letter] of [...text].entries()) {
    const option = byShort.get(letter);
    if (option === undefined) throw new ApiError('BadRequest', `unknown shorthand flag: '${letter}' in -${text}`);
    const shown = `-${letter}, --${option.flag}`;
    const rest = text.slice(at + 1);
    if (rest.startsWith('=')) return take(values, option, rest.slice(1), shown);
    if (option.kind === 'bool') {
      take(values, option, 'true', shown);
      continue;
    }
    const value = rest === '' ? next() : rest;
    if (value === undefined) throw new ApiError('BadRequest', `flag needs an argument: '${letter}' in -${text}`);
    return take(values, option, value, shown);
  }
}

function take(values: FlagValues, option: DaemonOption, text: string, shown: string): void {
  const key = keyOf(option);
  const wrong = (reason: string): never => {
    throw new ApiError(
      'BadRequest',
      `invalid argument ${JSON.stringify(text)} for ${JSON.stringify(shown)} flag: ${reason}`,
    );
  };
  values.set(key, readers[option.kind](text, values.get(key), wrong));
}

function objectOf(value: unknown): JsonObject {
  return isObject(value) ? value : {};
}

type Reader = (text: string, before: unknown, wrong: (reason: string) => never) => unknown;

/** One value of a flag, put to those before it. */
const readers: Readonly<Record<OptionKind, Reader>> = {
  bool: (text, _before, wrong) =>
    trueTexts.has(text)
      ? true
      : falseTexts.has(text)
        ? false
        : wrong(`strconv.ParseBool: parsing ${JSON.stringify(text)}: invalid syntax`),
  string: (text) => text,
  int: (text, _before, wrong) =>
    /^[+-]?\d{1,15}$/.test(text)
      ? Number(text)
      : wrong(`strconv.ParseInt: parsing ${JSON.stringify(text)}: invalid syntax`),
  list: (text, before) => [...itemsOf(before), text],
  map: (text, before) => ({ ...objectOf(before), ...pairOf(text) }),
  flags(text, before, wrong) {
    const [name, value = 'true'] = splitAt(text, '=');
    if (name === '') wrong('invalid named flag: key cannot be empty');
    if (!trueTexts.has(value) && !falseTexts.has(value))
      wrong(`invalid value ${JSON.stringify(value)} for feature ${name}: a boolean is wanted`);
    return { ...objectOf(before), [name]: trueTexts.has(value) };
  },
  size: (text, _before, wrong) => parseSize(text) ?? wrong(`invalid size: '${text}'`),
  runtimes(text, before, wrong) {
    const [name, path] = splitAt(text, '=');
    if (path === undefined || name.trim() === '' || path.trim() === '') wrong(`invalid runtime argument: ${text}`);
    if (name === 'runc') wrong("runtime name 'runc' is reserved");
    return { ...objectOf(before), [name.trim().toLowerCase()]: { path: path?.trim() } };
  },
  ulimits(text, before, wrong) {
    const match = /^(\w+)=(-?\d+)(?::(-?\d+))?$/.exec(text);
    if (match === null) return wrong(`invalid ulimit argument: ${text}`);
    const [, name = '', soft, hard = soft] = match;
    return {
      ...objectOf(before),
      [name]: { Name: name, Soft: Number(soft), Hard: Number(hard) },
    };
  },
  pools(text, before, wrong) {
    const fields = Object.fromEntries(text.split(',').map((part) => splitAt(part, '=')));
    const unknown = Object.keys(fields).find((name) => name !== 'base' && name !== 'size');
    if (unknown !== undefined) wrong(`unexpected key '${unknown}' in '${text}'`);
    if (!/^\d{1,3}$/.test(fields['size'] ?? '')) wrong(`invalid size value: ${fields['size'] ?? ''} (must be integer)`);
    return [...itemsOf(before), { base: fields['base'] ?? '', size: Number(fields['size']) }];
  },
  maps(text, before, wrong) {
    const [name, rest] = splitAt(text, '=');
    if (rest === undefined || name === '') return wrong(`invalid mapmap format: ${text}: must be 'driver=opt=value'`);
    const all = objectOf(before);
    return { ...all, [name]: { ...objectOf(all[name]), ...pairOf(rest) } };
  },
};

function splitAt(text: string, mark: string): [string, string | undefined] {
  const at = text.indexOf(mark);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}

function pairOf(text: string): Record<string, string> {
  const [name, value = ''] = splitAt(text, '=');
  return { [name]: value };
}

/** The flags as `--help` lists them. */
export function flagsHelp(): string {
  return [...byFlag.values()]
    .filter((option) => option.hidden !== true)
    .map((option) => {
      const name = `${option.short === undefined ? '    ' : `-${option.short}, `}--${option.flag}`;
      const kind = option.kind === 'bool' ? '' : ` ${option.kind}`;
      return { flag: option.flag ?? '', line: `  ${`${name}${kind}`.padEnd(40)} ${option.help}` };
    })
    .sort((a, b) => (a.flag < b.flag ? -1 : 1))
    .map(({ line }) => line)
    .join('\n');
}
