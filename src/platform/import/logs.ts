/**
 * What a container has said, from dockerd's json-file to the engine's own format: a line of JSON a record, `log` with
 * its line end where the line ends there. Rotated files come first. Other drivers' files are not read.
 */
import { createReadStream, createWriteStream } from 'node:fs';
import { basename, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { textOf, type JsonObject } from '#base/unknown.ts';
import { listDirectory } from '#os/files.ts';
import { readLines } from './read-lines.ts';
import { parseObject } from './read-bounded.ts';
import type { DockerSource } from './source.ts';

/** `said`: `config.v2.json`. A file that is damaged, as the last line may be after a power loss, ends there. */
export async function importLog(source: DockerSource, said: JsonObject, id: string, target: string): Promise<void> {
  const directory = source.path('containers', id);
  const name = basename(textOf(said, 'LogPath') ?? '') || `${id}-json.log`;
  const files = listDirectory(directory)
    .flatMap((file) => {
      const rotation =
        file === name ? '0' : /^\.(\d+)(?:\.gz)?$/.exec(file.startsWith(name) ? file.slice(name.length) : '')?.[1];
      return rotation === undefined ? [] : [{ path: join(directory, file), rotation: Number(rotation) }];
    })
    .sort((a, b) => b.rotation - a.rotation);
  if (!name.endsWith('-json.log') || files.length === 0) return;
  await pipeline(recordsOf(files.map(({ path }) => path)), createWriteStream(target, { mode: 0o600 }));
}

async function* recordsOf(paths: string[]): AsyncGenerator<string> {
  for (const path of paths) {
    const raw = createReadStream(path);
    const plain = path.endsWith('.gz') ? raw.pipe(createGunzip()) : raw;
    raw.on('error', (error) => plain.destroy(error));
    for await (const line of readLines(plain)) {
      if (line.length === 0) continue;
      const record = parsed(line.toString());
      if (record === undefined) break;
      const text = textOf(record, 'log') ?? '';
      const isEnd = text.endsWith('\n');
      const stream = textOf(record, 'stream') === 'stderr' ? 'stderr' : 'stdout';
      yield `${textOf(record, 'time') ?? ''} ${stream} ${isEnd ? 'F' : 'P'} ${isEnd ? text.slice(0, -1) : text}\n`;
    }
  }
}

function parsed(text: string): JsonObject | undefined {
  try {
    return parseObject(text, 'a line of a log');
  } catch {
    return undefined;
  }
}
