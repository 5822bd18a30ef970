/**
 * The text that `docker history` shows of an instruction: its words as they were expanded.
 *
 * Source: BuildKit, `frontend/dockerfile/dockerfile2llb/convert.go` (`commitToHistory` and its callers).
 */
import type { RunConfig } from '#content/image-file.ts';
import { parsePairs, splitWords } from './config.ts';
import type { Scope } from './config.ts';
import type { Instruction } from './parser.ts';
import { expandWord, expandWords } from './words.ts';

/** As Go prints a list of quoted strings. */
function quoted(words: readonly string[]): string {
  return `[${words.map((word) => JSON.stringify(word)).join(' ')}]`;
}

/** `config`: as the instruction has made it; `scope`: as it was when it was read. */
export function describeConfig(instruction: Instruction, config: RunConfig, scope: Scope): string {
  const { keyword, rest, json } = instruction;
  switch (keyword) {
    case 'ENV':
    case 'LABEL': {
      const pairs = parsePairs(instruction, scope).map(([name, value]) => `${name}=${value}`);
      return `${keyword} ${pairs.join(' ')}`;
    }
    case 'CMD':
      return `CMD ${quoted(config.Cmd ?? [])}`;
    case 'ENTRYPOINT':
      return `ENTRYPOINT ${quoted(config.Entrypoint ?? [])}`;
    case 'SHELL':
      return `SHELL [${(config.Shell ?? []).join(' ')}]`;
    case 'VOLUME':
      return `VOLUME [${(json ?? expandWords(rest, scope.variables, scope.escape)).join(' ')}]`;
    case 'USER':
      return `USER ${config.User ?? ''}`;
    default:
      return `${keyword} ${rest}`;
  }
}

/** COPY and ADD, with the flags that say what becomes of the files. */
export function describeCopy({ keyword, rest, json, flags, heredocs }: Instruction, scope: Scope): string {
  const expand = (word: string): string => expandWord(word, scope.variables, scope.escape);
  const shown = ['chown', 'chmod'].flatMap((name) => {
    const value = flags[name]?.[0];
    return value === undefined ? [] : [`--${name}=${expand(value)}`];
  });
  if (flags['parents']?.[0] === 'true') shown.push('--parents');
  const [line = ''] = rest.split('\n');
  const words = json ?? splitWords(line, scope.escape);
  const isHeredoc = (word: string): boolean => heredocs.length > 0 && /^\d*<<-?/.test(word);
  const target = words.at(-1) ?? '';
  const sources = words.slice(0, -1).filter((word) => !isHeredoc(word));
  const names = heredocs.map(({ name }) => `<<${name}`);
  return [keyword, ...shown, ...sources.map(expand), ...names, expand(target)].join(' ');
}
