/** Extended headers of tar: PAX records (POSIX.1-2001), with the sparse maps 0.0 and 0.1 of GNU tar in them. */
import { decodeFileName } from './file-names.ts';
import { tarSparseExtentsMax } from './limits.ts';
import { extentsOf, paxNumber } from './tar-fields.ts';
import type { Layout } from './tar-fields.ts';
import { checkExtents } from './tar-sparse.ts';
import { TarError } from './tar.ts';
import type { TarExtent } from './tar.ts';

/** `LENGTH KEY=VALUE\n` records. GNU sparse 0.0 repeats keys, so a list and not a map. */
export function parsePaxRecords(data: Buffer): [string, Buffer][] {
  const records: [string, Buffer][] = [];
  for (let at = 0; at < data.length;) {
    if (data[at] === 0) break;
    const space = data.indexOf(0x20, at);
    const lengthText = space < 0 ? '' : data.toString('latin1', at, space);
    const length = /^[0-9]{1,10}$/.test(lengthText) ? Number(lengthText) : 0;
    const end = at + length;
    if (length < 5 || end > data.length || data[end - 1] !== 0x0a)
      throw new TarError('archive/tar: invalid tar header');
    const equals = data.indexOf(0x3d, space + 1);
    if (equals < 0 || equals >= end) throw new TarError('archive/tar: invalid tar header');
    records.push([decodeFileName(data.subarray(space + 1, equals)), data.subarray(equals + 1, end - 1)]);
    at = end;
  }
  return records;
}

/** What records say of a sparse file, until all are read. */
interface SparseRecords {
  isSparse: boolean;
  extents: TarExtent[];
  name?: string;
  sizeBytes?: number;
}

/** `OFFSET,LENGTH,OFFSET,LENGTH…` (PAX 0.1). */
function parseSparseMap(value: Buffer): TarExtent[] {
  if (value.length === 0) return [];
  const numbers = value.toString('latin1').split(',');
  return extentsOf(numbers.map((text) => paxNumber(Buffer.from(text))));
}

function takeSparse(key: string, value: Buffer, sparse: SparseRecords, layout: Layout): void {
  switch (key) {
    case 'GNU.sparse.name':
      sparse.name = decodeFileName(value);
      return;
    case 'GNU.sparse.size':
    case 'GNU.sparse.realsize':
      sparse.isSparse = true;
      sparse.sizeBytes = paxNumber(value);
      return;
    case 'GNU.sparse.major':
      sparse.isSparse = true;
      layout.sparseMapInData = paxNumber(value) === 1;
      return;
    case 'GNU.sparse.offset':
      sparse.isSparse = true;
      sparse.extents.push({ offset: paxNumber(value), length: 0 });
      return;
    case 'GNU.sparse.numbytes': {
      const extent = sparse.extents.at(-1);
      if (extent === undefined) throw new TarError('archive/tar: invalid tar header');
      extent.length = paxNumber(value);
      return;
    }
    case 'GNU.sparse.map':
      sparse.extents.push(...parseSparseMap(value));
      return;
    default: // Counts that the map says again.
  }
}

function takeField(key: string, value: Buffer, layout: Layout): void {
  const { header } = layout;
  switch (key) {
    case 'path':
      header.path = decodeFileName(value);
      return;
    case 'linkpath':
      header.linkTarget = decodeFileName(value);
      return;
    case 'size':
      header.sizeBytes = layout.storedBytes = paxNumber(value);
      return;
    case 'uid':
      header.uid = paxNumber(value);
      return;
    case 'gid':
      header.gid = paxNumber(value);
      return;
    case 'uname':
      header.userName = decodeFileName(value);
      return;
    case 'gname':
      header.groupName = decodeFileName(value);
      return;
    case 'mtime':
      header.mtimeMs = paxNumber(value) * 1000;
      return;
    default: // Unknown keys are to be ignored (POSIX pax, "Extended header keywords").
  }
}

export function applyPax(layout: Layout, records: [string, Buffer][]): void {
  const { header } = layout;
  const sparse: SparseRecords = { isSparse: false, extents: [] };
  const attribute = 'SCHILY.xattr.';
  for (const [key, value] of records) {
    if (key.startsWith(attribute)) header.xattrs[key.slice(attribute.length)] = Uint8Array.from(value);
    else if (key.startsWith('GNU.sparse.')) takeSparse(key, value, sparse, layout);
    else takeField(key, value, layout);
    if (sparse.extents.length > tarSparseExtentsMax) throw new TarError('archive/tar: invalid sparse map');
  }
  if (!sparse.isSparse) return;
  if (sparse.name !== undefined) header.path = sparse.name;
  if (sparse.sizeBytes !== undefined) header.sizeBytes = sparse.sizeBytes;
  if (!layout.sparseMapInData) layout.extents = checkExtents(sparse.extents, header.sizeBytes, layout.storedBytes);
}
