/** The tree as the tests of structure see it: files, what each imports, and lists of exceptions that only shrink. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseSource, walk } from './parse.ts';

export const root = resolve(fileURLToPath(import.meta.url), '../../..');

export interface Source {
  /** From the root of the tree: `src/base/json.ts`. */
  path: string;
  /** Below `src`: `base`. Elsewhere the first part of the path. */
  folder: string;
  text: string;
  /** Tests, suites, and what helps them alone. */
  isTest: boolean;
}

/** TypeScript files below these folders. */
export function sourcesOf(...folders: string[]): Source[] {
  return folders
    .filter((folder) => existsSync(join(root, folder)))
    .flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
        .filter((path) => path.endsWith('.ts') && !path.includes('node_modules'))
        .map((path) => ({
          path: `${folder}/${path}`,
          folder: folder === 'src' ? path.split('/')[0]! : folder,
          text: readFileSync(join(root, folder, path), 'utf8'),
          isTest: folder !== 'src' || /\.(test|suite)\.ts$/.test(path) || path.includes('/testing/'),
        })),
    );
}

export interface Import {
  specifier: string;
  line: number;
  /** Gone when types are stripped. */
  isType: boolean;
  /** What is taken from there; undefined is all of it, or what cannot be told. */
  names: string[] | undefined;
}

/** Of those that run the names come from the parsed code, of those of types alone from the text. */
export function importsOf({ text }: Source): Import[] {
  const lineAt = (offset: number): number => text.slice(0, offset).split('\n').length;
  const found: Import[] = [];
  for (const node of walk(parseSource(text))) {
    const from = node['source'] as { value?: unknown } | null | undefined;
    if (
      !['ImportDeclaration', 'ImportExpression', 'ExportNamedDeclaration', 'ExportAllDeclaration'].includes(
        node.type,
      ) ||
      typeof from?.value !== 'string'
    )
      continue;
    const items = node['specifiers'] as { imported?: { name: string }; local?: { name: string } }[] | undefined;
    const names = items?.map((item) => item.imported?.name ?? (node.type.startsWith('Export') && item.local?.name));
    found.push({
      specifier: from.value,
      line: lineAt(node.start),
      isType: false,
      names: names?.every((name) => typeof name === 'string') === true ? names : undefined,
    });
  }
  // `import type { A } from`, `export type { A } from`, and the types in `import { a, type B } from`.
  for (const match of text.matchAll(/^(?:import|export) (type )?\{([^}]*)\} from '([^']+)'/gm)) {
    const [, whole, list = '', specifier = ''] = match;
    const items = list.split(',').map((item) => item.trim());
    const names = items
      .filter((item) => item !== '' && (whole !== undefined || item.startsWith('type ')))
      .map((item) => item.replace(/^type /, '').split(' as ')[0]!);
    if (names.length > 0) found.push({ specifier, line: lineAt(match.index), isType: true, names });
  }
  return found;
}

/** The file that a specifier names, from the root; undefined for packages and built-ins. */
export function fileOf(source: Source, specifier: string): string | undefined {
  if (specifier.startsWith('#')) return `src/${specifier.slice(1)}`;
  if (specifier.startsWith('.')) return relative(root, join(root, dirname(source.path), specifier));
  return undefined;
}

/** The list only shrinks: what is found must be on it, and what is on it must be found. */
export function assertOnlyKnown(found: readonly string[], known: ReadonlySet<string>, remedy: string): void {
  assert.deepEqual(
    found.filter((item) => !known.has(item)),
    [],
    remedy,
  );
  assert.deepEqual(
    [...known].filter((item) => !found.includes(item)),
    [],
    'clean now: delete it from the list',
  );
}

/** Why a tool cannot run here; false when it can. Its program is a package of its own, by system and C library. */
export function lacks(scope: '@oxfmt' | '@oxlint'): string | false {
  const directory = join(root, 'node_modules', scope);
  // npm 9 may leave directories that are empty.
  const files = existsSync(directory) ? readdirSync(directory, { recursive: true, encoding: 'utf8' }) : [];
  return files.some((name) => name.endsWith('.node'))
    ? false
    : `needs ${scope}/…, which npm 9 leaves out because it names a C library: npm 11 installs it`;
}
