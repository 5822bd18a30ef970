/** Tar, the writing side: ustar headers, and PAX records for what they cannot hold. */
import { encodeFileName } from './file-names.ts';
import { blockBytes, paddingOf } from './tar.ts';
import type { TarHeader, TarType } from './tar.ts';

function putText(block: Buffer, text: string, offset: number, length: number): void {
  encodeFileName(text).copy(block, offset, 0, length);
}

/** Octal in `length - 1` digits; false where it does not fit. */
function putNumber(block: Buffer, value: number, offset: number, length: number): boolean {
  const text = value < 0 || !Number.isSafeInteger(value) ? '' : value.toString(8);
  const fits = text !== '' && text.length < length;
  block.write((fits ? text : '0').padStart(length - 1, '0'), offset, length - 1, 'latin1');
  return fits;
}

function paxRecord(key: string, value: Uint8Array | string): Buffer {
  const body = Buffer.concat([
    encodeFileName(` ${key}=`),
    typeof value === 'string' ? encodeFileName(value) : value,
    Buffer.from('\n'),
  ]);
  let length = body.length + String(body.length).length;
  if (String(length).length + body.length !== length) length = body.length + String(length).length;
  return Buffer.concat([Buffer.from(String(length)), body]);
}

function fitsField(text: string, bytesMax: number): boolean {
  // PAX is needed for anything that is not plain ASCII.
  return /^[\x00-\x7f]*$/.test(text) && text.length <= bytesMax;
}

/** How an entry is written. */
interface TarWriting {
  /** Times to the microsecond, where images have whole seconds. */
  exactTimes?: boolean;
}

function rawHeader(
  header: TarHeader,
  letter: string,
  sizeBytes: number,
  { exactTimes = false }: TarWriting = {},
): { block: Buffer; records: Buffer[] } {
  const block = Buffer.alloc(blockBytes);
  const records: Buffer[] = [];
  const pax = (key: string, value: Uint8Array | string): void => {
    records.push(paxRecord(key, value));
  };
  if (!fitsField(header.path, 100)) pax('path', header.path);
  putText(block, header.path, 0, 100);
  putNumber(block, header.mode & 0o7777, 100, 8);
  if (!putNumber(block, header.uid, 108, 8)) pax('uid', String(header.uid));
  if (!putNumber(block, header.gid, 116, 8)) pax('gid', String(header.gid));
  if (!putNumber(block, sizeBytes, 124, 12)) pax('size', String(sizeBytes));
  const seconds = Math.floor(header.mtimeMs / 1000);
  const fits = putNumber(block, seconds, 136, 12);
  if (exactTimes && header.mtimeMs !== seconds * 1000) pax('mtime', (header.mtimeMs / 1000).toFixed(6));
  else if (!fits) pax('mtime', String(seconds));
  block[156] = letter.charCodeAt(0);
  if (!fitsField(header.linkTarget, 100)) pax('linkpath', header.linkTarget);
  putText(block, header.linkTarget, 157, 100);
  putText(block, 'ustar\x0000', 257, 8);
  if (!fitsField(header.userName, 31)) pax('uname', header.userName);
  if (!fitsField(header.groupName, 31)) pax('gname', header.groupName);
  putText(block, header.userName, 265, 31);
  putText(block, header.groupName, 297, 31);
  if (header.type === 'character' || header.type === 'block') {
    putNumber(block, header.deviceMajor, 329, 8);
    putNumber(block, header.deviceMinor, 337, 8);
  }
  for (const [name, value] of Object.entries(header.xattrs).sort(([a], [b]) => (a < b ? -1 : 1)))
    pax(`SCHILY.xattr.${name}`, value);
  return { block, records };
}

function sealBlock(block: Buffer): Buffer {
  block.fill(0x20, 148, 156);
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 8, 'latin1');
  return block;
}

const headerDefaults: Omit<TarHeader, 'path'> = {
  type: 'file',
  mode: 0o644,
  uid: 0,
  gid: 0,
  userName: '',
  groupName: '',
  mtimeMs: 0,
  sizeBytes: 0,
  linkTarget: '',
  deviceMajor: 0,
  deviceMinor: 0,
  xattrs: {},
};

/** The blocks that open an entry. What follows is `sizeBytes` of content and `encodeTarPadding`. */
export function encodeTarHeader(partial: Partial<TarHeader> & { path: string }, writing?: TarWriting): Buffer {
  const header: TarHeader = { ...headerDefaults, ...partial };
  if (header.type === 'directory' && !header.path.endsWith('/')) header.path += '/';
  const { block, records } = rawHeader(
    header,
    letterOf[header.type],
    header.type === 'file' ? header.sizeBytes : 0,
    writing,
  );
  if (records.length === 0) return sealBlock(block);
  const data = Buffer.concat(records);
  const base = header.path.replace(/\/$/, '').split('/').pop() ?? '';
  const extended = rawHeader(
    {
      ...headerDefaults,
      path: `PaxHeaders.0/${encodeFileName(base)
        .toString('latin1')
        .replace(/[^ -~]/g, '_')
        .slice(0, 80)}`,
    },
    'x',
    data.length,
  ).block;
  return Buffer.concat([sealBlock(extended), data, Buffer.alloc(paddingOf(data.length)), sealBlock(block)]);
}

export function encodeTarPadding(sizeBytes: number): Buffer {
  return Buffer.alloc(paddingOf(sizeBytes));
}

/** Two blocks of zeros. */
export const tarEnd: Uint8Array = Buffer.alloc(2 * blockBytes);

/** A whole small file as one entry. */
export function encodeTarFile(header: Partial<TarHeader> & { path: string }, content: Uint8Array | string): Buffer {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  return Buffer.concat([
    encodeTarHeader({ ...header, type: 'file', sizeBytes: bytes.length }),
    bytes,
    encodeTarPadding(bytes.length),
  ]);
}

const letterOf: Record<TarType, string> = {
  file: '0',
  link: '1',
  symlink: '2',
  character: '3',
  block: '4',
  directory: '5',
  fifo: '6',
};
