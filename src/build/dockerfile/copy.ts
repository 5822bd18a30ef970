/** COPY and ADD as file operations of the graph: sources found, owners resolved, archives and URLs recognised. */
import { createReadStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { ApiError } from '#base/errors.ts';
import { TarError } from '#base/tar.ts';
import { readTar } from '#base/tar-read.ts';
import { codeOf } from '#base/thrown.ts';
import type { Content } from '#content/content.ts';
import type { CopyAction } from '#content/copy.ts';
import { RootedDirectory, pathParts } from '#content/safe-path.ts';
import { fsPath, lstatSync, readdirSync } from '#os/named-files.ts';
import { copyKey, layersKey } from '../cache-keys.ts';
import type { CopyPlan } from '../cache-keys.ts';
import { cleanContextPath } from '../context.ts';
import { newContainerId } from '../graph.ts';
import { archiveHeadBytesMax } from '../limits.ts';
import type { FileOp } from '../operations.ts';
import { compilePattern, createIgnoreRules, hasWildcard } from '../patterns.ts';
import { download } from './add-url.ts';
import { isUrl, parseCopy } from './copy-instruction.ts';
import type { CopyInput, ParsedCopy } from './copy-instruction.ts';
import { parseError } from './lexer.ts';
import type { Instruction } from './parser.ts';
import { expandRaw } from './words.ts';

function heredocActions(input: CopyInput, parsed: ParsedCopy): CopyAction[] {
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

/** Sources out of the context. */
function contextOperation(
  input: CopyInput,
  instruction: Instruction,
  parsed: ParsedCopy,
): { key: string; actions: () => Promise<{ actions: CopyAction[]; release: () => Promise<void> }> } {
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
  const plan: CopyPlan = {
    target: parsed.target,
    isDirectory: parsed.isDirectory,
    owner: parsed.owner,
    mode: parsed.mode,
    exclude: parsed.exclude,
    keepsParents: parsed.keepsParents,
    unpacks: parsed.unpacks,
    keyword: instruction.keyword,
    heredocs: heredocs.map((each) => (each.kind === 'file' ? [each.name, each.content] : [])),
  };
  if (input.from !== undefined) return stageOperation(input, instruction, parsed, plan);
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
      key: copyKey(plan, { content: key }),
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
    key: copyKey(plan, { content: local.key, urls: downloads.map((each) => [each.name, each.digest]) }),
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
function stageOperation(input: CopyInput, instruction: Instruction, parsed: ParsedCopy, plan: CopyPlan): FileOp {
  const layers = input.from!;
  return {
    kind: 'file',
    isLinked: parsed.isLinked,
    key: copyKey(plan, { from: layersKey(layers), sources: parsed.sources }),
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
