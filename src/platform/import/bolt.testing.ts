/** For tests: writes what `bolt.ts` reads. */

export interface BoltTree {
  [key: string]: string | BoltTree;
}

const pageBytes = 4096;
const perLeaf = 3;

/** Of one level of branches, so that a few keys already make all kinds of pages. */
export function encodeBolt(tree: BoltTree): Buffer {
  const pages: Buffer[] = [];
  /** Number of the page that it lies on. */
  const place = (body: Buffer): bigint => {
    const id = pages.length + 2;
    const size = Math.ceil(body.length / pageBytes) * pageBytes;
    body.writeBigUInt64LE(BigInt(id), 0);
    body.writeUInt32LE(size / pageBytes - 1, 12);
    const whole = Buffer.concat([body], size);
    for (let at = 0; at < size; at += pageBytes) pages.push(whole.subarray(at, at + pageBytes));
    return BigInt(id);
  };
  const root = (bucket: BoltTree): bigint => {
    const entries = Object.entries(bucket).sort(([a], [b]) => (a < b ? -1 : 1));
    const leaves: { key: string; page: bigint }[] = [];
    for (let at = 0; at < Math.max(1, entries.length); at += perLeaf) {
      const part = entries.slice(at, at + perLeaf).map(([key, value]) => ({
        key,
        flags: typeof value === 'string' ? 0 : 1,
        value: typeof value === 'string' ? Buffer.from(value) : encodeBucket(value),
      }));
      leaves.push({ key: part[0]?.key ?? '', page: place(encodeLeaf(part)) });
    }
    const [only] = leaves;
    return only !== undefined && leaves.length === 1 ? only.page : place(encodeBranch(leaves));
  };
  /** A small one without buckets of its own is a page in the leaf. */
  const encodeBucket = (bucket: BoltTree): Buffer => {
    const header = Buffer.alloc(16);
    const entries = Object.entries(bucket);
    if (entries.length > 1 || entries.some(([, value]) => typeof value !== 'string')) {
      header.writeBigUInt64LE(root(bucket), 0);
      return header;
    }
    const inline = entries.map(([key, value]) => ({ key, flags: 0, value: Buffer.from(String(value)) }));
    return Buffer.concat([header, encodeLeaf(inline)]);
  };
  const top = root(tree);
  return Buffer.concat([encodeMeta(0n, top, 2n), encodeMeta(1n, 99n, 1n), ...pages]);
}

function encodePage(kind: number, items: { head: (position: number) => Buffer; body: Buffer }[]): Buffer {
  const header = Buffer.alloc(16);
  header.writeUInt16LE(kind, 8);
  header.writeUInt16LE(items.length, 10);
  let at = 16 + items.length * 16;
  const heads = items.map(({ head, body }, index) => {
    const made = head(at - 16 - index * 16);
    at += body.length;
    return made;
  });
  return Buffer.concat([header, ...heads, ...items.map(({ body }) => body)]);
}

function encodeLeaf(entries: { key: string; flags: number; value: Buffer }[]): Buffer {
  return encodePage(
    2,
    entries.map(({ key, flags, value }) => ({
      head: (position) => words(flags, position, Buffer.byteLength(key), value.length),
      body: Buffer.concat([Buffer.from(key), value]),
    })),
  );
}

function encodeBranch(leaves: { key: string; page: bigint }[]): Buffer {
  return encodePage(
    1,
    leaves.map(({ key, page }) => ({
      head: (position) => words(position, Buffer.byteLength(key), Number(page), 0),
      body: Buffer.from(key),
    })),
  );
}

function words(...numbers: number[]): Buffer {
  const out = Buffer.alloc(numbers.length * 4);
  numbers.forEach((number, index) => out.writeUInt32LE(number, index * 4));
  return out;
}

function encodeMeta(id: bigint, root: bigint, transaction: bigint): Buffer {
  const page = Buffer.alloc(pageBytes);
  page.writeBigUInt64LE(id, 0);
  page.writeUInt16LE(4, 8);
  words(0xed0cdaed, 2, pageBytes).copy(page, 16);
  page.writeBigUInt64LE(root, 32);
  page.writeBigUInt64LE(transaction, 64);
  let hash = 0xcbf29ce484222325n;
  for (const byte of page.subarray(16, 72)) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn;
  page.writeBigUInt64LE(hash, 72);
  return page;
}
