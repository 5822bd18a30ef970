/**
 * Attestations of files that are exported as such: documents beside them, whose subjects are the files.
 *
 * Source: BuildKit, "Attestation storage"; its local exporter.
 */
import { createHash } from 'node:crypto';
import { ApiError } from '#base/errors.ts';
import { lstatSync, readdirSync } from '#os/named-files.ts';
import { sentChunkBytes } from './limits.ts';
import { readFileRange } from './look.ts';
import type { Statement } from './statement.ts';

function digestOf(root: string, path: string): string {
  const hash = createHash('sha256');
  for (let at = 0; ; at += sentChunkBytes) {
    const bytes = readFileRange(root, path, at, sentChunkBytes);
    if (bytes.length === 0) return hash.digest('hex');
    hash.update(bytes);
  }
}

function* listFiles(root: string, directory = ''): Generator<string> {
  for (const name of readdirSync(`${root}/${directory}`).sort()) {
    const path = directory === '' ? name : `${directory}/${name}`;
    const info = lstatSync(`${root}/${path}`);
    if (info.isDirectory()) yield* listFiles(root, path);
    else if (info.isFile()) yield path;
  }
}

/** Documents by their names. `prefix` stands before each name. Throws BadRequest where two have one name. */
export function statementFiles(root: string, statements: readonly Statement[], prefix: string): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  if (statements.length === 0) return files;
  const subject = [...listFiles(root)].map((name) => ({ name, digest: { sha256: digestOf(root, name) } }));
  for (const { filename, predicateType, predicate } of statements) {
    const name = `${prefix}${filename.slice(filename.lastIndexOf('/') + 1)}`;
    if (files.has(name)) throw new ApiError('BadRequest', `duplicate attestation path name ${name}`);
    const document = { _type: 'https://in-toto.io/Statement/v1', predicateType, subject, predicate };
    files.set(name, Buffer.from(JSON.stringify(document, undefined, 2)));
  }
  return files;
}
