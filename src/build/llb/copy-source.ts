/** Where a copy takes its files from: a client's directory, which has an index, or layers, which are mounted. */
import { createReadStream } from 'node:fs';
import { posix } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { TarError } from '#base/tar.ts';
import { readTar } from '#base/tar-read.ts';
import { codeOf } from '#base/thrown.ts';
import type { Content } from '#content/content.ts';
import { RootedDirectory, pathParts } from '#content/safe-path.ts';
import { fsPath, lstatSync, readdirSync } from '#os/named-files.ts';
import { cleanContextPath } from '../context.ts';
import type { BuildContext } from '../context.ts';
import { archiveHeadBytesMax } from '../limits.ts';
import { compilePattern, createIgnoreRules, hasWildcard } from '../patterns.ts';
import type { IgnoreRules } from '../patterns.ts';
import { layersOf } from './output.ts';
import { openView } from './view.ts';
import type { Output } from './output.ts';
import type { SolverContext } from './work.ts';
import type { FileAction } from './vertex.ts';

type CopyFileAction = FileAction & { kind: 'copy' };

/** A source that is not there. Front ends say it in their own words. */
export class SourceMissing extends ApiError {
  readonly path: string;
  /** A pattern that matched nothing. */
  readonly isPattern: boolean;
  constructor(path: string, isPattern: boolean) {
    super(
      'BadRequest',
      `failed to compute cache key: failed to calculate checksum of ref files:: ${JSON.stringify(`/${path}`)}: not found`,
    );
    this.name = 'SourceMissing';
    this.path = path;
    this.isPattern = isPattern;
  }
}

/** What is copied out of one directory. */
export interface SourcePart {
  /** Directory that paths are relative to: the action's source, where patterns choose what is copied out of it. */
  root: string;
  /** What the action's source names, its wildcards expanded. */
  paths: string[];
  /** What of them and below them stays behind. */
  excluded: string[];
}

export interface CopySource {
  /** Files may be linked from here: nobody changes them. */
  canLink: boolean;
  /** Several where the source of patterns has wildcards itself. */
  parts: SourcePart[];
  /** The real path of a file that begins as an archive; undefined for everything else. */
  archive(path: string): Promise<string | undefined>;
  release(): Promise<void>;
}

/** The source and its patterns as paths that are looked for. */
function wantedOf(action: CopyFileAction): string[] {
  const source = cleanContextPath(action.source);
  if (action.include.length === 0) return [source];
  return action.include.map((pattern) => cleanContextPath(`${source}/${pattern}`));
}

function found(action: CopyFileAction, find: (path: string, isPattern: boolean) => string[]): string[] {
  const isAllowed = action.allowsWildcard || action.include.length > 0;
  const out = wantedOf(action).flatMap((path) => {
    const isPattern = isAllowed && hasWildcard(path);
    const paths = find(path, isPattern);
    if (paths.length === 0 && !(isPattern && action.allowsNone)) throw new SourceMissing(path, isPattern);
    return paths;
  });
  return [...new Set(out)];
}

/** A file that begins as a tar archive, compressed or not; its name does not matter. */
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

/** The real path of a file that begins as an archive; undefined for everything else. */
export async function archiveAt(content: Content, root: string, path: string): Promise<string | undefined> {
  const real = new RootedDirectory(root).resolve(pathParts(path));
  if (real === undefined || !lstatSync(real).isFile() || !(await isArchiveFile(content, real))) return undefined;
  return real;
}

function readNames(path: string): string[] {
  return lstatSync(path).isDirectory() ? readdirSync(path) : [];
}

function listBelow(root: string, sources: readonly string[]): string[] {
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
export function expandInRoot(root: string, source: string, isPattern: boolean): string[] {
  const rooted = new RootedDirectory(root);
  if (!isPattern) return rooted.resolve(pathParts(source)) === undefined ? [] : [source === '' ? '.' : source];
  if (source.includes('**')) {
    const pattern = compilePattern(source, { doubleStar: true });
    return listBelow(root, [''])
      .filter((path) => pattern.test(path))
      .sort();
  }
  let paths = [''];
  for (const part of source.split('/')) {
    const pattern = hasWildcard(part) ? compilePattern(part, { doubleStar: false }) : undefined;
    paths = paths.flatMap((base) => {
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
  return paths.sort();
}

function treePaths(tree: BuildContext, action: CopyFileAction): string[] {
  return found(action, (path, isPattern) => tree.expand(path, isPattern));
}

/**
 * What `--exclude` leaves out. Its patterns are about what lies below a source, or below the source of other patterns;
 * a source that is a file is known by its name.
 */
function exclusionsOf({ exclude, include, source }: CopyFileAction, paths: readonly string[]): IgnoreRules | undefined {
  if (exclude.length === 0) return undefined;
  const rules = createIgnoreRules(exclude);
  const whole = cleanContextPath(source);
  const depth = whole === '' ? 0 : whole.split('/').length;
  const sources = new Set(paths.map((path) => cleanContextPath(path)));
  const withinSource = (path: string): string => {
    if (include.length > 0) return path.split('/').slice(depth).join('/');
    if (sources.has(path)) return posix.basename(path);
    for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1))
      if (sources.has(path.slice(0, at))) return path.slice(at + 1);
    return path;
  };
  return { ...rules, ignores: (path) => rules.ignores(withinSource(path)) };
}

/** Content of what is copied out of a client's directory. */
export function treeContentKey(tree: BuildContext, action: CopyFileAction): string {
  const paths = treePaths(tree, action);
  return tree.digest(paths, exclusionsOf(action, paths));
}

/** Throws SourceMissing. */
export async function openCopySource(
  context: SolverContext,
  input: Output,
  action: CopyFileAction,
): Promise<CopySource> {
  const { content } = context;
  /** Sources that stay, and what of what lies below them does not. */
  const excluding = (paths: string[], below: (path: string) => string[]): Pick<SourcePart, 'paths' | 'excluded'> => {
    const rules = exclusionsOf(action, paths);
    if (rules === undefined) return { paths, excluded: [] };
    const inside = new Map(paths.map((path) => [path, below(path)]));
    return {
      paths: paths.filter((path) => inside.get(path)?.length !== 0 || !rules.ignores(cleanContextPath(path))),
      excluded: [...inside.values()].flat().filter((path) => rules.ignores(path)),
    };
  };
  if (input.kind === 'tree') {
    const { tree } = input;
    const { paths, excluded } = excluding(treePaths(tree, action), (path) => tree.below(path));
    const root = await tree.directory();
    const rooted = new RootedDirectory(root);
    // The index does not follow symlinks.
    const missing = paths.find((path) => rooted.resolve(pathParts(path)) === undefined);
    if (missing !== undefined) throw new SourceMissing(cleanContextPath(missing), false);
    return within(content, root, action, {
      paths,
      excluded: [...tree.ignored, ...excluded],
      canLink: true,
      release: async () => {},
    });
  }
  const { root, release } = await openView(context, layersOf(input.steps));
  try {
    const all = found(action, (path, isPattern) => expandInRoot(root, path, isPattern));
    const kept = excluding(all, (path) => listBelow(root, [path]));
    return within(content, root, action, { ...kept, canLink: false, release });
  } catch (error) {
    await release();
    throw error;
  }
}

/** Paths relative to the action's source, where patterns choose what is copied out of it. */
function within(
  content: Content,
  root: string,
  action: CopyFileAction,
  {
    paths,
    excluded,
    canLink,
    release,
  }: Pick<SourcePart, 'paths' | 'excluded'> & Pick<CopySource, 'canLink' | 'release'>,
): CopySource {
  const source = action.include.length === 0 ? '' : cleanContextPath(action.source);
  const depth = source === '' ? 0 : source.split('/').length;
  // With wildcards in it the source is as many directories as it matches.
  const sources = hasWildcard(source)
    ? [...new Set(paths.map((path) => path.split('/').slice(0, depth).join('/')))]
    : [source];
  const parts = sources.map((each): SourcePart => {
    const inner = each === '' ? root : (new RootedDirectory(root).directory(pathParts(each)) ?? root);
    const strip = (all: string[]): string[] =>
      each === '' ? all : all.filter((path) => path.startsWith(`${each}/`)).map((path) => path.slice(each.length + 1));
    return { root: inner, paths: strip(paths), excluded: strip(excluded) };
  });
  return { canLink, parts, archive: (path) => archiveAt(content, parts[0]?.root ?? root, path), release };
}
