/**
 * Writes the files of a volume the way Kubernetes does it ("atomic writer"): a dated directory, and a link `..data`
 * that is swapped by rename, so that a reader sees all of the old content or all of the new.
 */
import {
  chmod,
  chown,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { codeOf } from '#base/thrown.ts';

export interface ProjectedFile {
  path: string;
  content: Buffer;
  mode: number;
  /** Owner of a token that only one user may read; else root. */ uid?: number;
}

/**
 * What a group is given on read-only volumes of its Pod, as the kubelet does: files to read, directories to enter, and
 * what is made there stays the group's.
 */
const groupReads = { file: 0o440, directory: 0o2550 };

export async function writeAtomically(
  directory: string,
  files: ProjectedFile[],
  fsGroup: number | undefined,
  nowMs: number,
): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o755 });
  // There is no link before the first time.
  const current = await readlink(join(directory, '..data')).catch(() => undefined);
  if (current !== undefined && (await sameContent(join(directory, current), files))) return;
  const time = new Date(nowMs).toISOString().replace(/[-:T]/g, '_').replace('Z', '');
  const target = await mkdtemp(join(directory, `..${time}.`));
  await chmod(target, 0o755);
  const stamp = basename(target);
  for (const file of files) {
    const path = join(target, file.path);
    await mkdir(dirname(path), { recursive: true, mode: 0o755 });
    await writeFile(path, file.content, { mode: 0o600 });
    // The owner first: a change of it takes set-id bits away.
    if (file.uid !== undefined || fsGroup !== undefined) await chown(path, file.uid ?? 0, fsGroup ?? 0);
    await chmod(path, fsGroup === undefined ? file.mode : file.mode | groupReads.file);
  }
  if (fsGroup !== undefined)
    for (const path of [directory, target, ...(await directoriesBelow(target))]) {
      await chown(path, 0, fsGroup);
      await chmod(path, 0o755 | groupReads.directory);
    }
  await symlink(stamp, join(directory, '..data_tmp')).catch(async () => {
    await rm(join(directory, '..data_tmp'));
    await symlink(stamp, join(directory, '..data_tmp'));
  });
  await rename(join(directory, '..data_tmp'), join(directory, '..data'));
  const tops = new Set(files.map((file) => file.path.split('/')[0]!));
  for (const top of tops)
    await symlink(join('..data', top), join(directory, top)).catch((error: unknown) => {
      if (codeOf(error) !== 'EEXIST') throw error;
    });
  for (const entry of await readdir(directory)) {
    if (entry === '..data' || entry === stamp || tops.has(entry)) continue;
    await rm(join(directory, entry), { recursive: true, force: true });
  }
}

async function directoriesBelow(path: string): Promise<string[]> {
  return (await readdir(path, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name));
}

async function sameContent(directory: string, files: ProjectedFile[]): Promise<boolean> {
  // What cannot be read is not the same.
  const existing = (await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => [])).filter(
    (entry) => entry.isFile(),
  );
  if (existing.length !== files.length) return false;
  for (const file of files) {
    // Nor is this.
    const data = await readFile(join(directory, file.path)).catch(() => undefined);
    if (data === undefined || !data.equals(file.content)) return false;
  }
  return true;
}
