/**
 * The archive that a layer was unpacked from, byte for byte: dockerd keeps headers and padding of it in
 * `tar-split.json.gz`, a line a piece, and the contents of files are read from the layer's directory. Whoever reads the
 * archive compares its digest; so the check sums in the lines are not looked at.
 *
 * Source: github.com/vbatts/tar-split, `tar/storage` (entry.go) and `tar/asm` (assemble.go).
 */
import { createReadStream } from 'node:fs';
import { createGunzip } from 'node:zlib';
import { ApiError } from '#base/errors.ts';
import { decodeFileName } from '#base/file-names.ts';
import { isObject, type JsonObject } from '#base/unknown.ts';
import { pathParts, RootedDirectory } from '#content/safe-path.ts';
import { fsPath } from '#os/named-files.ts';
import { readLines } from './read-lines.ts';

const kinds = { file: 1, segment: 2 } as const;

/** `directory`: what the layer has been unpacked to. */
export async function* assembleTar(splitPath: string, directory: string): AsyncGenerator<Uint8Array> {
  const rooted = new RootedDirectory(directory);
  const broken = (): never => {
    throw new ApiError('BadRequest', `${splitPath} is damaged`);
  };
  const source = createReadStream(splitPath);
  const lines = createGunzip();
  source.on('error', (error) => lines.destroy(error));
  for await (const line of readLines(source.pipe(lines))) {
    const entry: unknown = JSON.parse(line.toString());
    if (!isObject(entry)) return broken();
    const { type, payload, size } = entry;
    if (type === kinds.segment) {
      if (typeof payload === 'string') yield Buffer.from(payload, 'base64');
    } else if (type === kinds.file) {
      if (typeof size !== 'number' || size === 0) continue;
      const path = rooted.locate(pathParts(nameOf(entry)));
      if (path === undefined) return broken();
      let left = size;
      const content: AsyncIterable<Buffer> = createReadStream(fsPath(path), { end: size - 1 });
      for await (const chunk of content) {
        left -= chunk.length;
        yield chunk;
      }
      if (left > 0) throw new ApiError('BadRequest', `${path} is shorter than the layer had it`);
    } else return broken();
  }
}

/** A name that is no UTF-8 comes as bytes. */
function nameOf({ name, name_raw: raw }: JsonObject): string {
  if (typeof raw === 'string' && raw !== '') return decodeFileName(Buffer.from(raw, 'base64'));
  return typeof name === 'string' ? name : '';
}
