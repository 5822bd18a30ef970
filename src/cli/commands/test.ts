/**
 * `tiphys test` (npm test): installs what the tests need, checks types, and runs every test. Tests that need root, or
 * the real docker and kubectl, are left out, counted and named where there are none; with CI=true leaving anything out
 * is a failure. The last lines name the slowest tests, too.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { linuxProcesses } from '#os/processes.linux.ts';
import { ensureMountNamespace, mountNamespaceOf } from '#platform/chroot.ts';
import {
  archiveTools,
  imageTools,
  installPackages,
  missingTools,
  testTools,
  tools,
  unpackPackage,
} from '#platform/packages.ts';
import { packageRoot, pathsOf } from '#platform/paths.ts';
import { inheritedEnvironment } from '../environment.ts';
import { print, UsageError } from '../output.ts';
import { leftOutTests, readTestLines, slowestTests } from '../test-summary.ts';

const environment = inheritedEnvironment();
/** Its program is wanted, and no service that it would start. */
const etcd = { package: 'etcd-server', program: 'usr/bin/etcd' };

const needsRoot = /\.root\.test\.ts$/;
/** Judged by the real docker and kubectl: Tiphys does not install other people's clients. */
const needsClients = /\.clients\.(root\.)?test\.ts$/;

function testFiles(): string[] {
  return ['src', 'test', 'examples', 'bench']
    .flatMap((top) =>
      existsSync(join(packageRoot, top))
        ? readdirSync(join(packageRoot, top), { recursive: true, encoding: 'utf8' })
            .filter((path) => path.endsWith('.test.ts') && !path.includes('node_modules'))
            .map((path) => join(top, path))
        : [],
    )
    .sort();
}

/** What `test/found/all.ts` exports: a package that is installed has no tests. */
interface FoundCases {
  allCases(): Promise<({ id: string; behaviour: string } & ({ file: string; title: string } | { waits: string }))[]>;
}

/** Cases that users met (test/found), as files and the titles of the tests in them. */
async function foundCases(): Promise<{ paths: string[]; titles: string[]; waiting: string[] }> {
  const { allCases }: FoundCases = await import(join(packageRoot, 'test/found/all.ts'));
  const cases = await allCases();
  const tried = cases.filter((item) => 'file' in item);
  return {
    paths: [...new Set(tried.map((item) => item.file))],
    titles: [...new Set(tried.map((item) => item.title))],
    waiting: cases.flatMap((item) =>
      'waits' in item ? [`${item.id} waits for ${item.waits}: ${item.behaviour}`] : [],
    ),
  };
}

const testMsMax = 600_000;
/** Of a suite that has a command of its own, as a whole. */
const suiteMsMax = 7_200_000;

/** Programs that tests of the kernel use beside those of the platform. */
async function installTools(): Promise<void> {
  await installPackages(
    linuxProcesses,
    pathsOf(process.env),
    missingTools(linuxProcesses, [...tools, ...archiveTools, ...imageTools, ...testTools]),
    print,
  );
}

/** The environment of the tests: with an etcd where the machine has none, of its distribution's package. */
async function withEtcd(): Promise<Record<string, string>> {
  if (environment['TIPHYS_TEST_ETCD'] !== undefined || linuxProcesses.find('etcd') !== undefined) return environment;
  const directory = join(packageRoot, 'node_modules/.tiphys-etcd');
  const program = join(directory, etcd.program);
  if (!existsSync(program) && !(await unpackPackage(linuxProcesses, etcd.package, directory))) return environment;
  return { ...environment, TIPHYS_TEST_ETCD: program };
}

export async function runTests(given: string[], choice: { found?: boolean } = {}): Promise<void> {
  const found = choice.found === true ? await foundCases() : undefined;
  const paths = found?.paths ?? given;
  if (!existsSync(join(packageRoot, 'src')))
    throw new UsageError('the packed program has no tests; run this in a checkout');
  await installDevelopment();
  const root = process.getuid?.() === 0;
  if (root) await installTools();
  const env = await withEtcd();
  const all = paths.length > 0 ? paths : testFiles();
  const clients = ['docker', 'kubectl'].every((program) => linuxProcesses.find(program) !== undefined);
  const left = all.filter((path) => (!root && needsRoot.test(path)) || (!clients && needsClients.test(path)));
  const run = all.filter((path) => !left.includes(path));
  const notes = mkdtempSync(join(tmpdir(), 'tiphys-test-notes-'));
  try {
    const failed = await withOwnRoot(root, async (entered) => {
      const stage = async (args: string[]): Promise<boolean> =>
        (
          await linuxProcesses.spawn(...entered(process.execPath, args), {
            directory: packageRoot,
            env,
            stdin: 'ignore',
            stdout: 1,
            stderr: 2,
          }).exit
        ).code !== 0;
      if (paths.length === 0 && (await stage([join(packageRoot, 'node_modules/typescript/bin/tsc'), '-p', '.']))) {
        print('tiphys: the type check failed');
        return true;
      }
      const runStage = async (name: string, files: string[], concurrency: number): Promise<boolean> =>
        files.length > 0 &&
        (await stage(nodeTestArguments(join(notes, name), files, concurrency, found?.titles ?? [])));
      const plainFailed = await runStage(
        'plain',
        run.filter((path) => !needsRoot.test(path)),
        2,
      );
      // Tests that use the kernel run one after the other: they share links, tables and cgroups.
      const rootedFailed = await runStage(
        'rooted',
        run.filter((path) => needsRoot.test(path)),
        1,
      );
      return plainFailed || rootedFailed;
    });
    const lines = readdirSync(notes).flatMap((name) => readTestLines(readFileSync(join(notes, name), 'utf8')));
    for (const line of found?.waiting ?? []) print(line);
    for (const line of slowestTests(lines)) print(line);
    const why = root ? 'docker and kubectl' : 'root';
    const files = left.map((path) => ({ path, why, text: readFileSync(join(packageRoot, path), 'utf8') }));
    const missing = leftOutTests(lines, files);
    for (const line of missing) print(line);
    if (failed || (missing.length > 0 && process.env['CI'] === 'true')) process.exitCode = 1;
  } finally {
    rmSync(notes, { recursive: true, force: true });
  }
}

/** `notes`: where the reporter of `test/summary.ts` writes. `titles`: only these tests. */
function nodeTestArguments(notes: string, files: string[], concurrency: number, titles: readonly string[]): string[] {
  return [
    '--experimental-ffi',
    '--disable-warning=ExperimentalWarning',
    '--test',
    `--test-timeout=${files.some((path) => path.endsWith('.suite.ts')) ? suiteMsMax : testMsMax}`,
    `--test-concurrency=${concurrency}`,
    ...titles.map((title) => `--test-name-pattern=/${title.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&')}/`),
    '--test-reporter=spec',
    '--test-reporter-destination=stdout',
    `--test-reporter=${join(packageRoot, 'test/summary.ts')}`,
    `--test-reporter-destination=${notes}`,
    ...files,
  ];
}

type Enter = (file: string, args: string[]) => [string, string[]];

/**
 * In a chroot the tests too need a mount namespace whose root they are, like the platform itself
 * (`platform/chroot.ts`).
 */
async function withOwnRoot(root: boolean, run: (enter: Enter) => Promise<boolean>): Promise<boolean> {
  const scratch = mkdtempSync('/var/tmp/tiphys-test-');
  const paths = { home: undefined, data: scratch, run: scratch };
  try {
    if (root) await ensureMountNamespace(paths, linuxProcesses);
    const namespace = mountNamespaceOf(paths);
    return await run((file, args) =>
      namespace === undefined
        ? [file, args]
        : ['nsenter', [`--mount=${namespace}`, `--wdns=${packageRoot}`, '--', file, ...args]],
    );
  } finally {
    const namespace = mountNamespaceOf(paths);
    if (namespace !== undefined) {
      await linuxProcesses.run('umount', [namespace]);
      await linuxProcesses.run('umount', [scratch]);
    }
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Libraries that only tests need: there when the checkout was installed whole. */
async function installDevelopment(): Promise<void> {
  if (
    existsSync(join(packageRoot, 'node_modules/typescript')) &&
    existsSync(join(packageRoot, 'node_modules/fast-check'))
  )
    return;
  if (linuxProcesses.find('npm') === undefined)
    throw new UsageError('npm is missing: apt-get install --no-install-recommends npm');
  print('installing the libraries that the tests need');
  const note = join(packageRoot, 'node_modules/.tiphys-packages');
  const { readIfExists, writeFileAtomic } = await import('#os/files.ts');
  const kept = readIfExists(note);
  const done = await linuxProcesses.spawn(
    'npm',
    ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'],
    {
      directory: packageRoot,
      env: environment,
      stdin: 'ignore',
      stdout: 'ignore',
      stderr: 2,
    },
  ).exit;
  // npm ci begins with an empty node_modules, this very program's included; the file it runs from is there again when
  // it ends.
  if (kept !== undefined) writeFileAtomic(note, kept);
  if (done.code !== 0) throw new Error('npm could not install the libraries of package-lock.json');
}
