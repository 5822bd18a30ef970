/**
 * `tiphys test` (npm test): installs what the tests need, checks types, and runs every test. Tests that need root, or the real
 * docker and kubectl, are left out and named where there are none; with CI=true leaving anything out is a failure.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { linuxProcesses } from '#os/processes.linux.ts';
import { imageTools, installPackages, missingTools, testTools, tools } from '#platform/packages.ts';
import { packageRoot, pathsOf } from '#platform/paths.ts';
import { print, UsageError } from '../output.ts';

const needsRoot = /\.root\.test\.ts$/;
/** Judged by the real docker and kubectl: Tiphys does not install other people's clients. */
const needsClients = /\.clients\.root\.test\.ts$/;

function testFiles(): string[] {
  return ['src', 'test', 'examples', 'bench'].flatMap((top) => existsSync(join(packageRoot, top)) ? readdirSync(join(packageRoot, top), { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.test.ts') && !path.includes('node_modules')).map((path) => join(top, path)) : []).sort();
}

export async function runTests(paths: string[]): Promise<void> {
  if (!existsSync(join(packageRoot, 'src'))) throw new UsageError('the packed program has no tests; run this in a checkout');
  await installDevelopment();
  const root = process.getuid?.() === 0;
  if (root) await installPackages(linuxProcesses, pathsOf(process.env), missingTools(linuxProcesses, [...tools, ...imageTools, ...testTools]), print);
  const all = paths.length > 0 ? paths : testFiles();
  const clients = ['docker', 'kubectl'].every((program) => linuxProcesses.find(program) !== undefined);
  const left = all.filter((path) => (!root && needsRoot.test(path)) || (!clients && needsClients.test(path)));
  const run = all.filter((path) => !left.includes(path));
  const environment = process.env as Record<string, string>;
  const stage = async (file: string, args: string[]): Promise<number> => (await linuxProcesses.spawn(file, args, { directory: packageRoot, env: environment, stdin: 'ignore', stdout: 1, stderr: 2 }).exit).code;
  if (paths.length === 0 && await stage(process.execPath, [join(packageRoot, 'node_modules/typescript/bin/tsc'), '-p', '.']) !== 0) { print('tiphys: the type check failed'); process.exitCode = 1; return; }
  const plain = run.filter((path) => !needsRoot.test(path));
  const rooted = run.filter((path) => needsRoot.test(path));
  const options = ['--experimental-ffi', '--disable-warning=ExperimentalWarning', '--test', '--test-timeout=600000', ...(process.stdout.isTTY ? [] : ['--test-reporter=spec'])];
  let failed = false;
  if (plain.length > 0) failed = await stage(process.execPath, [...options, '--test-concurrency=2', ...plain]) !== 0 || failed;
  // Tests that use the kernel run one after the other: they share links, tables and cgroups.
  if (rooted.length > 0) failed = await stage(process.execPath, [...options, '--test-concurrency=1', ...rooted]) !== 0 || failed;
  if (left.length > 0) {
    print(`\nLeft out:\n${left.map((path) => `  ${path} (needs ${!root ? 'root' : 'docker and kubectl'})`).join('\n')}`);
    if (process.env['CI'] === 'true') failed = true;
  }
  if (failed) process.exitCode = 1;
}

/** Libraries that only tests need: there when the checkout was installed whole. */
async function installDevelopment(): Promise<void> {
  if (existsSync(join(packageRoot, 'node_modules/typescript')) && existsSync(join(packageRoot, 'node_modules/fast-check'))) return;
  if (linuxProcesses.find('npm') === undefined) throw new UsageError('npm is missing: apt-get install --no-install-recommends npm');
  print('installing the libraries that the tests need');
  const note = join(packageRoot, 'node_modules/.tiphys-packages');
  const { readIfExists, writeFileAtomic } = await import('#os/files.ts');
  const kept = readIfExists(note);
  const done = await linuxProcesses.spawn('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], { directory: packageRoot, env: process.env as Record<string, string>, stdin: 'ignore', stdout: 'ignore', stderr: 2 }).exit;
  // npm ci begins with an empty node_modules, this very program's included; the file it runs from is there again when it ends.
  if (kept !== undefined) writeFileAtomic(note, kept);
  if (done.code !== 0) throw new Error('npm could not install the libraries of package-lock.json');
}
