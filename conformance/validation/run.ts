/**
 * `conformance/validation/run`: mutated objects of every kind, each sent to kube-apiserver and to Tiphys' API server;
 * compared are code and reason, the causes' paths and types, warnings, the object as it would be stored and the columns
 * of its table. `--only` shows one mutant of a kind with both answers, `--messages` what differs in
 * the words of messages, which does not count.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { join, resolve } from 'node:path';
import { spawnSync } from 'node:child_process';
import type { KubeObject } from '#base/objects.ts';
import { fieldOf } from '#base/unknown.ts';
import { creationOf, questionOf } from './ask.ts';
import { collectCorpus, loadBases, namespaceOf } from './bases.ts';
import { compareReplies } from './compare.ts';
import { Mutator, onExisting } from './mutate.ts';
import type { Mutant } from './mutate.ts';
import { KindReport } from './report.ts';
import { loadKinds, pathOf } from './schemas.ts';
import type { ServedKind } from './schemas.ts';
import { openSubject, startJudge } from './side.ts';
import type { Reply, Side } from './side.ts';
import { Values } from './values.ts';

const { values: options } = parseArgs({
  options: {
    judges: { type: 'string' },
    kind: { type: 'string', multiple: true },
    mutants: { type: 'string', default: '10000' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    show: { type: 'string', default: '20' },
    only: { type: 'string' },
    messages: { type: 'boolean', default: false },
  },
});
const atOnce = 8;
const settleMs = 300;

if (options.judges === undefined)
  throw new Error('--judges DIRECTORY says where kube-apiserver and etcd are, or are to be built');
const judges = resolve(options.judges);
for (const name of ['kube-apiserver', 'etcd']) {
  const script = join(import.meta.dirname, '../kubernetes/judges.sh');
  const { status } = spawnSync('sh', [script, judges, name], { stdio: ['ignore', 2, 2] });
  if (status !== 0) throw new Error(`${name} could not be built: ${status}`);
}
const seed = Number(options.seed);
await using judge = await startJudge(join(judges, 'bin'));
await using subject = await openSubject();
const sides: readonly Side[] = [subject, judge];
const { kinds, schemas } = await loadKinds(judge);
const bases = loadBases();
const mutator = new Mutator(schemas, new Values(schemas, collectCorpus(bases, kinds, schemas)));
const nameOf = ({ apiVersion, kind }: { apiVersion?: string; kind?: string }): string => `${apiVersion}/${kind}`;
const isChosen = (kind: ServedKind): boolean =>
  options.kind === undefined || options.kind.some((name) => name === kind.kind || name === nameOf(kind));
const kindOf = (base: KubeObject): ServedKind | undefined => kinds.find((kind) => nameOf(kind) === nameOf(base));

/** Of the bases that are there, by side and base. */
const versions = new Map<Side, Map<KubeObject, string>>(sides.map((side) => [side, new Map()]));

async function make(base: KubeObject): Promise<void> {
  const kind = kindOf(base);
  if (kind === undefined) throw new Error(`the judge has no ${nameOf(base)}`);
  for (const side of sides) {
    const { status, body } = await side.ask(creationOf(kind, base));
    const version = fieldOf(body, 'metadata', 'resourceVersion');
    if (typeof version === 'string') versions.get(side)!.set(base, version);
    if (status >= 300)
      console.log(`${nameOf(base)} ${base.metadata?.name}: ${side.name} refuses the base: ${JSON.stringify(body)}`);
  }
}

/** What a controller within the server writes of a new object has settled, and the version is the last. */
async function noteVersions(kind: ServedKind, own: readonly KubeObject[]): Promise<void> {
  await sleep(settleMs);
  for (const base of own)
    for (const side of sides) {
      const path = `${pathOf(kind, namespaceOf(base))}/${base.metadata?.name}`;
      const { body } = await side.ask({ method: 'GET', path, headers: { accept: 'application/json' } });
      const version = fieldOf(body, 'metadata', 'resourceVersion');
      if (typeof version === 'string') versions.get(side)!.set(base, version);
    }
}

async function askBoth(kind: ServedKind, mutant: Mutant): Promise<[Reply, Reply]> {
  const ask = (side: Side): Promise<Reply> => side.ask(questionOf(kind, mutant, versions.get(side)!.get(mutant.base)));
  return [await ask(subject), await ask(judge)];
}

/** Mutants one after the other, several at once. */
async function runMutants(kind: ServedKind, mutants: readonly Mutant[], report: KindReport): Promise<void> {
  let next = 0;
  const work = async (): Promise<void> => {
    for (;;) {
      const mutant = mutants[next++];
      if (mutant === undefined) return;
      const [mine, theirs] = await askBoth(kind, mutant);
      if (theirs.status === 0) {
        console.log(`${nameOf(kind)}: ${judge.name} does not answer --seed ${seed} --only ${mutant.index}`);
        continue;
      }
      report.add(mutant, theirs.status < 300, compareReplies(mine, theirs));
      if (options.only !== undefined) show(kind, mutant, mine, theirs);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
}

function show(kind: ServedKind, mutant: Mutant, mine: Reply, theirs: Reply): void {
  const { method, path } = questionOf(kind, mutant);
  console.log(`${method} ${path}\n${mutant.steps.join('\n')}\n${JSON.stringify(mutant.object)}`);
  console.log(`${subject.name}: ${JSON.stringify(mine)}\n${judge.name}: ${JSON.stringify(theirs)}`);
}

for (const side of sides) {
  const headers = { 'content-type': 'application/json' };
  const namespace = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'limited' } };
  await side.ask({ method: 'POST', path: '/api/v1/namespaces', body: JSON.stringify(namespace), headers });
  const account = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default' } };
  const path = '/api/v1/namespaces/default/serviceaccounts';
  await side.ask({ method: 'POST', path, body: JSON.stringify(account), headers });
}
const ordered = [...new Set(bases.flatMap((base) => kindOf(base) ?? []))];
for (const base of bases) if (!isChosen(kindOf(base)!) && isStored(kindOf(base)!)) await make(base);
for (const kind of kinds)
  if (isChosen(kind) && !ordered.includes(kind)) console.log(`${nameOf(kind)}: no base, not compared`);

/** Reviews are answered, not kept. */
function isStored(kind: ServedKind): boolean {
  return !kind.kind.endsWith('Review');
}

const reports: KindReport[] = [];
for (const kind of ordered.filter(isChosen)) {
  const own = bases.filter((base) => kindOf(base) === kind);
  const report = new KindReport(nameOf(kind), seed);
  const indexes =
    options.only === undefined ? Array.from({ length: Number(options.mutants) }, (_, i) => i) : [Number(options.only)];
  const mutants = indexes.map((index) => mutator.make(kind, own, { seed, index }));
  await runMutants(
    kind,
    mutants.filter(({ operation }) => !onExisting.includes(operation)),
    report,
  );
  if (isStored(kind)) {
    for (const base of own) await make(base);
    await noteVersions(kind, own);
  }
  await runMutants(
    kind,
    mutants.filter(({ operation }) => onExisting.includes(operation)),
    report,
  );
  report.print(Number(options.show), options.messages);
  reports.push(report);
}
console.log(`\nseed ${seed}`);
for (const report of reports) console.log(report.line());
process.exitCode = reports.every((report) => report.passes) ? 0 : 1;
