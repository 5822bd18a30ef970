/** COPY and ADD as file operations of the graph: sources found, owners resolved, archives and URLs recognised. */
import { createReadStream, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { ApiError } from '#base/errors.ts';
import { decodeQueryName } from '#base/file-names.ts';
import { TarError, readTar } from '#base/tar.ts';
import { codeOf, messageOf } from '#base/thrown.ts';
import type { Content } from '#content/content.ts';
import type { CopyAction, Owner } from '#content/copy.ts';
import type { ImageLayer } from '#content/image-records.ts';
import { RootedDirectory, pathParts } from '#content/safe-path.ts';
import { fsPath, lstatSync, readdirSync } from '#os/named-files.ts';
import type { HttpTransport } from '#content/remote.ts';
import { cleanContextPath } from '../context.ts';
import type { BuildContext } from '../context.ts';
import { layersKey, newContainerId } from '../graph.ts';
import type { FileOp, GraphContext } from '../graph.ts';
import { addedUrlBytesMax, archiveHeadBytesMax } from '../limits.ts';
import { compilePattern, createIgnoreRules, hasWildcard } from '../patterns.ts';
import { parseError } from './lexer.ts';
import type { Heredoc } from './lexer.ts';
import type { Instruction } from './parser.ts';
import { expandRaw, expandWord } from './words.ts';
import type { Scope } from './config.ts';
import { splitWords } from './config.ts';

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

const isUrl = (text: string): boolean => /^https?:\/\//i.test(text);

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

interface Parsed {
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

async function parseCopy(input: CopyInput, instruction: Instruction): Promise<Parsed> {
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

function heredocActions(input: CopyInput, parsed: Parsed): CopyAction[] {
  return parsed.heredocs.map((heredoc) => ({
    kind: 'file',
    target: parsed.target,
    isDirectory: parsed.isDirectory,
    name: heredoc.name,
    mode: parsed.mode ?? 0o644,
    mtimeMs: input.createdAtMs,
    content: heredoc.isQuoted ? heredoc.content : expandRaw(heredoc.content, input.scope.variables, input.scope.escape),
    ...(parsed.owner === undefined ? {} : { owner: parsed.owner }),
  }));
}

interface Download {
  path: string;
  digest: string;
  name: string;
  mtimeMs: number;
}

async function download(input: CopyInput, url: string, checksum: string | undefined): Promise<Download> {
  const { blobs } = input.graph.content;
  const parse = (text: string, base?: URL): URL => {
    try {
      return new URL(text, base);
    } catch {
      throw new ApiError('BadRequest', `ADD failed: invalid URL ${JSON.stringify(text.slice(0, 200))}`);
    }
  };
  let target = parse(url);
  for (let hops = 0; ; hops++) {
    const answer = await input.transport
      .call({ method: 'GET', url: target, signal: input.signal })
      .catch((error: unknown) => {
        throw new ApiError('BadRequest', `ADD failed: ${messageOf(error)}`);
      });
    const status = answer.statusCode ?? 0;
    if (status >= 300 && status < 400 && answer.headers.location !== undefined && hops < 10) {
      answer.resume();
      target = parse(answer.headers.location, target);
      continue;
    }
    if (status !== 200) {
      answer.resume();
      throw new ApiError(
        'BadRequest',
        `ADD failed: failed to GET ${url} with status ${status} ${answer.statusMessage ?? ''}`.trim(),
      );
    }
    const { digest } = await blobs.write(
      answer as AsyncIterable<Uint8Array>,
      checksum === undefined ? {} : { digest: checksum },
      addedUrlBytesMax,
    );
    const last = parse(url).pathname.split('/').pop() ?? '';
    const name = decodeQueryName(last.replaceAll('+', '%2B')) ?? last;
    if (name === '.' || name === '..' || /[/\0]/.test(name))
      throw new ApiError('BadRequest', `ADD failed: ${url} names no file`);
    const modified = Date.parse(answer.headers['last-modified'] ?? '');
    return { path: blobs.path(digest), digest, name, mtimeMs: Number.isFinite(modified) ? modified : 0 };
  }
}

/** Sources out of the context. */
function contextOperation(
  input: CopyInput,
  instruction: Instruction,
  parsed: Parsed,
): { key: unknown; actions: () => Promise<{ actions: CopyAction[]; release: () => Promise<void> }> } {
  const { context } = input;
  if (parsed.sources.length > 0 && context === undefined)
    throw parseError(instruction.line, `${instruction.keyword} failed: no build context`);
  const rules = createIgnoreRules(parsed.exclude);
  const expanded: string[] = [];
  for (const source of parsed.sources) {
    const found = context!.expand(source);
    if (found.length === 0) {
      if (hasWildcard(source))
        throw new ApiError('BadRequest', `${instruction.keyword} failed: no source files were specified`);
      throw new ApiError(
        'BadRequest',
        `${instruction.keyword} failed: file not found in build context or excluded by .dockerignore: stat ${cleanContextPath(source)}: file does not exist`,
      );
    }
    expanded.push(...found);
  }
  const exclude = [
    ...(context?.ignored ?? []),
    ...(parsed.exclude.length === 0
      ? []
      : expanded.flatMap((path) => context!.below(path)).filter((path) => rules.ignores(path))),
  ];
  const isMany = expanded.length > 1;
  if (isMany && !parsed.isDirectory && hasWildcard(parsed.sources.join(' ')))
    throw parseError(
      instruction.line,
      `When using ${instruction.keyword} with more than one source file, the destination must be a directory and end with a /`,
    );
  const owner = parsed.owner ?? { uid: 0, gid: 0 };
  return {
    key: expanded.length === 0 ? '' : context!.digest(expanded, parsed.exclude.length === 0 ? undefined : rules),
    actions: async () => {
      if (expanded.length === 0) return { actions: [], release: async () => {} };
      const directory = await context!.directory();
      const plain: CopyAction = {
        kind: 'copy',
        sourceRoot: directory,
        sources: [],
        target: parsed.target,
        isDirectory: parsed.isDirectory || isMany,
        owner,
        exclude,
        keepsParents: parsed.keepsParents,
        ...(parsed.mode === undefined ? {} : { mode: parsed.mode }),
      };
      if (instruction.keyword === 'COPY' || parsed.unpacks === false)
        return { actions: [{ ...plain, sources: expanded }], release: async () => {} };
      return addLocal(input, plain, directory, expanded);
    },
  };
}

/** ADD unpacks what is an archive; everything else is copied. */
async function addLocal(
  input: CopyInput,
  plain: CopyAction & { kind: 'copy' },
  directory: string,
  sources: string[],
): Promise<{ actions: CopyAction[]; release: () => Promise<void> }> {
  const actions: CopyAction[] = [];
  const scratches: string[] = [];
  const rooted = new RootedDirectory(directory);
  for (const source of sources) {
    const path = rooted.resolve(pathParts(source));
    const isArchive =
      path !== undefined &&
      input.context!.entry(source)?.type !== 'directory' &&
      lstatSync(path).isFile() &&
      (await isArchiveFile(input.graph.content, path));
    if (!isArchive) {
      actions.push({ ...plain, sources: [source] });
      continue;
    }
    const scratch = input.graph.content.blobs.scratchPath();
    scratches.push(scratch);
    await input.graph.content.layers.unpackFile(path, scratch);
    const { owner: _owner, ...rest } = plain;
    actions.push({ ...rest, sourceRoot: scratch, sources: ['.'], exclude: [] });
  }
  return { actions, release: () => removeAll(scratches) };
}

async function removeAll(scratches: string[]): Promise<void> {
  await Promise.all(scratches.map((scratch) => rm(scratch, { recursive: true, force: true })));
}

/**
 * Whether ADD unpacks a file: what it is called does not matter, but that a tar archive begins in it, compressed or
 * not.
 */
async function isArchiveFile(content: Content, path: string): Promise<boolean> {
  try {
    for await (const _entry of readTar(
      await content.decompress(createReadStream(fsPath(path), { highWaterMark: 64 << 10 }), archiveHeadBytesMax),
    ))
      return true;
    return false;
  } catch (error) {
    // An ordinary file, or a compressed one that holds something else; a missing program is told.
    if (error instanceof TarError || codeOf(error)?.startsWith('Z') === true) return false;
    if (error instanceof ApiError && !error.message.includes('is not installed')) return false;
    throw error;
  }
}

export async function copyOperation(input: CopyInput, instruction: Instruction): Promise<FileOp> {
  const parsed = await parseCopy(input, instruction);
  const heredocs = heredocActions(input, parsed);
  const common = {
    target: parsed.target,
    isDirectory: parsed.isDirectory,
    owner: parsed.owner,
    mode: parsed.mode,
    exclude: parsed.exclude,
    keepsParents: parsed.keepsParents,
    ...(parsed.unpacks === undefined ? {} : { unpacks: parsed.unpacks }),
    keyword: instruction.keyword,
    heredocs: heredocs.map((each) => (each.kind === 'file' ? [each.name, each.content] : [])),
  };
  if (input.from !== undefined) return stageOperation(input, instruction, parsed, common);
  const urls = parsed.sources.filter((source) => instruction.keyword === 'ADD' && isUrl(source));
  const checksum = instruction.flags['checksum']?.[0];
  // A checksum is never passed over: it holds for what comes from elsewhere, and for one source.
  if (checksum !== undefined && (urls.length !== 1 || parsed.sources.length !== 1))
    throw new ApiError(
      'BadRequest',
      urls.length === 0
        ? 'checksum is only supported for sources that are URLs'
        : 'checksum requires exactly one source',
    );
  if (urls.length === 0) {
    const { key, actions } = contextOperation(input, instruction, parsed);
    return {
      kind: 'file',
      isLinked: parsed.isLinked,
      key: { ...common, content: key },
      prepare: async () => {
        const made = await actions();
        return { actions: [...made.actions, ...heredocs], release: made.release };
      },
    };
  }
  const downloads = await Promise.all(urls.map((url) => download(input, url, checksum)));
  const local = contextOperation(input, instruction, {
    ...parsed,
    sources: parsed.sources.filter((source) => !urls.includes(source)),
  });
  return {
    kind: 'file',
    isLinked: parsed.isLinked,
    key: { ...common, content: local.key, urls: downloads.map((each) => [each.name, each.digest]) },
    prepare: async () => {
      const made = await local.actions();
      const scratches: string[] = [];
      const fetched = await Promise.all(
        downloads.map(async (each): Promise<CopyAction> => {
          if (parsed.unpacks === true && (await isArchiveFile(input.graph.content, each.path))) {
            const scratch = input.graph.content.blobs.scratchPath();
            scratches.push(scratch);
            await input.graph.content.layers.unpackFile(each.path, scratch);
            return {
              kind: 'copy',
              sourceRoot: scratch,
              sources: ['.'],
              target: parsed.target,
              isDirectory: true,
              ...(parsed.owner === undefined ? {} : { owner: parsed.owner }),
            };
          }
          if (each.name === '' && parsed.isDirectory)
            throw new ApiError('BadRequest', 'ADD failed: cannot determine filename from url');
          const slash = each.path.lastIndexOf('/');
          return {
            kind: 'copy',
            sourceRoot: each.path.slice(0, slash),
            sources: [each.path.slice(slash + 1)],
            target: parsed.isDirectory ? `${parsed.target}/${each.name}` : parsed.target,
            isDirectory: false,
            owner: parsed.owner ?? { uid: 0, gid: 0 },
            mode: parsed.mode ?? 0o600,
          };
        }),
      );
      return {
        actions: [...made.actions, ...fetched, ...heredocs],
        release: async () => {
          await made.release();
          await removeAll(scratches);
        },
      };
    },
  };
}

/** Sources out of a stage or an image. */
function stageOperation(input: CopyInput, instruction: Instruction, parsed: Parsed, common: object): FileOp {
  const layers = input.from!;
  return {
    kind: 'file',
    isLinked: parsed.isLinked,
    key: { ...common, from: layersKey(layers), sources: parsed.sources },
    prepare: async () => {
      const id = `build-${newContainerId(input.graph.random).slice(0, 32)}`;
      const { root } = await input.graph.snapshots.mountReadOnly(id, layers);
      const release = (): Promise<void> => input.graph.snapshots.removeContainerRoot(id);
      try {
        const sources = parsed.sources.flatMap((source) => expandInRoot(root, source));
        if (sources.length === 0 && parsed.heredocs.length === 0)
          throw new ApiError('BadRequest', `${instruction.keyword} failed: no source files were specified`);
        const rules = createIgnoreRules(parsed.exclude);
        const exclude =
          parsed.exclude.length === 0 ? [] : listBelow(root, sources).filter((path) => rules.ignores(path));
        return {
          actions: [
            {
              kind: 'copy',
              sourceRoot: root,
              sources,
              target: parsed.target,
              isDirectory: parsed.isDirectory || sources.length > 1,
              exclude,
              keepsParents: parsed.keepsParents,
              ...(parsed.owner === undefined ? {} : { owner: parsed.owner }),
              ...(parsed.mode === undefined ? {} : { mode: parsed.mode }),
            },
          ],
          release,
        };
      } catch (error) {
        await release();
        throw error;
      }
    },
  };
}

function readNames(path: string): string[] {
  return lstatSync(path).isDirectory() ? readdirSync(path) : [];
}

function listBelow(root: string, sources: string[]): string[] {
  const rooted = new RootedDirectory(root);
  const out: string[] = [];
  const visit = (path: string, relative: string, depth: number): void => {
    for (const name of readNames(path)) {
      const child = relative === '' ? name : `${relative}/${name}`;
      out.push(child);
      if (depth < 64) visit(`${path}/${name}`, child, depth + 1);
    }
  };
  for (const source of sources) {
    const path = rooted.resolve(pathParts(source));
    if (path !== undefined) visit(path, pathParts(source).join('/'), 0);
  }
  return out;
}

/** Wildcards in a mounted root, one component at a time. */
function expandInRoot(root: string, source: string): string[] {
  const clean = cleanContextPath(source);
  if (!hasWildcard(source)) return [clean === '' ? '.' : clean];
  const rooted = new RootedDirectory(root);
  let found = [''];
  for (const part of clean.split('/')) {
    const pattern = hasWildcard(part) ? compilePattern(part, { doubleStar: false }) : undefined;
    found = found.flatMap((base) => {
      if (pattern === undefined) {
        const next = base === '' ? part : `${base}/${part}`;
        return rooted.resolve(pathParts(next)) === undefined ? [] : [next];
      }
      const directory = rooted.resolve(pathParts(base));
      return directory === undefined
        ? []
        : readNames(directory)
            .filter((name) => pattern.test(name))
            .map((name) => (base === '' ? name : `${base}/${name}`));
    });
  }
  return found.sort();
}
