/** `export` means used elsewhere: by another module, a test, a bench, an example, or by users of `tiphys/testing`. */
import { test } from 'node:test';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { assertOnlyKnown, fileOf, importsOf, root, sourcesOf } from './sources.ts';

/** Used by nobody today. The list only shrinks. */
const idle = new Set<string>([]);

/** Names that a module exports. A type that its own signatures name is for those who read them. */
function exportsOf(text: string): string[] {
  const declared = [
    ...text.matchAll(/^export (?:async )?(?:abstract )?(function\*?|const|let|class|interface|type) (\w+)/gm),
  ]
    .filter(
      ([, sort = '', name = '']) =>
        !['interface', 'type'].includes(sort) || text.matchAll(new RegExp(`\\b${name}\\b`, 'g')).toArray().length === 1,
    )
    .map((match) => match[2]!);
  const listed = [...text.matchAll(/^export (?:type )?\{([^}]*)\}/gm)].flatMap((match) =>
    match[1]!
      .split(',')
      .map((item) => item.trim().replace(/^type /, ''))
      .filter((item) => item !== '')
      .map((item) => item.split(' as ').at(-1)!),
  );
  return [...declared, ...listed];
}

test('what is exported is used elsewhere', () => {
  const sources = sourcesOf('src', 'test', 'bench', 'examples', 'conformance');
  const used = new Map<string, Set<string> | 'all'>();
  const use = (file: string, names: readonly string[] | undefined): void => {
    const known = used.get(file);
    if (names === undefined || known === 'all') used.set(file, 'all');
    else used.set(file, new Set([...(known ?? []), ...names]));
  };
  for (const source of sources)
    for (const { specifier, names } of importsOf(source)) {
      const file = fileOf(source, specifier);
      if (file !== undefined) use(file, names);
    }
  for (const match of readFileSync(join(root, 'testing.d.ts'), 'utf8').matchAll(/from '\.\/([^']+)'/g))
    use(match[1]!, undefined);
  const found = sources.flatMap(({ path, text }) => {
    const names = used.get(path) ?? new Set();
    // Rows and cases are found by their file's name; the API's types are generated whole.
    return names === 'all' || /\.(rows|cases)\.ts$|^src\/api\//.test(path)
      ? []
      : exportsOf(text)
          .filter((name) => !names.has(name))
          .map((name) => `${path} ${name}`);
  });
  assertOnlyKnown(found, idle, 'used by no other module: delete it, or only its `export`');
});
