import { test } from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { kinds } from '#base/kinds.ts';
import { createCluster } from '#sim/testing.ts';
import type { JsonResult } from '../rehearse/summary.ts';

const main = fileURLToPath(new URL('../main.ts', import.meta.url));
interface Ended {
  code: number;
  output: string;
  errors: string;
}

/** The command line as a process of its own. */
function tiphys(args: readonly string[], input = '', environment: Record<string, string> = {}): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      ['--no-warnings', main, ...args],
      { env: { ...process.env, ...environment }, maxBuffer: 64 * 2 ** 20 },
      (error, output, errors) => resolve({ code: error === null ? 0 : Number(error.code), output, errors }),
    );
    child.stdin?.end(input);
  });
}

async function inDirectory(run: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'rehearse-'));
  try {
    await run(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const web = (replicas: number): string => `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: ${replicas}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: x, env: [{name: KEY, valueFrom: {secretKeyRef: {name: key, key: token}}}]}]}
---
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {token: hunter2}
`;

test('text: timeline, table, reasons, and a command that repeats the worst seed', () =>
  inDirectory(async (directory) => {
    writeFileSync(join(directory, 'web.yaml'), web(1));
    const { code, output } = await tiphys([
      'rehearse',
      '-f',
      directory,
      '--kill-node',
      '10m',
      '--for',
      '1h',
      '--seeds',
      '9',
    ]);
    assert.equal(code, 1);
    const seed = /^Timeline of seed (\d+), the worst of 9:$/m.exec(output)![1]!;
    assert.match(output, /^ {2}00:10:00 {2}node node-\d dies$/m);
    assert.match(output, /^Deployment default\/web +1 +0 +5 min \d+ s +5 min \d+ s +0 +\d\/9 +unavailable$/m);
    const again = /^The worst again: (tiphys .*)$/m.exec(output)![1]!;
    assert.equal(again, `tiphys rehearse -f ${directory} --kill-node 10m --for 1h --seed ${seed}`);
    const repeated = await tiphys(again.split(' ').slice(1));
    assert.equal(repeated.code, 1);
    const timeline = (text: string): string => text.slice(text.indexOf('\n'), text.indexOf('\nWORKLOAD'));
    assert.equal(timeline(repeated.output), timeline(output));
  }));

test('json: all of each seed; the repeat command gives the same verdicts', () =>
  inDirectory(async (directory) => {
    writeFileSync(join(directory, 'web.yaml'), web(2));
    const args = ['rehearse', '-f', directory, '--kill-node', '5m~30m+10m', '--drain', '40m=node-1', '--for', '1h'];
    const { code, output } = await tiphys([...args, '--seeds', '9', '--json']);
    const result: JsonResult = JSON.parse(output);
    assert.deepEqual([result.format, result.seeds.length, result.failOn], [1, 9, 'unavailable']);
    assert.equal(code, result.failed.length > 0 ? 1 : 0);
    assert.deepEqual(
      result.seeds[0]?.workloads.map(({ kind, namespace, name }) => [kind, namespace, name]),
      [['Deployment', 'default', 'web']],
    );
    assert.deepEqual(
      result.seeds[0]?.drains.map(({ node }) => node),
      ['node-1'],
    );
    const repeated: JsonResult = JSON.parse((await tiphys([...result.repeat.split(' ').slice(1), '--json'])).output);
    assert.deepEqual(repeated.seeds, [result.seeds.find(({ seed }) => seed === result.worst)]);
  }));

test('exit status: 0 fine, 1 from --fail-on on, 2 nothing was rehearsed', () =>
  inDirectory(async (directory) => {
    const path = join(directory, 'web.yaml');
    writeFileSync(path, web(3));
    const base = ['rehearse', '-f', path, '--for', '30m'];
    assert.equal((await tiphys(base)).code, 0);
    assert.equal((await tiphys([...base, '--drain', '5m=node-0'])).code, 0, 'degraded is not unavailable');
    assert.equal((await tiphys([...base, '--drain', '5m=node-0', '--fail-on', 'degraded'])).code, 1);
    writeFileSync(path, web(1));
    const killed = [...base, '--kill-node', '1m=node-0', '--kill-node', '1m=node-1', '--kill-node', '1m=node-2'];
    assert.equal((await tiphys([...killed, '--fail-on', 'broken'])).code, 1, 'all nodes are dead to the end');
    assert.equal((await tiphys(['rehearse', '-f', '-', '--for', '1m'], web(1))).code, 0);
    const wrong: [string[], RegExp][] = [
      [['rehearse'], /name manifests with -f, a live cluster with --from-kubeconfig, or both/],
      [['rehearse', '-f', join(directory, 'none')], /no such file/],
      [[...base, '--kill-node', '5m=node-9'], /there is no node node-9 \(there are node-0, node-1, node-2\)/],
      [[...base, '--kill-node', '5'], /"5" is not a time/],
      [[...base, '--drain', '40m'], /not before the end/],
      [[...base, '--seeds', '0'], /--seeds: "0"/],
      [[...base, '--seeds', '3', '--seed', '1'], /exclude each other/],
      [[...base, '--nodes', '0'], /--nodes: "0"/],
      [[...base, '--fail-on', 'never'], /none of degraded, unavailable, broken/],
      [[...base, '--start', 'noon'], /--start: "noon"/],
      [[...base, '--node-cpu', 'many'], /--node-cpu: "many"/],
      [[...base, '--save', 'x'], /--save needs --from-kubeconfig/],
      [[...base, '--from-kubeconfig', join(directory, 'none')], /there is no file/],
      [[...base, '--bogus'], /unknown option '--bogus'/],
    ];
    for (const [args, words] of wrong) {
      const { code, errors, output } = await tiphys(args);
      assert.equal(code, 2, args.join(' '));
      assert.match(errors, words);
      assert.equal(output, '');
    }
    writeFileSync(path, web(1).replace('replicas', 'replica'));
    const refused = await tiphys(base);
    assert.equal(refused.code, 2);
    assert.match(
      refused.errors,
      /web\.yaml, document 1: Deployment default\/web: .*\.spec\.replica: field not declared in schema/s,
    );
  }));

test('a live cluster is copied over HTTPS: nodes as they are, Secrets by name only; a saved copy repeats what was seen', () =>
  inDirectory(async (directory) => {
    await using cluster = await createCluster({
      nodes: [
        { name: 'alpha', zone: 'a' },
        { name: 'beta', zone: 'b', taints: [{ key: 'gpu', value: 'yes', effect: 'NoSchedule' }] },
        { name: 'gamma', zone: 'c' },
      ],
    });
    await cluster.apply(web(2));
    await cluster.apply(
      'apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: web}\nspec: {minAvailable: 1, selector: {matchLabels: {app: web}}}',
    );
    await cluster.apply(
      'apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: report}\nspec: {schedule: "*/10 * * * *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: x}]}}}}}',
    );
    await cluster.advance('25m');
    await cluster.client.patch(kinds.Node, { name: 'gamma' }, { merge: { spec: { unschedulable: true } } });
    await using server = await cluster.listen({ time: 'wall' });
    const [kubeconfig, copy] = [join(directory, 'kubeconfig'), join(directory, 'copy.yaml')];
    writeFileSync(kubeconfig, server.kubeconfig);
    const { code, output, errors } = await tiphys(
      ['rehearse', '--from-kubeconfig', '--save', copy, '--kill-node', '10m=alpha', '--for', '1h', '--json'],
      '',
      { KUBECONFIG: `${join(directory, 'none')}:${kubeconfig}` },
    );
    assert.equal(errors, '');
    assert.equal(code, 1, 'beta is tainted and gamma cordoned: when alpha dies there is no node left');
    const result: JsonResult = JSON.parse(output);
    assert.deepEqual(
      result.seeds[0]?.workloads.map(({ name, verdict }) => [name, verdict]),
      [['web', 'not whole at the end']],
    );
    assert.match(JSON.stringify(result.seeds[0]?.workloads[0]?.stuck), /untolerated taint \{gpu: yes\}/);
    assert.equal(result.seeds[0]?.budgets[0]?.name, 'web');
    assert.equal(result.seeds[0]?.cronJobs[0]?.name, 'report');
    assert.equal(statSync(copy).mode & 0o777, 0o600);
    assert.doesNotMatch(readFileSync(copy, 'utf8'), /hunter2|aHVudGVyMg/);
    assert.doesNotMatch(result.repeat, /kubeconfig/);
    const repeated: JsonResult = JSON.parse((await tiphys([...result.repeat.split(' ').slice(1), '--json'])).output);
    assert.deepEqual(repeated.seeds, result.seeds);
    const none = await tiphys(['rehearse', '--from-kubeconfig', kubeconfig, '--context', 'other']);
    assert.equal(none.code, 2);
    assert.match(none.errors, /other/);
  }));

test('a cluster that cannot be reached or read is said, with status 2', () =>
  inDirectory(async (directory) => {
    await using cluster = await createCluster({ nodes: 1 });
    let kubeconfig: string;
    {
      await using server = await cluster.listen();
      kubeconfig = server.kubeconfig;
      writeFileSync(join(directory, 'anonymous'), kubeconfig.replace(/^ *client-(certificate|key)-data: .*\n/gm, ''));
      const refused = await tiphys(['rehearse', '--from-kubeconfig', join(directory, 'anonymous')]);
      assert.equal(refused.code, 2, refused.errors + refused.output);
      assert.match(refused.errors, /cannot read the cluster of context sim at https:.*neither certificate nor token/s);
    }
    writeFileSync(join(directory, 'gone'), kubeconfig);
    const gone = await tiphys(['rehearse', '--from-kubeconfig', join(directory, 'gone')]);
    assert.equal(gone.code, 2);
    assert.match(gone.errors, /cannot read the cluster of context sim/);
    writeFileSync(join(directory, 'bad'), 'clusters: [');
    assert.equal((await tiphys(['rehearse', '--from-kubeconfig', join(directory, 'bad')])).code, 2);
  }));
