/** A file that a comment or a document names is there: a reader who follows it must arrive. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync, readdirSync, existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseSource } from './parse.ts';
import type { Comment } from './parse.ts';
import { assertOnlyKnown, root, sourcesOf } from './sources.ts';

/** Named and not there. The list only shrinks. */
const lost = new Set<string>([]);

/** Every path of the tree, for names that are given by their end: `net/rules.ts`, `limits.ts`. */
const tree = ['src', 'test', 'docs', 'bench', 'examples', 'conformance']
  .flatMap((top) => readdirSync(join(root, top), { recursive: true, encoding: 'utf8' }).map((path) => `${top}/${path}`))
  .concat(readdirSync(root));

/** A file name with a stem of its own: `*.test.ts` and `x.ts` stand for many. */
const fileName =
  /(?<![\w*<{…/.#-])(?:#|\.{1,2}\/)?((?:[\w-]+\/)*(?!AREA)[\w-]{2,}(?:\.[\w-]+)*\.(?:ts|md|sh|js))\b(?!\()/g;

/** A bare name in a module is that of a file in its own folder of `src`. */
function lostIn(place: string, text: string): string[] {
  const part = /^src\/\w+\//.exec(place)?.[0] ?? '';
  return [...text.matchAll(fileName)]
    .map((match) => match[1]!)
    .filter(
      (name) =>
        !tree.some(
          (path) =>
            (path === name || path.endsWith(`/${name}`)) &&
            (name.includes('/') || path === name || path.startsWith(part)),
        ),
    )
    .map((name) => `${place} ${name}`);
}

test('files that comments name are there', () => {
  const found = sourcesOf('src', 'test', 'bench', 'examples').flatMap(({ path, text }) => {
    const comments: Comment[] = [];
    parseSource(text, comments);
    return comments.flatMap(({ start, end }) => lostIn(path, text.slice(start, end)));
  });
  assertOnlyKnown([...new Set(found)], lost, 'name the file that is there');
});

test('files that documents name are there', () => {
  const documents = readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.md'))
    .map((path) => `docs/${path}`)
    .concat('ARCHITECTURE.md', 'bench/README.md');
  const found = documents.flatMap((path) => {
    const text = readFileSync(join(root, path), 'utf8');
    const links = [...text.matchAll(/\]\((?!https?:|#)([^)#]+)/g)]
      .map((match) => match[1]!)
      .filter((link) => !existsSync(join(root, dirname(path), link)))
      .map((link) => `${path} ${link}`);
    return [...lostIn(path, text), ...links];
  });
  assertOnlyKnown([...new Set(found)], lost, 'name the file that is there');
});

test('each question of docs/questions.md is answered in the file it names', () => {
  const rows = [
    ...readFileSync(join(root, 'docs/questions.md'), 'utf8').matchAll(/^\|.*\| `(src\/[^`]+)` \| `(\w+)` \|$/gm),
  ];
  assert.equal(rows.length, 20);
  for (const [, file = '', name = ''] of rows)
    assert.match(
      readFileSync(join(root, file), 'utf8'),
      new RegExp(`^(export )?(async )?(function|const) ${name}\\b`, 'm'),
    );
});
