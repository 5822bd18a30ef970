/**
 * `npm pack`'s first step: `dist/` with the types stripped, since Node strips none below node_modules. Files keep their
 * places; `#folder/x.ts` resolves there by `dist/package.json`, and relative imports change their ending. Data beside
 * the code (JSON, the supervisor) is copied.
 */
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { dirname, join } from 'node:path';
import { packageRoot } from '#platform/paths.ts';
import { print } from '../output.ts';

const leftOut = /\.(test|suite)\.ts$|(^|\/)(fixture|fake-clock|generate)\.ts$/;

export function buildPackage(): void {
  const source = join(packageRoot, 'src');
  const target = join(packageRoot, 'dist');
  rmSync(target, { recursive: true, force: true });
  let count = 0;
  for (const entry of readdirSync(source, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name).slice(source.length + 1);
    if (!entry.isFile() || leftOut.test(path)) continue;
    const out = join(target, path.replace(/\.ts$/, '.js'));
    mkdirSync(dirname(out), { recursive: true });
    if (!path.endsWith('.ts')) {
      copyFileSync(join(source, path), out);
      continue;
    }
    const stripped = stripTypeScriptTypes(readFileSync(join(source, path), 'utf8'));
    writeFileSync(out, stripped.replace(/((?:from|import)\s*\(?\s*['"]\.{1,2}\/[^'"]*)\.ts(['"])/g, '$1.js$2'));
    count += 1;
  }
  writeFileSync(
    join(target, 'package.json'),
    `${JSON.stringify({ type: 'module', imports: { '#*.ts': './*.js' } }, null, 2)}\n`,
  );
  print(`dist: ${count} modules`);
}
