/** Small files in which a kubelet notes, for the next one, what it holds. */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';

/** What was noted; undefined where nothing was, or nothing that can be read: both are made anew. */
export async function readNote<Note>(file: string): Promise<Note | undefined> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Note;
  } catch {
    return undefined;
  }
}

/** The note is whole or is not there; nobody else may read it. */
export async function writeNote<Note>(file: string, note: Note): Promise<Note> {
  await mkdir(dirname(file), { recursive: true });
  await writeFile(`${file}.tmp`, JSON.stringify(note), { mode: 0o600 });
  await rename(`${file}.tmp`, file);
  return note;
}
