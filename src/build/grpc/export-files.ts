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
import type { SentRoot } from './send-files.ts';
import type { Statement } from './statement.ts';

function digestOf(root: string, path: string): string {
  const hash = createHash('sha256');
  for (let at = 0; ; at += sentChunkBytes) {
    const bytes = readFileRange(root, path, at, sentChunkBytes);
    if (bytes.length === 0) return hash.digest('hex');
    hash.update(bytes);
  }
}

/** All but directories. */
function* listPaths(root: string, directory = ''): Generator<{ path: string; isFile: boolean }> {
  for (const name of readdirSync(`${root}/${directory}`).sort()) {
    const path = directory === '' ? name : `${directory}/${name}`;
    const info = lstatSync(`${root}/${path}`);
    if (info.isDirectory()) yield* listPaths(root, path);
    else yield { path, isFile: info.isFile() };
  }
}

/** `names`: of the platforms of the roots. Throws BadRequest where a path of one is that of another. */
export function checkDistinct(roots: readonly SentRoot[], names: readonly string[]): void {
  if (roots.length < 2) return;
  const seen = new Map<string, string>();
  for (const [at, { directory, files }] of roots.entries()) {
    const name = names[at] ?? '';
    for (const path of [...[...listPaths(directory)].map((each) => each.path), ...files.keys()]) {
      const other = seen.get(path);
      if (other !== undefined && other !== name)
        throw new ApiError(
          'BadRequest',
          `cannot overwrite ${path.slice(0, 500)} from ${other} with ${name} when split option is disabled`,
        );
      seen.set(path, name);
    }
  }
}

/**
 * Documents by their names. `prefix` stands before each name, `suffix` before what follows its last dot. Throws
 * BadRequest where two have one name.
 */
export function statementFiles(
  root: string,
  statements: readonly Statement[],
  { prefix, suffix }: { prefix: string; suffix: string },
): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  if (statements.length === 0) return files;
  const subject = [...listPaths(root)]
    .filter(({ isFile }) => isFile)
    .map(({ path }) => ({ name: path, digest: { sha256: digestOf(root, path) } }));
  for (const { filename, predicateType, predicate } of statements) {
    const base = `${prefix}${filename.slice(filename.lastIndexOf('/') + 1)}`;
    const dot = base.lastIndexOf('.');
    const name = dot < 0 ? `${base}${suffix}` : `${base.slice(0, dot)}${suffix}${base.slice(dot)}`;
    if (files.has(name)) throw new ApiError('BadRequest', `duplicate attestation path name ${name}`);
    const document = { _type: 'https://in-toto.io/Statement/v1', predicateType, subject, predicate };
    files.set(name, Buffer.from(JSON.stringify(document, undefined, 2)));
  }
  return files;
}
