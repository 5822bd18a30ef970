/**
 * COPY and ADD as file operations: one action for each source, which is a path of the context, of another stage or
 * image, a URL, a git repository, or text that stands in the Dockerfile itself.
 */
import { posix } from 'node:path';
import { isModeText } from '#base/file-mode.ts';
import { decodeQueryName, encodeFileName } from '#base/file-names.ts';
import { ApiError } from '#base/errors.ts';
import { makeVertex } from '../llb/codec.ts';
import { plainCopy } from '../llb/vertex-parts.ts';
import { gitSource, isGitUrl } from '../git-url.ts';
import type { Edge, FileAction, OwnerRef, UserRef } from '../llb/vertex.ts';
import type { VertexOptions } from '../llb/codec.ts';
import { splitWords } from './config.ts';
import type { Scope } from './config.ts';
import { parseError } from './lexer.ts';
import type { Heredoc } from './lexer.ts';
import type { Instruction } from './parser.ts';
import { expandRaw, expandWord } from './words.ts';

export interface CopyInput {
  /** What is copied into; undefined: nothing yet. */
  base: Edge | undefined;
  /** Files of the stage, image or context that `--from` names, or of the build context without it. */
  from: () => Promise<Edge | undefined>;
  workingDir: string;
  scope: Scope;
  vertex: VertexOptions;
  /** A pattern that matches nothing is an error, as in the classic builder. */
  isStrict: boolean;
  hasGitAdvice: boolean;
  /** Of files whose text the Dockerfile holds; undefined: when they are made. */
  createdAtMs: number | undefined;
}

interface CopyWords {
  sources: string[];
  heredocs: Heredoc[];
  target: string;
  owner: OwnerRef | undefined;
  mode: { mode?: number; modeText: string };
  exclude: string[];
}

const isUrl = (text: string): boolean => /^https?:\/\//i.test(text);

function parseMode(text: string | undefined, line: number): CopyWords['mode'] {
  if (text === undefined || text === '') return { modeText: '' };
  if (/^[0-7]{1,10}$/.test(text) && Number.parseInt(text, 8) <= 0o7777)
    return { mode: Number.parseInt(text, 8), modeText: '' };
  if (isModeText(text)) return { modeText: text };
  throw parseError(line, `invalid chmod parameter: '${text}'. it should be octal string and between 0 and 07777`);
}

export function parseOwner(text: string | undefined): OwnerRef | undefined {
  if (text === undefined) return undefined;
  const refOf = (word: string): UserRef => (/^\d{1,10}$/.test(word) ? { id: Number(word) } : { name: word });
  const [user = '', group] = text.split(':');
  return { user: refOf(user), ...(group === undefined || group === '' ? {} : { group: refOf(group) }) };
}

function parseWords(input: CopyInput, instruction: Instruction): CopyWords {
  const { scope } = input;
  const { flags, line, keyword, heredocs } = instruction;
  const expand = (word: string): string => expandWord(word, scope.variables, scope.escape);
  const words = (instruction.json ?? splitWords(instruction.rest, scope.escape)).map((word) =>
    word.includes('<<') && heredocs.length > 0 ? word : expand(word),
  );
  const target = words.pop() ?? '';
  const sources = words.filter((word) => !/^\d*<<-?/.test(word));
  const isDirectory = /(?:^|\/)\.?$/.test(target);
  if (sources.length + heredocs.length > 1 && !isDirectory)
    throw parseError(
      line,
      `When using ${keyword} with more than one source file, the destination must be a directory and end with a /`,
    );
  const flag = (name: string): string | undefined => {
    const text = flags[name]?.[0];
    return text === undefined ? undefined : expand(text);
  };
  const whole = posix.resolve('/', input.workingDir, target);
  return {
    sources,
    heredocs,
    target: isDirectory && whole !== '/' ? `${whole}/` : whole,
    owner: parseOwner(flag('chown')),
    mode: parseMode(flag('chmod'), line),
    exclude: (flags['exclude'] ?? []).map(expand),
  };
}

/** Sources of the build context, expanded. */
export function copySources(instruction: Instruction, scope: Scope): string[] {
  const isAdd = instruction.keyword === 'ADD';
  const words = (instruction.json ?? splitWords(instruction.rest, scope.escape)).slice(0, -1);
  return words
    .filter((word) => !/^\d*<<-?/.test(word))
    .map((word) => expandWord(word, scope.variables, scope.escape))
    .filter((word) => !isAdd || !(isUrl(word) || isGitUrl(word)));
}

/** The file operation under construction. */
class CopyBuilder {
  readonly #input: CopyInput;
  readonly #instruction: Instruction;
  readonly #words: CopyWords;
  readonly #inputs: Edge[] = [];
  readonly #actions: FileAction[] = [];
  readonly #isLinked: boolean;
  #last: number | undefined;

  constructor(input: CopyInput, instruction: Instruction, words: CopyWords) {
    this.#input = input;
    this.#instruction = instruction;
    this.#words = words;
    this.#isLinked = instruction.flags['link']?.[0] === 'true';
    // Known from the start: actions are counted after the inputs.
    if (input.base !== undefined && !this.#isLinked) this.#last = this.#inputOf(input.base);
  }

  #inputOf(edge: Edge): number {
    const at = this.#inputs.findIndex((each) => each.vertex === edge.vertex && each.output === edge.output);
    return at >= 0 ? at : this.#inputs.push(edge) - 1;
  }

  /** Names of owners are those of what is copied into, also where the copy is linked. */
  #owner(): { owner?: OwnerRef } {
    const { owner } = this.#words;
    const { base } = this.#input;
    if (owner === undefined) return {};
    if (!this.#isLinked || base === undefined) return { owner };
    const within = (ref: UserRef): UserRef => ('name' in ref ? { ...ref, input: this.#inputOf(base) } : ref);
    const { user, group } = owner;
    return {
      owner: {
        ...(user === undefined ? {} : { user: within(user) }),
        ...(group === undefined ? {} : { group: within(group) }),
      },
    };
  }

  #copy(from: Edge | undefined, source: string, more: Partial<FileAction & { kind: 'copy' }> = {}): void {
    const { exclude, target, mode } = this.#words;
    this.#actions.push({
      ...plainCopy,
      ...(from === undefined ? {} : { from: this.#inputOf(from) }),
      source,
      target,
      ...mode,
      allowsWildcard: true,
      allowsNone: !this.#input.isStrict,
      exclude,
      ...this.#owner(),
      ...more,
    });
  }

  #checksum(): string | undefined {
    const { scope } = this.#input;
    const text = this.#instruction.flags['checksum']?.[0];
    return text === undefined ? undefined : expandWord(text, scope.variables, scope.escape);
  }

  async path(source: string): Promise<void> {
    const { flags, keyword, line } = this.#instruction;
    const from = await this.#input.from();
    if (from === undefined && flags['from'] === undefined && this.#input.isStrict)
      throw parseError(line, `${keyword} failed: no build context`);
    const unpacks = keyword === 'ADD' && flags['unpack']?.[0] !== 'false';
    if (flags['parents']?.[0] !== 'true') {
      this.#copy(from, source, { unpacks });
      return;
    }
    // What stands before `/./` is not kept.
    const [, before = '', kept = source] = /^(.*?)\/\.\/(.*)$/.exec(source.replace(/^\.\//, '')) ?? [];
    this.#copy(from, before === '' ? '/' : before, { include: [kept.replace(/^\/+/, '')] });
  }

  url(url: string): void {
    const { flags } = this.#instruction;
    const { isStrict } = this.#input;
    const last = URL.parse(url)?.pathname.split('/').pop();
    let name = last === undefined ? '' : (decodeQueryName(last.replaceAll('+', '%2B')) ?? last);
    const isName = name !== '.' && name !== '..' && !/[/\0]/.test(name);
    if (isStrict && last === undefined)
      throw new ApiError('BadRequest', `ADD failed: invalid URL ${JSON.stringify(url.slice(0, 200))}`);
    if (isStrict && !isName) throw new ApiError('BadRequest', `ADD failed: ${url} names no file`);
    if (isStrict && name === '' && this.#words.target.endsWith('/'))
      throw new ApiError('BadRequest', 'ADD failed: cannot determine filename from url');
    if (!isName) name = '';
    const checksum = this.#checksum();
    const unnamed = isStrict ? 'index' : '__unnamed__';
    const attributes = {
      'http.filename': name === '' ? unnamed : name,
      'http.perm': '600',
      ...(checksum === undefined ? {} : { 'http.checksum': checksum }),
    };
    const { vertex } = this.#input;
    const source = makeVertex({ kind: 'source', identifier: url, attributes }, [], { ...vertex, name: url });
    this.#copy({ vertex: source, output: 0 }, `/${attributes['http.filename']}`, {
      allowsWildcard: false,
      unpacks: flags['unpack']?.[0] === 'true',
    });
  }

  repository(url: string): void {
    const { flags } = this.#instruction;
    const checksum = this.#checksum();
    const op = gitSource(url, {
      ...(this.#input.hasGitAdvice ? { 'git.advice': 'true' } : {}),
      ...(flags['keep-git-dir']?.[0] === 'true' ? { 'git.keepgitdir': 'true' } : {}),
      ...(checksum === undefined ? {} : { 'git.checksum': checksum }),
    });
    const source = makeVertex(op, [], { ...this.#input.vertex, name: url });
    this.#copy({ vertex: source, output: 0 }, '/', { allowsWildcard: false });
  }

  vertex(): Edge {
    const { base, vertex: about, scope, createdAtMs } = this.#input;
    const { heredocs, target, mode } = this.#words;
    const time = createdAtMs === undefined ? {} : { timestampNs: createdAtMs * 1e6 };
    for (const heredoc of heredocs) {
      const text = heredoc.isQuoted ? heredoc.content : expandRaw(heredoc.content, scope.variables);
      const data = Buffer.from(encodeFileName(text));
      this.#actions.push({ kind: 'makeFile', path: `/${heredoc.name}`, mode: mode.mode ?? 0o644, data, ...time });
      this.#copy(undefined, `/${heredoc.name}`, { allowsWildcard: false, target });
    }
    const count = this.#inputs.length;
    const actions = this.#actions.map((action, index): FileAction => {
      if (action.kind === 'makeFile') return action;
      const made = this.#actions[index - 1]?.kind === 'makeFile' ? { from: count + index - 1 } : {};
      const placed = { ...action, ...made, ...(this.#last === undefined ? {} : { input: this.#last }) };
      this.#last = count + index;
      return placed;
    });
    const end = actions.pop();
    if (end !== undefined) actions.push({ ...end, output: 0 });
    const copied: Edge = { vertex: makeVertex({ kind: 'file', actions }, this.#inputs, about), output: 0 };
    if (!this.#isLinked || base === undefined) return copied;
    return {
      vertex: makeVertex({ kind: 'merge' }, [base, copied], { ...about, name: `merge ${about.name}` }),
      output: 0,
    };
  }
}

function checkChecksum(instruction: Instruction, words: CopyWords, fetched: number): void {
  // A checksum is never passed over: it holds for what comes from elsewhere, and for one source.
  if (instruction.flags['checksum'] === undefined || (fetched === 1 && words.sources.length === 1)) return;
  throw new ApiError(
    'BadRequest',
    fetched === 0 ? 'checksum is only supported for sources that are URLs' : 'checksum requires exactly one source',
  );
}

/** The stage's files with what the instruction copies. Throws BadRequest for what is written wrongly. */
export async function copyVertex(input: CopyInput, instruction: Instruction): Promise<Edge> {
  const words = parseWords(input, instruction);
  const isAdd = instruction.keyword === 'ADD';
  const isFetched = (source: string): boolean => isAdd && (isUrl(source) || isGitUrl(source));
  checkChecksum(instruction, words, words.sources.filter(isFetched).length);
  const builder = new CopyBuilder(input, instruction, words);
  for (const source of words.sources) {
    if (isAdd && isGitUrl(source)) builder.repository(source);
    else if (isAdd && isUrl(source)) builder.url(source);
    else await builder.path(source);
  }
  return builder.vertex();
}
