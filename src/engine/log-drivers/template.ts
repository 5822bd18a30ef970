/**
 * Go's text/template as far as tags of logs use it: fields of the container, functions of docker's templates with
 * arguments, pipes, and trimmed blanks. What is more (conditions, loops, variables) is refused, as Go refuses what it
 * does not know: when the container starts.
 * Source: text/template (Go standard library); docker 28.5, daemon/logger/templates.
 */
import { ApiError } from '#base/errors.ts';

type Value = string | number | string[];

const functions: Readonly<Record<string, (...values: Value[]) => Value>> = {
  json: (value) => JSON.stringify(value),
  split: (text, mark) => String(text).split(String(mark)),
  join: (list, mark) => (Array.isArray(list) ? list.join(String(mark)) : String(list)),
  title: (text) =>
    String(text).replace(/(^|[^\p{L}\p{N}_'])(\p{L})/gu, (_all, a: string, b: string) => a + b.toUpperCase()),
  lower: (text) => String(text).toLowerCase(),
  upper: (text) => String(text).toUpperCase(),
  pad: (text, before, after) =>
    text === '' ? '' : ' '.repeat(boundedCount(before)) + String(text) + ' '.repeat(boundedCount(after)),
  truncate: (text, length) => String(text).slice(0, boundedCount(length)),
  index: (list, at) => (Array.isArray(list) ? (list[Number(at)] ?? refuse('index out of range')) : String(list)),
  print: (...values) => values.join(''),
};

const padMax = 4096;

function boundedCount(value: Value | undefined): number {
  return Math.min(padMax, Math.max(0, Number(value ?? 0)));
}

function refuse(reason: string): never {
  throw new ApiError('BadRequest', `template: log-tag:1: ${reason}`);
}

/** Throws ApiError BadRequest for what is no template of this kind. */
export function expandTemplate(template: string, fields: Readonly<Record<string, string>>): string {
  let out = '';
  let trimNext = false;
  for (let at = 0; at < template.length;) {
    const open = template.indexOf('{{', at);
    let text = template.slice(at, open < 0 ? undefined : open);
    if (trimNext) text = text.trimStart();
    if (open < 0) return out + text;
    const close = template.indexOf('}}', open);
    if (close < 0) refuse('unclosed action');
    let action = template.slice(open + 2, close);
    if (/^-\s/.test(action)) {
      action = action.slice(1);
      text = text.trimEnd();
    }
    trimNext = /\s-$/.test(action);
    if (trimNext) action = action.slice(0, -1);
    out += text;
    action = action.trim();
    if (!/^\/\*.*\*\/$/s.test(action)) out += show(evaluate(action, fields));
    at = close + 2;
  }
  return out;
}

function show(value: Value): string {
  return Array.isArray(value) ? `[${value.join(' ')}]` : String(value);
}

/** A pipe: each command's value is the last argument of the next. */
function evaluate(action: string, fields: Readonly<Record<string, string>>): Value {
  let value: Value | undefined;
  for (const words of commandsOf(action)) {
    const [first = '', ...rest] = words;
    const values = [...rest.map((word) => valueOf(word, fields)), ...(value === undefined ? [] : [value])];
    const run = Object.hasOwn(functions, first) ? functions[first] : undefined;
    if (run !== undefined) value = run(...values);
    else if (values.length > 0) refuse(`function ${JSON.stringify(first)} not defined`);
    else value = valueOf(first, fields);
  }
  return value ?? refuse('missing value for command');
}

function commandsOf(action: string): string[][] {
  const commands: string[][] = [[]];
  const words = action.match(/"(?:[^"\\]|\\.)*"|`[^`]*`|\||[^\s|]+/g) ?? [];
  for (const word of words)
    if (word === '|') commands.push([]);
    else commands.at(-1)?.push(word);
  return commands;
}

function valueOf(word: string, fields: Readonly<Record<string, string>>): Value {
  if (/^-?\d{1,9}$/.test(word)) return Number(word);
  if (word.startsWith('`')) return word.slice(1, -1);
  if (word.startsWith('"'))
    try {
      const text: string = JSON.parse(word);
      return text;
    } catch {
      return refuse(`unterminated quoted string ${word}`);
    }
  const name = /^\.(\w+)$/.exec(word)?.[1];
  if (name === undefined) return refuse(`unexpected ${JSON.stringify(word)} in command`);
  return Object.hasOwn(fields, name)
    ? (fields[name] ?? '')
    : refuse(`executing "log-tag" at <.${name}>: can't evaluate field ${name} in type *logger.Info`);
}
