/**
 * `conformance/kubernetes/run`: Kubernetes' conformance suite, pinned and unchanged, against a cluster that runs. What
 * is missing of the judges (judges.sh) and of the images (images.sh) is built first, a quarter of an hour on two cores.
 * Parts (parts.ts) run one after the other; one that has passed is not run again unless --again or --focus asks for it.
 */
import { accessSync, constants, mkdirSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { delimiter, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { areas, hasPassed, readResult, runPart, titleOf } from './parts.ts';
import type { Part, PartResult, RunSettings } from './parts.ts';

const { values } = parseArgs({
  options: {
    judges: { type: 'string' },
    results: { type: 'string', default: 'results' },
    area: { type: 'string', multiple: true },
    focus: { type: 'string' },
    again: { type: 'boolean', default: false },
    procs: { type: 'string', default: '6' },
    limit: { type: 'string', default: '25' },
    flag: { type: 'string', multiple: true, default: [] },
  },
});

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function isOnPath(name: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => isProgram(join(folder, name)));
}

/** What each tool is for, of those that this machine lacks and this run needs. */
function listMissing(judges: string): string[] {
  const built = ['e2e.test', 'ginkgo', 'kubectl', 'agnhost', 'nonewprivs', 'pause', 'sample-apiserver', 'etcd'];
  const unbuilt = built.filter((name) => !isProgram(join(judges, 'bin', name)));
  return [
    ...(unbuilt.length > 0 && !isOnPath('go')
      ? [`go, to build ${unbuilt.join(', ')} from their modules (or a --judges directory that has them in bin)`]
      : []),
    ...(unbuilt.some((name) => name !== 'sample-apiserver' && name !== 'etcd') && !isOnPath('gcc')
      ? ['gcc, to build pause, e2e.test and kubectl']
      : []),
    ...(isOnPath('docker') ? [] : ['the docker CLI, to build the images into the engine']),
    ...(process.env.KUBECONFIG ? [] : ['KUBECONFIG, the cluster to judge']),
    ...(process.env.DOCKER_HOST ? [] : ['DOCKER_HOST, the engine of its nodes']),
  ];
}

/** Runs one of the scripts beside this file, its words on the standard error. */
function runScript(name: string, ...words: string[]): void {
  const { status } = spawnSync('sh', [join(import.meta.dirname, name), ...words], { stdio: ['ignore', 2, 2] });
  if (status !== 0) throw new Error(`${name} ${words.join(' ')} ended with ${status}`);
}

function listParts(): Part[] {
  const chosen = values.area ?? areas.map((area) => area.name);
  const unknown = chosen.filter((name) => !areas.some((area) => area.name === name));
  if (unknown.length > 0)
    throw new Error(`no area ${unknown.join(', ')}; there are ${areas.map((area) => area.name).join(', ')}`);
  const of = (serial: boolean): Part[] =>
    areas
      .filter((area) => chosen.includes(area.name) && (!serial || area.serial))
      .map((area) => ({ area: area.name, serial, focus: values.focus }));
  return [...of(false), ...of(true)];
}

function describe({ passed, failed, skipped, whole }: PartResult): string {
  const counts = `${passed.length} passed, ${failed.length} failed, ${skipped.length} skipped`;
  return whole ? counts : `${counts}; it did not come to its end`;
}

if (values.judges === undefined) throw new Error('--judges DIRECTORY says where the suite is, or is to be built');
const settings: RunSettings = {
  judges: resolve(values.judges),
  results: resolve(values.results),
  procs: Number(values.procs),
  limitMinutes: Number(values.limit),
  kubeconfig: resolve(process.env.KUBECONFIG ?? ''),
  flags: values.flag,
};
const parts = listParts();
const missing = listMissing(settings.judges);
for (const what of missing) console.error(`missing: ${what}`);
if (missing.length > 0) process.exit(2);
mkdirSync(settings.results, { recursive: true });
for (const name of ['e2e.test', 'ginkgo', 'kubectl']) runScript('judges.sh', settings.judges, name);
runScript('images.sh', settings.judges);

const all: PartResult = { passed: [], failed: [], skipped: [], whole: true };
for (const part of parts) {
  const before = values.again || part.focus !== undefined ? undefined : readResult(part, settings.results);
  const result = before !== undefined && hasPassed(before) ? before : await runPart(part, settings);
  console.log(`${titleOf(part)}: ${describe(result)}${result === before ? ' (earlier)' : ''}`);
  for (const name of result.failed) console.log(`  failed: ${name}`);
  for (const name of result.skipped) console.log(`  skipped: ${name}`);
  for (const key of ['passed', 'failed', 'skipped'] as const) all[key].push(...result[key]);
  all.whole &&= result.whole;
}
console.log(`all: ${describe(all)}`);
process.exitCode = hasPassed(all) ? 0 : 1;
