/**
 * Tiphys' own program as a machine keeps it: all files that it needs to run, Node and libraries too, in
 * `DATA/programs/ID`. The id is the digest of what is in it, so that machines which keep the same id run the same.
 * Files that two kept programs have in common are links of one; nobody writes to them.
 *
 * `ID.json` beside the directory lists the files, and is written last: a program without it is not whole.
 */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  linkSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { codeOf } from '#base/thrown.ts';
import { fieldOf, isObject, itemsOf, textOf } from '#base/unknown.ts';
import { fileSystemAt, listDirectory, readIfExists, writeFileAtomic } from '#os/files.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { programBytesMax, programFilesMax, programRoomBytes } from '../limits.ts';
import { files, makeDirectory, packageRoot, privateMode, type Paths } from '../paths.ts';
import { keptId, kubernetesVersion, programIdPattern, tiphysVersion } from '../version.ts';

interface ProgramFile {
  /** Below the program's top. */
  path: string;
  sha256: string;
  bytes: number;
  isExecutable: boolean;
}

export interface Program {
  id: string;
  /** Of Tiphys. */
  version: string;
  /** Of the API; empty where another version of Tiphys kept it, which does not say. */
  kubernetesVersion: string;
  files: ProgramFile[];
}

const pathPattern = /^(?:[\w@+.-]+\/)*[\w@+.-]+$/;

/** How people are told of it. */
export function describeProgram({ version, id }: Pick<Program, 'version' | 'id'>): string {
  return `${version} (${id})`;
}

function digestOf(all: readonly ProgramFile[]): string {
  const lines = all.map(({ path, sha256, isExecutable }) => `${sha256} ${isExecutable ? 'x' : '-'} ${path}\n`).sort();
  return createHash('sha256').update(lines.join('')).digest('hex').slice(0, 16);
}

/** Throws BadRequest where a list is none, names files outside, or is not that of the id. */
export function readProgram(id: string, value: unknown): Program {
  const list = itemsOf(fieldOf(value, 'files')).map((each): ProgramFile => {
    const [path = '', sha256 = ''] = [textOf(each, 'path'), textOf(each, 'sha256')];
    const bytes = Number(fieldOf(each, 'bytes') ?? -1);
    return { path, sha256, bytes, isExecutable: fieldOf(each, 'isExecutable') === true };
  });
  const isSound = ({ path, sha256, bytes }: ProgramFile): boolean =>
    pathPattern.test(path) &&
    !path.split('/').some((name) => name === '..' || name === '.') &&
    /^[0-9a-f]{64}$/.test(sha256) &&
    bytes >= 0;
  if (
    !programIdPattern.test(id) ||
    list.length > programFilesMax ||
    !list.every(isSound) ||
    sizeOf(list) > programBytesMax ||
    digestOf(list) !== id
  )
    throw new ApiError('BadRequest', `what is said of program ${id} is damaged`);
  const [version = '', kubernetes = ''] = [textOf(value, 'version'), textOf(value, 'kubernetesVersion')];
  return { id, version, kubernetesVersion: kubernetes, files: list };
}

function sizeOf(list: readonly ProgramFile[]): number {
  return list.reduce((sum, { bytes }) => sum + bytes, 0);
}

export function rootOf(paths: Paths, id: string): string {
  return join(files.programs(paths), id);
}

const listOf = (paths: Paths, id: string): string => join(files.programs(paths), `${id}.json`);

/** Undefined where it is not kept here, or not whole. */
export function findProgram(paths: Paths, id: string): Program | undefined {
  const text = programIdPattern.test(id) ? readIfExists(listOf(paths, id)) : undefined;
  if (text === undefined || !existsSync(rootOf(paths, id))) return undefined;
  return readProgram(id, JSON.parse(text));
}

export function keptPrograms(paths: Paths): Program[] {
  return listDirectory(files.programs(paths)).flatMap((name) => findProgram(paths, name) ?? []);
}

/** What takes the content of a file to a place; `path` is that in the program. */
type Bring = (file: ProgramFile, target: string) => Promise<void>;

/** Makes a program whole on this machine; at once where it is. */
export async function storeProgram(paths: Paths, program: Program, bring: Bring): Promise<void> {
  if (findProgram(paths, program.id) !== undefined) return;
  makeDirectory(files.programs(paths), privateMode);
  const here = new Map(
    keptPrograms(paths).flatMap(({ id, files: list }) =>
      list.map((file) => [`${file.sha256} ${file.isExecutable}`, join(rootOf(paths, id), file.path)] as const),
    ),
  );
  const missing = program.files.filter((file) => !here.has(`${file.sha256} ${file.isExecutable}`));
  const [wanted, free] = [sizeOf(missing), fileSystemAt(files.programs(paths)).availableBytes];
  if (wanted + programRoomBytes > free) throw noRoom(paths, wanted);
  const made = join(files.programs(paths), `new-${program.id}`);
  rmSync(made, { recursive: true, force: true });
  try {
    for (const file of program.files) {
      const target = join(made, file.path);
      makeDirectory(dirname(target), 0o755);
      const same = here.get(`${file.sha256} ${file.isExecutable}`);
      if (same !== undefined) linkSync(same, target);
      else {
        await bring(file, target);
        chmodSync(target, file.isExecutable ? 0o755 : 0o644);
      }
    }
    // Whole on disk before anybody is told of it.
    const synced = await linuxProcesses.run('sync', ['-f', made]);
    if (synced.code !== 0) throw new Error(`sync: ${synced.stderr.trim()}`);
    rmSync(rootOf(paths, program.id), { recursive: true, force: true });
    renameSync(made, rootOf(paths, program.id));
    writeFileAtomic(listOf(paths, program.id), JSON.stringify(program), { sync: true });
  } catch (error) {
    rmSync(made, { recursive: true, force: true });
    if (codeOf(error) === 'ENOSPC') throw noRoom(paths, wanted);
    throw error;
  }
}

function noRoom(paths: Paths, wanted: number): ApiError {
  return new ApiError(
    'InternalError',
    `the disk of ${files.programs(paths)} has no room for another program (${Math.ceil((wanted + programRoomBytes) / 1e6)} MB): make room, then run it again`,
  );
}

/** Removes all but these. */
export function keepOnly(paths: Paths, ids: readonly (string | undefined)[]): void {
  for (const name of listDirectory(files.programs(paths))) {
    if (ids.includes(name.replace(/\.json$/, ''))) continue;
    rmSync(join(files.programs(paths), name), { recursive: true, force: true });
  }
}

/** Keeps the program of a checkout or of a package, as it is now. Answers it. */
export async function keepProgram(paths: Paths, root: string): Promise<Program> {
  const kept = keptId(root);
  const found = kept === undefined ? undefined : findProgram(paths, kept);
  if (found !== undefined) return found;
  const sources = sourcesOf(root);
  if (sources.size > programFilesMax) throw new ApiError('BadRequest', `${root} has too many files for a program`);
  const list: ProgramFile[] = [];
  for (const [path, source] of sources) {
    const { size, mode } = lstatSync(source);
    list.push({ path, sha256: hashOf(source), bytes: size, isExecutable: (mode & 0o100) !== 0 });
  }
  const isOwn = root === packageRoot;
  const program: Program = {
    id: digestOf(list),
    version: isOwn ? tiphysVersion() : versionIn(root),
    kubernetesVersion: isOwn ? kubernetesVersion : '',
    files: list,
  };
  await storeProgram(paths, program, (file, target) => {
    copyFileSync(sources.get(file.path) ?? '', target, constants.COPYFILE_FICLONE);
    return Promise.resolve();
  });
  return program;
}

/** At once, not piece by piece in turns: on a busy machine each turn is waited for, and nothing else is to be done. */
function hashOf(path: string): string {
  const hash = createHash('sha256');
  const piece = Buffer.alloc(1 << 20);
  const descriptor = openSync(path, 'r');
  try {
    for (let count = 1; count > 0;) {
      count = readSync(descriptor, piece);
      hash.update(piece.subarray(0, count));
    }
  } finally {
    closeSync(descriptor);
  }
  return hash.digest('hex');
}

interface Manifest {
  version: string;
  dependencies: string[];
}

function manifestOf(root: string): Manifest {
  const value: unknown = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const names = (field: string): string[] => {
    const found = fieldOf(value, field);
    return isObject(found) ? Object.keys(found) : [];
  };
  return {
    version: textOf(value, 'version') ?? '',
    dependencies: [...names('dependencies'), ...names('optionalDependencies')],
  };
}

function versionIn(root: string): string {
  return manifestOf(root).version;
}

/** What of a checkout or package is a part of the program that runs. */
const ownEntries = ['tiphys', 'package.json', 'LICENSE', 'examples', 'src', 'dist'];
/** Of the package that brings Node the headers are larger than the program. */
const nodeEntries = ['package.json', 'LICENSE', 'bin/node'];

/** Paths in the program, and where each file lies now. */
function sourcesOf(root: string): Map<string, string> {
  const found = new Map<string, string>();
  const add = (source: string, target: string): void => {
    const stat = lstatSync(source, { throwIfNoEntry: false });
    if (stat?.isFile() === true && !/\.test\.[jt]s$/.test(source)) found.set(target, source);
    if (stat?.isDirectory() !== true) return;
    for (const name of readdirSync(source).filter((each) => each !== '.cache' && each !== '.bin'))
      add(join(source, name), join(target, name));
  };
  for (const entry of ownEntries) add(join(root, entry), entry);
  for (const [target, source] of packagesOf(root))
    for (const entry of basename(source).startsWith('node-linux-') ? nodeEntries : ['.'])
      add(join(source, entry), join(target, entry));
  return found;
}

/** Places in the program of all packages that are needed to run, and where they lie: Node's own way to find them. */
function packagesOf(root: string): Map<string, string> {
  const found = new Map<string, string>();
  const visited = new Set<string>();
  const visit = (from: string): void => {
    if (visited.has(from)) return;
    visited.add(from);
    for (const name of manifestOf(from).dependencies) {
      const at = findPackage(from, name);
      // Optional ones are for other machines.
      if (at === undefined) continue;
      const isWithin = [...found.values()].some((parent) => !relative(parent, at).startsWith('..'));
      if (!isWithin) found.set(join('node_modules', name), at);
      visit(at);
    }
  };
  visit(root);
  return found;
}

function findPackage(from: string, name: string): string | undefined {
  for (let at = from; ; at = dirname(at)) {
    const candidate = join(at, 'node_modules', name);
    if (existsSync(join(candidate, 'package.json'))) return candidate;
    if (at === dirname(at)) return undefined;
  }
}

/** Takes what another machine has sent; throws where it is not what the program says. */
export function checkFile({ path, sha256 }: ProgramFile, target: string): void {
  if (hashOf(target) !== sha256) throw new ApiError('BadRequest', `${path} did not come as it is`);
}
