/**
 * Requests of the Dockerfile front end that are no builds: what a Dockerfile's checks find, which targets it has, what
 * a target can be given.
 */
import { messageOf } from '#base/thrown.ts';
import { descriptionOf, shortText, urlOf } from '../dockerfile/lint.ts';
import type { LintWarning } from '../dockerfile/lint.ts';
import type { Outline } from '../dockerfile/outline.ts';
import { descriptionOf as stageDescription } from '../dockerfile/parser.ts';
import type { Dockerfile, Instruction } from '../dockerfile/parser.ts';
import { lineRanges, locationOf as placeOf } from '../llb/location.ts';
import type { SourceText } from '../llb/location.ts';
import { GrpcError, code } from '#grpc/errors.ts';

export interface FrontendSource {
  text: SourceText;
  parse(): Dockerfile;
  /** What checks find, and what made the conversion fail. */
  lint(): Promise<{ warnings: readonly LintWarning[]; error: unknown }>;
  outline(): Promise<Outline>;
}

interface Request {
  description: string;
  options: { name: string; description: string }[];
  metadata: string[];
  answer: (source: FrontendSource) => Promise<Record<string, string>>;
}

const version = '1.0.0';
const requests: Readonly<Record<string, Request>> = {
  'frontend.outline': {
    description: 'List all parameters current build target supports',
    options: [{ name: 'target', description: 'Target build stage' }],
    metadata: ['result.json', 'result.txt'],
    answer: answerOutline,
  },
  'frontend.targets': {
    description: 'List all targets current build supports',
    options: [],
    metadata: ['result.json', 'result.txt'],
    answer: answerTargets,
  },
  'frontend.lint': {
    description: 'Lint a Dockerfile',
    options: [],
    metadata: ['result.json', 'result.txt', 'result.statuscode'],
    answer: answerLint,
  },
  'frontend.subrequests.describe': {
    description: 'List available subrequest types',
    options: [],
    metadata: ['result.json', 'result.txt'],
    answer: answerDescribe,
  },
};

/** A detail that BuildKit's clients know. */
function named(type: string, name: string): { type_url: string; value: Buffer } {
  return { type_url: `github.com/moby/buildkit/errdefs.${type}+json`, value: Buffer.from(JSON.stringify({ name })) };
}

const capabilities = ['inputs', 'subrequests', 'contexts', 'gitquerystring', 'contexts.zstd'];

/** Throws Unimplemented for what a client needs of a front end and this one has not. */
export function checkCapabilities(text: string): void {
  for (const wanted of text.split(',').filter((each) => each !== '')) {
    const name = wanted.split('+')[0] ?? '';
    if (capabilities.some((each) => name === `moby.buildkit.frontend.${each}`)) continue;
    throw new GrpcError(code.unimplemented, `unsupported frontend capability ${name.slice(0, 100)}`, [
      named('FrontendCap', name),
    ]);
  }
}

/** Metadata of the result, as BuildKit's clients print it. Throws Unimplemented for a request that is not answered. */
export async function answerRequest(id: string, source: FrontendSource): Promise<Map<string, Buffer>> {
  const request = Object.hasOwn(requests, id) ? requests[id] : undefined;
  if (request === undefined)
    throw new GrpcError(code.unknown, `unsupported request ${id.slice(0, 100)}`, [named('Subrequest', id)]);
  const answer = await request.answer(source);
  return new Map(Object.entries({ ...answer, version }).map(([name, text]) => [name, Buffer.from(text)]));
}

function locationOf({ line, endLine }: Pick<Instruction, 'line' | 'endLine'>): object {
  return { ranges: lineRanges([{ start: line, end: endLine }]) };
}

/** Columns side by side, `gap` spaces between them. */
function table(rows: readonly (readonly string[])[], gap: number): string {
  const widths: number[] = [];
  for (const row of rows)
    for (const [index, cell] of row.entries()) widths[index] = Math.max(widths[index] ?? 0, cell.length);
  const line = (row: readonly string[]): string =>
    row.map((cell, index) => (index === row.length - 1 ? cell : cell.padEnd((widths[index] ?? 0) + gap))).join('');
  return rows.map((row) => `${line(row)}\n`).join('');
}

async function answerLint({ text, lint }: FrontendSource): Promise<Record<string, string>> {
  const { warnings, error } = await lint();
  const failedAt = lineRanges(placeOf(error)?.ranges ?? []);
  const result = {
    warnings: warnings.map(({ rule, detail, start, end }) => ({
      ruleName: rule,
      description: descriptionOf(rule),
      url: urlOf(rule),
      detail,
      location: locationOf({ line: start, endLine: end }),
    })),
    sources: [{ filename: text.filename, data: text.data.toString('base64'), language: text.language }],
    ...(error === undefined ? {} : { buildError: { message: messageOf(error), location: { ranges: failedAt } } }),
  };
  const failure = error === undefined ? '' : `ERROR: ${messageOf(error)}\n`;
  return {
    'result.json': JSON.stringify(result, undefined, 2),
    'result.txt': warnings.map((warning) => `${shortText(warning)}\n`).join('') + failure,
    'result.statuscode': warnings.length > 0 || error !== undefined ? '1' : '0',
  };
}

async function answerTargets({ text, parse }: FrontendSource): Promise<Record<string, string>> {
  const { stages } = parse();
  const targets = stages.map(({ name = '', base, platform, from }, index) => {
    const description = name === '' ? '' : stageDescription(from.comments, name);
    return {
      ...(name === '' ? {} : { name }),
      ...(index === stages.length - 1 ? { default: true } : {}),
      ...(description === '' ? {} : { description }),
      base,
      ...(platform === undefined ? {} : { platform }),
      location: locationOf(from),
    };
  });
  const rows = targets.map(({ name = '', default: isDefault, description = '' }) => [
    `${name}${isDefault === true ? ' (default)' : ''}`.trim(),
    description,
  ]);
  return {
    'result.json': JSON.stringify({ targets, sources: [text.data.toString('base64')] }, undefined, 2),
    'result.txt': table([['TARGET', 'DESCRIPTION'], ...rows], 1),
  };
}

async function answerOutline({ text, outline }: FrontendSource): Promise<Record<string, string>> {
  const { name, description, args, secrets, agents } = await outline();
  const mounts = (all: typeof secrets): object[] =>
    all.map(({ name: id, isRequired, at }) => ({
      name: id,
      ...(isRequired ? { required: true } : {}),
      location: locationOf(at),
    }));
  const result = {
    ...(name === '' ? {} : { name }),
    ...(description === '' ? {} : { description }),
    args: args.map((arg) => ({
      name: arg.name,
      ...(arg.description === '' ? {} : { description: arg.description }),
      ...(arg.value === '' ? {} : { value: arg.value }),
      location: locationOf(arg.at),
    })),
    secrets: mounts(secrets),
    ssh: mounts(agents),
    sources: [text.data.toString('base64')],
  };
  const head = [['TARGET:', name === '' ? '(default)' : name]];
  if (description !== '') head.push(['DESCRIPTION:', description]);
  const wants = (title: string, all: typeof secrets): string[] =>
    all.length === 0
      ? []
      : [table([[title, 'REQUIRED'], ...all.map((each) => [each.name, each.isRequired ? 'true' : ''])], 3)];
  const parts = [
    ...(name === '' && description === '' ? [] : [table(head, 1)]),
    ...(args.length === 0
      ? []
      : [
          table(
            [['BUILD ARG', 'VALUE', 'DESCRIPTION'], ...args.map((arg) => [arg.name, arg.value, arg.description])],
            3,
          ),
        ]),
    ...wants('SECRET', secrets),
    ...wants('SSH', agents),
  ];
  return {
    'result.json': JSON.stringify(result, undefined, 2),
    'result.txt': parts.map((part) => `${part}\n`).join(''),
  };
}

async function answerDescribe(): Promise<Record<string, string>> {
  const all = Object.entries(requests).map(([name, { description, options, metadata }]) => ({
    name,
    version,
    type: 'rpc',
    description,
    opts: options,
    metadata: metadata.map((each) => ({ name: each })),
  }));
  const rows = all.map(({ name, description }) => [name.replace('frontend.', ''), version, description]);
  return {
    'result.json': JSON.stringify(all, undefined, 2),
    'result.txt': table([['NAME', 'VERSION', 'DESCRIPTION'], ...rows], 1),
  };
}
