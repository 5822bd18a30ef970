/** What a COPY or ADD says: its sources, target, owner (by the names of the stage it copies into) and mode. */
import { readFileSync } from 'node:fs';
import type { Owner } from '#content/copy.ts';
import type { ImageLayer } from '#content/image-records.ts';
import type { HttpTransport } from '#content/remote.ts';
import { RootedDirectory, pathParts } from '#content/safe-path.ts';
import { fsPath } from '#os/named-files.ts';
import type { BuildContext } from '../context.ts';
import { newContainerId } from '../graph.ts';
import type { GraphContext } from '../graph.ts';
import { splitWords } from './config.ts';
import type { Scope } from './config.ts';
import { parseError } from './lexer.ts';
import type { Heredoc } from './lexer.ts';
import type { Instruction } from './parser.ts';
import { expandWord } from './words.ts';

export interface CopyInput {
  graph: GraphContext;
  transport: HttpTransport;
  context: BuildContext | undefined;
  /** Layers of the stage or image that `--from` names. */
  from: ImageLayer[] | undefined;
  /** Layers of the stage being built: names in `--chown` are looked up in its files. */
  layers: ImageLayer[];
  workingDir: string;
  scope: Scope;
  createdAtMs: number;
  signal: AbortSignal;
}

export const isUrl = (text: string): boolean => /^https?:\/\//i.test(text);

/** Runs `read` with the files of these layers mounted. */
async function withRoot<T>(
  graph: GraphContext,
  layers: ImageLayer[],
  read: (root: string) => T | Promise<T>,
): Promise<T> {
  const id = `build-${newContainerId(graph.random).slice(0, 32)}`;
  const { root } = await graph.snapshots.mountReadOnly(id, layers);
  try {
    return await read(root);
  } finally {
    await graph.snapshots.removeContainerRoot(id);
  }
}

function lookUp(root: string, file: string, name: string, column: number): number | undefined {
  const path = new RootedDirectory(root).resolve(pathParts(file));
  if (path === undefined) return undefined;
  for (const line of readFileSync(fsPath(path), 'utf8').split('\n')) {
    const fields = line.split(':');
    if (fields[0] === name) return Number(fields[column]);
  }
  return undefined;
}

/** `user[:group]` by number or by the names of the root's own files. */
async function resolveOwner(input: CopyInput, text: string, line: number): Promise<Owner> {
  const [user = '', group] = text.split(':');
  const isNumber = (each: string | undefined): boolean => each !== undefined && /^\d{1,10}$/.test(each);
  if (isNumber(user) && (group === undefined || isNumber(group)))
    return { uid: Number(user), gid: Number(group ?? user) };
  return withRoot(input.graph, input.layers, (root) => {
    const uid = isNumber(user) ? Number(user) : lookUp(root, '/etc/passwd', user, 2);
    if (uid === undefined)
      throw parseError(
        line,
        `unable to convert uid/gid chown string to host mapping: can't find uid for user ${user}: no such user: ${user}`,
      );
    const gid =
      group === undefined
        ? isNumber(user)
          ? uid
          : lookUp(root, '/etc/passwd', user, 3)
        : isNumber(group)
          ? Number(group)
          : lookUp(root, '/etc/group', group, 2);
    if (gid === undefined)
      throw parseError(
        line,
        `unable to convert uid/gid chown string to host mapping: can't find gid for group ${group ?? user}: no such group: ${group ?? user}`,
      );
    return { uid, gid };
  });
}

function parseMode(text: string | undefined, line: number): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[0-7]{3,5}$/.test(text))
    throw parseError(line, `invalid chmod parameter: '${text}'. it should be octal string and between 0 and 07777`);
  return Number.parseInt(text, 8) & 0o7777;
}

export interface ParsedCopy {
  sources: string[];
  heredocs: Heredoc[];
  target: string;
  isDirectory: boolean;
  owner: Owner | undefined;
  mode: number | undefined;
  exclude: string[];
  isLinked: boolean;
  keepsParents: boolean;
  /** `--unpack`: of files of the context yes, of what is fetched no, unless it says otherwise. */ unpacks:
    | boolean
    | undefined;
}

export async function parseCopy(input: CopyInput, instruction: Instruction): Promise<ParsedCopy> {
  const { scope } = input;
  const { flags, line, keyword } = instruction;
  const words = (instruction.json ?? splitWords(instruction.rest, scope.escape)).map((word) =>
    word.includes('<<') && instruction.heredocs.length > 0 ? word : expandWord(word, scope.variables, scope.escape),
  );
  const target = words.pop()!;
  const isHeredoc = (word: string): boolean => /^\d*<<-?/.test(word);
  const sources = words.filter((word) => !isHeredoc(word));
  const count = sources.length + instruction.heredocs.length;
  const isDirectory = target.endsWith('/') || target === '.' || target.endsWith('/.');
  if (count > 1 && !isDirectory)
    throw parseError(
      line,
      `When using ${keyword} with more than one source file, the destination must be a directory and end with a /`,
    );
  const chown = flags['chown']?.[0];
  const owner =
    chown === undefined ? undefined : await resolveOwner(input, expandWord(chown, scope.variables, scope.escape), line);
  const chmod = flags['chmod']?.[0];
  const mode = parseMode(chmod === undefined ? undefined : expandWord(chmod, scope.variables, scope.escape), line);
  return {
    sources,
    heredocs: instruction.heredocs,
    target: target.startsWith('/') ? target : `${input.workingDir === '' ? '/' : input.workingDir}/${target}`,
    isDirectory,
    owner,
    mode,
    exclude: (flags['exclude'] ?? []).map((each) => expandWord(each, scope.variables, scope.escape)),
    isLinked: flags['link']?.[0] === 'true',
    keepsParents: flags['parents']?.[0] === 'true',
    unpacks: flags['unpack'] === undefined ? undefined : flags['unpack'][0] === 'true',
  };
}
