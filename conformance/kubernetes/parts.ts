/**
 * A part of the suite is an area (a folder of its sources), either the tests that may run beside others or those that
 * must run alone (Serial). Each part leaves a folder: the log, ginkgo's JUnit report, and what came of each test. One in
 * which a test failed, or which ended before its end, has not passed.
 */
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync, openSync, closeSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

/** All folders of the suite that have a conformance test; `serial` says which have one that must run alone. */
export const areas: readonly { name: string; serial: boolean }[] = [
  { name: 'apimachinery', serial: true },
  { name: 'apps', serial: true },
  { name: 'architecture', serial: false },
  { name: 'auth', serial: false },
  { name: 'common/network', serial: false },
  { name: 'common/node', serial: false },
  { name: 'common/storage', serial: false },
  { name: 'dra', serial: false },
  { name: 'instrumentation', serial: false },
  { name: 'kubectl', serial: false },
  { name: 'network', serial: false },
  { name: 'node', serial: true },
  { name: 'scheduling', serial: true },
  { name: 'storage', serial: true },
];

export interface Part {
  area: string;
  serial: boolean;
  /** Of the tests' names, beside [Conformance]. */
  focus: string | undefined;
}

export interface RunSettings {
  /** Where `bin/e2e.test` and `bin/ginkgo` are. */
  judges: string;
  results: string;
  procs: number;
  limitMinutes: number;
  kubeconfig: string;
  /** Further flags of e2e.test. */
  flags: readonly string[];
}

export interface PartResult {
  passed: string[];
  failed: string[];
  skipped: string[];
  /** False where the limit, or an end of ginkgo, left tests out. */
  whole: boolean;
}

export function titleOf({ area, serial, focus }: Part): string {
  return `${area}${serial ? ', Serial' : ''}${focus === undefined ? '' : `, ${focus}`}`;
}

function directoryOf({ area, serial, focus }: Part, results: string): string {
  const words = focus === undefined ? '' : `.${focus.replaceAll(/[^A-Za-z0-9]+/g, '-')}`;
  return join(results, `${area.replace('/', '-')}${serial ? '.serial' : ''}${words}`);
}

const entities: Readonly<Record<string, string>> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };

function decodeEntities(text: string): string {
  return text.replaceAll(/&(?:#x([0-9A-Fa-f]+)|#(\d+)|(\w+));/g, (all, hex?: string, decimal?: string, name = '') =>
    hex !== undefined
      ? String.fromCodePoint(Number.parseInt(hex, 16))
      : decimal !== undefined
        ? String.fromCodePoint(Number(decimal))
        : (entities[name as string] ?? all),
  );
}

/** What a JUnit report of ginkgo says of each conformance test that the part was to run. */
function readReport(xml: string): Omit<PartResult, 'whole'> & { interrupted: boolean } {
  const result = { passed: [] as string[], failed: [] as string[], skipped: [] as string[], interrupted: false };
  for (const [, name, attributes, rest] of xml.matchAll(/<testcase name="([^"]*)"([^>]*)>([^]{0,200})/g)) {
    const title = decodeEntities(name!);
    const status = /\bstatus="(\w+)"/.exec(attributes!)?.[1];
    if (!title.startsWith('[It] ') || !title.includes('[Conformance]')) {
      if (status !== 'passed' && status !== 'skipped') result.failed.push(title);
      continue;
    }
    const test = title.slice('[It] '.length);
    if (status === 'passed') result.passed.push(test);
    else if (status !== 'skipped') {
      result.failed.push(test);
      result.interrupted ||= ['interrupted', 'aborted', 'timedout'].includes(status ?? '');
    } else if (/<skipped message="skipped - /.test(rest!)) result.skipped.push(test);
  }
  return result;
}

/** The result of an earlier run, if that part was run to its end. */
export function readResult(part: Part, results: string): PartResult | undefined {
  try {
    return JSON.parse(readFileSync(join(directoryOf(part, results), 'result.json'), 'utf8')) as PartResult;
  } catch {
    return undefined;
  }
}

export function hasPassed(result: PartResult | undefined): boolean {
  return result !== undefined && result.whole && result.failed.length === 0 && result.skipped.length === 0;
}

/** One run of ginkgo. Without a bound on the nodes asked for their metrics, each failure waits for minutes. */
export async function runPart(part: Part, settings: RunSettings): Promise<PartResult> {
  const directory = directoryOf(part, settings.results);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const bin = join(settings.judges, 'bin');
  // Two expressions are alternatives to ginkgo, so what must all be in a name is one expression.
  const wanted = String.raw`(${part.focus ?? ''}.*\[Conformance\]|\[Conformance\].*${part.focus ?? ''})`;
  const serial = String.raw`\[Serial\]`;
  const log = openSync(join(directory, 'log'), 'w');
  const child = spawn(
    join(bin, 'ginkgo'),
    [
      'run',
      `--procs=${part.serial ? 1 : settings.procs}`,
      '--no-color',
      '--keep-going',
      '--poll-progress-after=0',
      `--timeout=${settings.limitMinutes}m`,
      `--focus-file=/test/e2e/${part.area}/`,
      ...(part.serial
        ? [`--focus=${serial}.*${wanted}|${wanted}.*${serial}`]
        : [`--focus=${wanted}`, `--skip=${serial}`]),
      join(bin, 'e2e.test'),
      '--',
      `--kubeconfig=${settings.kubeconfig}`,
      '--provider=local',
      `--report-dir=${directory}`,
      '--max-nodes-to-gather-from=1',
      ...settings.flags,
    ],
    { cwd: directory, stdio: ['ignore', log, log], env: { ...process.env, PATH: `${bin}:${process.env.PATH}` } },
  );
  await once(child, 'exit');
  closeSync(log);
  const reports = readdirSync(directory).filter((name) => /^junit_.*\.xml$/.test(name));
  const result: PartResult = { passed: [], failed: [], skipped: [], whole: reports.length > 0 };
  for (const name of reports) {
    const { interrupted, ...read } = readReport(readFileSync(join(directory, name), 'utf8'));
    for (const key of ['passed', 'failed', 'skipped'] as const) result[key].push(...read[key]);
    if (interrupted) result.whole = false;
  }
  writeFileSync(join(directory, 'result.json'), JSON.stringify(result, null, 1));
  return result;
}
