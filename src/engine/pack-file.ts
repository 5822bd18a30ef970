/** One file, link or special file as a tar entry. */
import { closeSync, readSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { encodeTarHeader, encodeTarPadding } from '#base/tar-write.ts';
import { tarHeaderOf, type Owner } from '#content/pack.ts';
import { openSync } from '#os/named-files.ts';

const chunkBytes = 256 * 1024;

export function* packFile(
  path: string,
  name: string,
  stat: Stats,
  ownerOf: (owner: Owner) => Owner = (owner) => owner,
): Generator<Uint8Array> {
  const header = tarHeaderOf(path, name, stat);
  if (header === undefined) return;
  const sizeBytes = header.type === 'file' ? stat.size : 0;
  yield encodeTarHeader({ ...header, ...ownerOf({ uid: header.uid, gid: header.gid }), sizeBytes });
  if (header.type !== 'file') return;
  const fd = openSync(path, 'r');
  try {
    for (let at = 0; at < sizeBytes;) {
      const chunk = Buffer.alloc(Math.min(chunkBytes, sizeBytes - at));
      const count = readSync(fd, chunk, 0, chunk.length, at);
      // A file that shrank meanwhile is filled up: the header has promised its size.
      yield count === 0 ? chunk : chunk.subarray(0, count);
      at += count === 0 ? chunk.length : count;
    }
  } finally {
    closeSync(fd);
  }
  yield encodeTarPadding(sizeBytes);
}
