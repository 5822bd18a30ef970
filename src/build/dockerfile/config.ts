/**
 * Instructions that change nothing but the image's configuration: ENV, LABEL, CMD, ENTRYPOINT, EXPOSE, VOLUME, USER,
 * STOPSIGNAL, SHELL, HEALTHCHECK, ONBUILD, MAINTAINER. Pure: configuration in, configuration out.
 */
import { posix } from 'node:path';
import { parseSignal } from '#engine/signals.ts';
import type { HealthcheckConfig, RunConfig } from '#content/image-file.ts';
import { parseError } from './lexer.ts';
import type { Instruction } from './parser.ts';
import { setEnv } from './variables.ts';
import { expandWord, expandWords } from './words.ts';
import type { Variables } from './words.ts';

export interface Scope {
  variables: Variables;
  escape: string;
  /** Of the image; Linux where nothing is said. */
  os?: string;
}

/** What runs a command that is written as text. */
export function shellOf({ Shell: shell }: RunConfig, os: string | undefined): string[] {
  if (shell !== undefined && shell !== null && shell.length > 0) return shell;
  return os === 'windows' ? ['cmd', '/S', '/C'] : ['/bin/sh', '-c'];
}

/** Splits at unquoted spaces without expanding. */
export function splitWords(text: string, escape: string): string[] {
  const out: string[] = [];
  let word = '';
  let quote = '';
  for (let at = 0; at < text.length; at++) {
    const char = text[at]!;
    if (char === escape && quote !== "'") {
      word += char + (text[++at] ?? '');
      continue;
    }
    if (quote !== '') {
      word += char;
      if (char === quote) quote = '';
      continue;
    }
    if (char === '"' || char === "'") {
      quote = char;
      word += char;
      continue;
    }
    if (/\s/.test(char)) {
      if (word !== '') out.push(word);
      word = '';
      continue;
    }
    word += char;
  }
  if (word !== '') out.push(word);
  return out;
}

/** `a=1 b="2 3"`, or the old form `a the rest`. */
export function parsePairs(instruction: Instruction, scope: Scope): [string, string][] {
  const { rest, line, keyword } = instruction;
  const words = splitWords(rest, scope.escape);
  if (!words[0]!.includes('=')) {
    const match = /^(\S+)\s+([\s\S]+)$/.exec(rest);
    if (match === null) throw parseError(line, `${keyword} must have two arguments`);
    return [
      [
        expandWord(match[1]!, scope.variables, scope.escape),
        expandWord(match[2]!.trim(), scope.variables, scope.escape),
      ],
    ];
  }
  return words.map((word) => {
    const equals = word.indexOf('=');
    if (equals < 0) throw parseError(line, `Syntax error - can't find = in "${word}". Must be of the form: name=value`);
    const name = expandWord(word.slice(0, equals), scope.variables, scope.escape);
    if (name === '') throw parseError(line, `${keyword} names can not be blank`);
    return [name, expandWord(word.slice(equals + 1), scope.variables, scope.escape)];
  });
}

/** Exec form as it is; shell form through the stage's shell. */
export function toCommand(instruction: Instruction, shell: string[]): string[] {
  if (instruction.json !== undefined) return instruction.json;
  return instruction.rest === '' ? [] : [...shell, instruction.rest];
}

const durationUnits: Record<string, number> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 };

/** Go durations (`1m30s`) in nanoseconds. */
export function parseDuration(text: string, line: number): number {
  if (text === '0') return 0;
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)];
  if (parts.length === 0 || parts.map((part) => part[0]).join('') !== text)
    throw parseError(line, `time: invalid duration "${text}"`);
  return Math.round(parts.reduce((sum, part) => sum + Number(part[1]) * durationUnits[part[2]!]!, 0));
}

function healthcheck(instruction: Instruction): HealthcheckConfig {
  const { rest, flags, line } = instruction;
  if (/^none$/i.test(rest.trim())) return { Test: ['NONE'] };
  const command = rest.replace(/^\S+\s+/, '');
  let json: string[] | undefined;
  try {
    const value = JSON.parse(command) as unknown;
    if (Array.isArray(value) && value.every((item) => typeof item === 'string')) json = value;
  } catch {
    /* Shell form. */
  }
  const out: HealthcheckConfig = { Test: json === undefined ? ['CMD-SHELL', command] : ['CMD', ...json] };
  const duration = (name: string): number | undefined => {
    const text = flags[name]?.[0];
    if (text === undefined) return undefined;
    const value = parseDuration(text, line);
    if (value !== 0 && value < 1e6) throw parseError(line, `Interval "${name}" cannot be less than 1ms`);
    return value;
  };
  const [interval, timeout, startPeriod, startInterval] = [
    duration('interval'),
    duration('timeout'),
    duration('start-period'),
    duration('start-interval'),
  ];
  const retries = flags['retries']?.[0];
  if (retries !== undefined && !/^\d+$/.test(retries))
    throw parseError(line, `--retries must be at least 0 (not ${retries})`);
  return {
    ...out,
    ...(interval === undefined ? {} : { Interval: interval }),
    ...(timeout === undefined ? {} : { Timeout: timeout }),
    ...(startPeriod === undefined ? {} : { StartPeriod: startPeriod }),
    ...(startInterval === undefined ? {} : { StartInterval: startInterval }),
    ...(retries === undefined ? {} : { Retries: Number(retries) }),
  };
}

/** `[ip:][host port:]port[-port][/protocol]`: an address and a port of the host are read and have no effect. */
function parsePort(text: string, line: number): string[] {
  const match = /^(?:(?:[0-9.]*|\[[0-9a-fA-F:.]*\]):)?(?:(?:\d+(?:-\d+)?)?:)?(\d+)(?:-(\d+))?(?:\/([a-zA-Z]+))?$/.exec(
    text,
  );
  const protocol = (match?.[3] ?? 'tcp').toLowerCase();
  const [from, to] = [Number(match?.[1]), Number(match?.[2] ?? match?.[1])];
  if (match === null || from > 65_535 || to > 65_535 || to < from)
    throw parseError(line, `invalid containerPort: ${text}`);
  if (!['tcp', 'udp', 'sctp'].includes(protocol)) throw parseError(line, `invalid proto: ${protocol}`);
  return Array.from({ length: to - from + 1 }, (_, index) => `${from + index}/${protocol}`);
}

/** What WORKDIR makes of a path: absolute, clean, and below the one before where it is relative. */
export function resolveWorkingDir(before: string | undefined, path: string): string {
  return posix.resolve('/', before ?? '', path);
}

/** undefined: this instruction is not one of these. */
export function applyConfig(config: RunConfig, instruction: Instruction, scope: Scope): RunConfig | undefined {
  const { keyword, rest, json, line } = instruction;
  const shell = shellOf(config, scope.os);
  const words = (): string[] => expandWords(rest, scope.variables, scope.escape);
  switch (keyword) {
    case 'ENV':
      return {
        ...config,
        Env: parsePairs(instruction, scope).reduce((env, [name, value]) => setEnv(env, name, value), config.Env ?? []),
      };
    case 'LABEL':
      return { ...config, Labels: { ...config.Labels, ...Object.fromEntries(parsePairs(instruction, scope)) } };
    case 'CMD':
      return { ...config, Cmd: toCommand(instruction, shell) };
    // A new entrypoint makes a command inherited from the base meaningless.
    case 'ENTRYPOINT':
      return { ...config, Entrypoint: toCommand(instruction, shell) };
    case 'EXPOSE':
      return {
        ...config,
        ExposedPorts: {
          ...config.ExposedPorts,
          ...Object.fromEntries(
            words()
              .flatMap((word) => parsePort(word, line))
              .map((port) => [port, {}]),
          ),
        },
      };
    case 'VOLUME': {
      const paths = json === undefined ? words() : json.map((path) => expandWord(path, scope.variables, scope.escape));
      if (paths.some((path) => path.trim() === ''))
        throw parseError(line, 'VOLUME specified can not be an empty string');
      return { ...config, Volumes: { ...config.Volumes, ...Object.fromEntries(paths.map((path) => [path, {}])) } };
    }
    case 'USER':
      return { ...config, User: expandWord(rest, scope.variables, scope.escape) };
    case 'STOPSIGNAL': {
      const signal = expandWord(rest, scope.variables, scope.escape);
      parseSignal(signal);
      return { ...config, StopSignal: signal };
    }
    case 'SHELL':
      return { ...config, Shell: json! };
    case 'HEALTHCHECK':
      return { ...config, Healthcheck: healthcheck(instruction) };
    case 'ONBUILD':
      return {
        ...config,
        OnBuild: [
          ...(config.OnBuild ?? []),
          [rest.trim(), ...instruction.heredocs.map((each) => each.content + each.name)].join('\n'),
        ],
      };
    case 'MAINTAINER':
      return { ...config };
    default:
      return undefined;
  }
}
