/**
 * A Dockerfile as stages of instructions. Syntax is checked here, with BuildKit's messages; variables are expanded
 * later (`stage.ts`), when they are known.
 */
import { ApiError } from '#base/errors.ts';
import { copySourcesMax, quotedWordMax } from '../limits.ts';
import { lexDockerfile, parseError } from './lexer.ts';
import type { Heredoc, LogicalLine } from './lexer.ts';
import { nearest } from './nearest.ts';

const keywords = [
  'ADD',
  'ARG',
  'CMD',
  'COPY',
  'ENTRYPOINT',
  'ENV',
  'EXPOSE',
  'FROM',
  'HEALTHCHECK',
  'LABEL',
  'MAINTAINER',
  'ONBUILD',
  'RUN',
  'SHELL',
  'STOPSIGNAL',
  'USER',
  'VOLUME',
  'WORKDIR',
] as const;
export type Keyword = (typeof keywords)[number];

export interface Instruction {
  line: number;
  endLine: number;
  /** The last of the continued lines, where one of them is empty. */
  emptyLine?: number;
  keyword: Keyword;
  /** The keyword as it is written. */
  word: string;
  /** As written, continuation lines joined, for `Step n/m : …`. */
  original: string;
  flags: Record<string, string[]>;
  /** What follows keyword and flags. */
  rest: string;
  /** The rest as a JSON array of strings (exec form). */
  json: string[] | undefined;
  heredocs: Heredoc[];
  /** What stands in comments right before it. */
  comments: readonly string[];
}

export interface Stage {
  index: number;
  name: string | undefined;
  /** Image or stage, unexpanded. */
  base: string;
  platform: string | undefined;
  from: Instruction;
  instructions: Instruction[];
}

/** As builders call one that the file gives no name. */
export function stageName({ name, index }: Stage): string {
  return name ?? `stage-${index}`;
}

export interface Dockerfile {
  escape: '\\' | '`';
  /** `# syntax=`, `# check=`. */
  directives: Readonly<Record<string, string>>;
  /** ARGs before the first FROM. */ globalArgs: Instruction[];
  stages: Stage[];
}

const flagsOf: Partial<Record<Keyword, { values: string[]; switches: string[] }>> = {
  FROM: { values: ['platform'], switches: [] },
  COPY: { values: ['from', 'chown', 'chmod', 'exclude'], switches: ['link', 'parents'] },
  ADD: { values: ['chown', 'chmod', 'checksum', 'exclude'], switches: ['link', 'keep-git-dir', 'unpack'] },
  RUN: { values: ['mount', 'network', 'security', 'device'], switches: [] },
  HEALTHCHECK: { values: ['interval', 'timeout', 'start-period', 'start-interval', 'retries'], switches: [] },
};

function hintOf(flag: string, known: readonly string[]): string {
  const near = nearest(flag, known);
  return near === undefined ? '' : ` (did you mean ${near}?)`;
}

/** Leading `--name[=value]` words. */
function takeFlags(keyword: Keyword, text: string, line: number): { flags: Record<string, string[]>; rest: string } {
  const flags: Record<string, string[]> = {};
  let rest = text;
  for (;;) {
    const match = /^--(?:([a-zA-Z][a-zA-Z0-9-]*)(?:=((?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'\\])*))?)?(?:\s+|$)/.exec(
      rest,
    );
    if (match === null) return { flags, rest };
    if (match[1] === undefined) return { flags, rest: rest.slice(match[0].length) };
    const allowed = flagsOf[keyword];
    if (allowed === undefined || !(allowed.values.includes(match[1]) || allowed.switches.includes(match[1]))) {
      if (allowed === undefined) return { flags, rest };
      throw parseError(
        line,
        `unknown flag: --${match[1]}${hintOf(match[1], [...allowed.values, ...allowed.switches])}`,
      );
    }
    if (allowed.values.includes(match[1]) && match[2] === undefined)
      throw parseError(line, `missing a value on flag: ${match[1]}`);
    const value = match[2] ?? 'true';
    if (allowed.switches.includes(match[1]) && value !== 'true' && value !== 'false')
      throw parseError(line, `invalid boolean value for flag ${match[1]}: ${value}`);
    const isMany = ['mount', 'exclude', 'device'].includes(match[1]);
    if (flags[match[1]] !== undefined && !isMany) throw parseError(line, `duplicate flag specified: ${match[1]}`);
    (flags[match[1]] ??= []).push(value);
    rest = rest.slice(match[0].length);
  }
}

/** undefined: not JSON, so the shell form is meant. */
function parseJsonForm(text: string, line: number): string[] | undefined {
  if (!text.startsWith('[')) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
  if (!Array.isArray(value)) return undefined;
  if (!value.every((item) => typeof item === 'string'))
    throw parseError(line, 'only string type is allowed in JSON array format');
  return value;
}

/** Instructions that make no sense without arguments, and how BuildKit says so. */
function checkArguments(instruction: Instruction): void {
  const { keyword, rest, line, json } = instruction;
  const words = rest.trim() === '' ? [] : rest.trim().split(/\s+/);
  const fail = (message: string): never => {
    throw parseError(line, message);
  };
  if (words.length === 0 && keyword !== 'CMD' && keyword !== 'ENTRYPOINT')
    fail(
      keyword === 'FROM'
        ? 'FROM requires either one or three arguments'
        : ['WORKDIR', 'USER', 'STOPSIGNAL', 'MAINTAINER'].includes(keyword)
          ? `${keyword} requires exactly one argument`
          : `${keyword} requires at least one argument`,
    );
  switch (keyword) {
    case 'FROM':
      if (words.length !== 1 && !(words.length === 3 && words[1]!.toLowerCase() === 'as'))
        fail('FROM requires either one or three arguments');
      break;
    case 'COPY':
    case 'ADD':
      if ((json ?? words).length > copySourcesMax) fail(`${keyword} has more than ${copySourcesMax} sources`);
      if ((json ?? words).length < 2)
        fail(
          `${keyword} requires at least two arguments, but only one was provided. Destination could not be determined`,
        );
      break;
    case 'ENV':
    case 'LABEL':
      if (words.length === 1 && !words[0]!.includes('=')) fail(`${keyword} must have two arguments`);
      break;
    case 'SHELL':
      if (json === undefined || json.length === 0) fail('SHELL requires the arguments to be in JSON form');
      break;
    case 'USER':
    case 'STOPSIGNAL':
      if (words.length !== 1) fail(`${keyword} requires exactly one argument`);
      break;
    case 'ONBUILD': {
      const trigger = words[0]!.toUpperCase();
      if (trigger === 'ONBUILD') fail("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
      if (trigger === 'FROM' || trigger === 'MAINTAINER') fail(`${trigger} isn't allowed as an ONBUILD trigger`);
      break;
    }
    case 'HEALTHCHECK': {
      const type = words[0]!.toUpperCase();
      if (type === 'NONE' && words.length > 1) fail('HEALTHCHECK NONE takes no arguments');
      if (type !== 'NONE' && type !== 'CMD') fail(`Unknown type "${type}" in HEALTHCHECK (try CMD)`);
      if (type === 'CMD' && words.length < 2) fail('Missing command after HEALTHCHECK CMD');
      break;
    }
    default:
  }
}

export function parseInstruction(source: LogicalLine): Instruction {
  const word = /^\S+/.exec(source.text)![0];
  const keyword = word.toUpperCase() as Keyword;
  // Names of files are bytes; all else in a configuration is text.
  const match = /^(\S+)(?:\s+([\s\S]*))?$/.exec(
    keyword === 'COPY' || keyword === 'ADD' ? source.text : source.text.toWellFormed(),
  )!;
  if (!keywords.includes(keyword)) {
    const near = nearest(keyword, keywords);
    const hint = near === undefined ? '' : ` (did you mean ${near}?)`;
    throw parseError(source.line, `unknown instruction: ${word.slice(0, quotedWordMax)}${hint}`);
  }
  const { flags, rest } = takeFlags(keyword, (match[2] ?? '').trim(), source.line);
  const instruction: Instruction = {
    line: source.line,
    endLine: source.endLine,
    ...(source.emptyLine === undefined ? {} : { emptyLine: source.emptyLine }),
    keyword,
    word,
    original: `${keyword}${match[2] === undefined ? '' : ` ${match[2].trim()}`}`,
    flags,
    rest,
    json: ['CMD', 'ENTRYPOINT', 'RUN', 'SHELL', 'COPY', 'ADD', 'VOLUME'].includes(keyword)
      ? parseJsonForm(rest, source.line)
      : undefined,
    heredocs: source.heredocs,
    comments: source.comments,
  };
  checkArguments(instruction);
  return instruction;
}

/** A trigger of an image (`OnBuild`) as an instruction. */
export function parseTrigger(text: string): Instruction {
  const parsed = lexDockerfile(text);
  const line = parsed.lines[0];
  if (line === undefined || parsed.lines.length !== 1)
    throw new ApiError('BadRequest', `invalid ONBUILD trigger: ${text}`);
  const instruction = parseInstruction(line);
  if (instruction.keyword === 'ONBUILD' || instruction.keyword === 'FROM' || instruction.keyword === 'MAINTAINER')
    throw new ApiError('BadRequest', `${instruction.keyword} isn't allowed as an ONBUILD trigger`);
  return instruction;
}

/** What a comment before it says of a stage or an argument, whose name it begins with; '' where none does. */
export function descriptionOf(comments: readonly string[], name: string): string {
  const start = `${name} `;
  return comments.find((comment) => comment.startsWith(start))?.slice(start.length) ?? '';
}

/** `look` sees each instruction before the next one is read, which may be wrong. */
export function parseDockerfile(source: string, look?: (instruction: Instruction) => void): Dockerfile {
  const { lines, escape, directives } = lexDockerfile(source);
  if (lines.length === 0) throw new ApiError('BadRequest', 'the Dockerfile cannot be empty');
  const globalArgs: Instruction[] = [];
  const stages: Stage[] = [];
  for (const line of lines) {
    const instruction = parseInstruction(line);
    look?.(instruction);
    if (instruction.keyword === 'FROM') {
      const words = instruction.rest.trim().split(/\s+/);
      const name = words[2]?.toLowerCase();
      if (name !== undefined && !/^[a-z][a-z0-9-_.]*$/.test(name))
        throw parseError(
          line.line,
          `invalid name for build stage: "${words[2]}", name can't start with a number or contain symbols`,
        );
      stages.push({
        index: stages.length,
        name,
        base: words[0]!,
        platform: instruction.flags['platform']?.[0],
        from: instruction,
        instructions: [],
      });
    } else if (stages.length > 0) stages.at(-1)!.instructions.push(instruction);
    else if (instruction.keyword === 'ARG') globalArgs.push(instruction);
    else throw parseError(line.line, 'no build stage in current context');
  }
  if (stages.length === 0) throw new ApiError('BadRequest', 'dockerfile contains no stages to build');
  return { escape, directives, globalArgs, stages };
}
