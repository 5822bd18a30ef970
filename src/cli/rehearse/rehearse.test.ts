import { test } from 'node:test';
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { KubeObject } from '#base/objects.ts';
import { fieldOf } from '#base/unknown.ts';
import { sampleOf, type TestJson } from '#base/testing.ts';
import { kinds } from '#base/kinds.ts';
import type { NamedObject } from '#sim/manifests.ts';
import type { Rehearsal } from '#sim/rehearse/types.ts';
import { repeatCommand } from '../commands/rehearse.ts';
import { UsageError } from '../output.ts';
import { cleaned, nodeManifest, simulatedNode, takenByNode } from './clean.ts';
import { readDuration, readFaults, readMoment } from './faults.ts';
import { readManifests, type ManifestSet } from './manifests.ts';
import { jsonResult, summaryOf } from './summary.ts';

function withFiles(files: Record<string, string>, run: (directory: string) => void): void {
  const directory = mkdtempSync(join(tmpdir(), 'rehearse-'));
  try {
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(directory, path)), { recursive: true });
      writeFileSync(join(directory, path), text);
    }
    run(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
const read = (path: string, more: Partial<Parameters<typeof readManifests>[1]> = {}): ManifestSet =>
  readManifests([path], { recursive: false, namespace: undefined, readInput: () => '', ...more });
const refuses = (run: () => unknown, words: RegExp): void =>
  assert.throws(run, (error) => error instanceof UsageError && words.test(error.message));
const configMap = (name: string): string => `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ${name}}\n`;

test('moments are TIME[~LATEST][+FOR][=NAME]', () => {
  assert.deepEqual(readMoment('--drain', '10m'), { atMs: 600_000 });
  assert.deepEqual(readMoment('--drain', '10m~1h+90s=node-1'), {
    atMs: 600_000,
    latestMs: 3_600_000,
    forMs: 90_000,
    target: 'node-1',
  });
  assert.deepEqual(readMoment('--then', '0=a=b'), { atMs: 0, target: 'a=b' });
  for (const wrong of ['', '10', '10x', '-5m', '10m+', '10m~', '10m=', '=node-1', '10m+5m~20m', '20m~10m'])
    refuses(() => readMoment('--drain', wrong), /^--drain: /);
  refuses(() => readDuration('--for', 'soon'), /--for: "soon" is not a time like 90s, 10m or 2h/);
  refuses(() => readFaults('kill-node', ['10m~3h'], 7_200_000), /--kill-node 10m~3h: that is not before the end/);
  refuses(() => readFaults('api-down', ['1m=all'], 7_200_000), /there is one API server/);
});

test('the command that repeats a seed is the one that was given', () => {
  assert.equal(
    repeatCommand(['rehearse', '-f', 'my dir', '--seeds', '50', '--json', '--kill-node', '10m~20m+5m=a'], 7),
    "tiphys rehearse -f 'my dir' --kill-node 10m~20m+5m=a --seed 7",
  );
  assert.equal(
    repeatCommand(['rehearse', '--seeds=50', '--from-kubeconfig', 'k', '--for', '1h'], 7),
    'tiphys rehearse --from-kubeconfig k --for 1h --seed 7',
  );
  assert.equal(
    repeatCommand(
      ['rehearse', '-f', 'more', '--from-kubeconfig', 'k', '--context', 'c', '--save', 's.yaml', '--seed', '3'],
      3,
    ),
    'tiphys rehearse -f s.yaml -f more --seed 3',
  );
  assert.equal(
    repeatCommand(['rehearse', '--from-kubeconfig', '--save=s.yaml', '--drain', '1m'], 3),
    'tiphys rehearse -f s.yaml --drain 1m --seed 3',
  );
});

test('manifests: files in order of their names, documents, lists, namespaces, standard input', () =>
  withFiles(
    {
      'b.yaml': `${configMap('b1')}---\n---\n${configMap('b2')}`,
      'a.json':
        '{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}},{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"n"}}]}',
      'notes.txt': 'no',
      'deep/c.yml': configMap('c'),
    },
    (directory) => {
      const origins = (set: ManifestSet): string[] =>
        set.manifests.map(({ object, origin }) => `${object.metadata.name} ${origin.slice(directory.length + 1)}`);
      assert.deepEqual(origins(read(directory)), [
        'a a.json, item 1',
        'n a.json, item 2',
        'b1 b.yaml, document 1',
        'b2 b.yaml, document 2',
      ]);
      assert.deepEqual(origins(read(directory, { recursive: true })).at(-1), 'c deep/c.yml');
      assert.deepEqual(
        read(join(directory, 'a.json'), { namespace: 'shop' }).manifests.map(({ object }) => object.metadata.namespace),
        ['shop', undefined],
      );
      assert.deepEqual(
        read('-', { readInput: () => configMap('in') }).manifests.map(({ origin }) => origin),
        ['standard input'],
      );
    },
  ));

test('what cannot be read is refused with file and line', () =>
  withFiles(
    {
      'empty/notes.txt': '',
      'below/deep/c.yaml': configMap('c'),
      'indent.yaml': 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n   b: c\n',
      'twice.yaml': 'kind: A\nkind: B\n',
      'text.yaml': 'hello',
      'kind.yaml': `${configMap('a')}---\nkind: ConfigMap\n`,
      'name.yaml': 'apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\n',
      'comma.json': '{"a":\n1,,}',
      'template.yaml': 'kind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\n',
      'chart/Chart.yaml': 'name: a',
      'kustom/kustomization.yaml': 'resources: []',
      'folder.yaml/x.txt': '',
    },
    (directory) => {
      symlinkSync(join(directory, 'nowhere'), join(directory, 'dangling.yaml'));
      const fails = (name: string, words: RegExp): void => refuses(() => read(join(directory, name)), words);
      fails('nothing', /nothing: no such file or directory/);
      fails('dangling.yaml', /dangling.yaml: no such file or directory/);
      fails('empty', /no manifests \(files that end in/);
      fails('folder.yaml', /no manifests/);
      fails('below', /only in directories below \(-R reads them too\)/);
      fails('indent.yaml', /indent\.yaml:5:5: bad indentation/);
      fails('twice.yaml', /twice\.yaml:2:1: duplicated mapping key/);
      fails('comma.json', /comma\.json:2:3: /);
      fails('text.yaml', /not an object but "hello"/);
      fails('kind.yaml', /kind\.yaml, document 2: apiVersion is missing/);
      fails('name.yaml', /generateName makes a new object each time/);
      fails('template.yaml', /\(line 3 looks like a template's: render it first/);
      fails('chart', /is a Helm chart: render it first/);
      fails('kustom', /is a kustomization: render it first/);
      refuses(() => read('-', { readInput: () => '---\n' }), /^-: no manifests/);
    },
  ));

test('objects of a server become manifests again; what it made itself is left out', () => {
  const from = (object: TestJson): NamedObject => ({
    ...object,
    metadata: { uid: 'u', resourceVersion: '5', managedFields: [], namespace: 'shop', name: 'a', ...object.metadata },
  });
  const manifest = (object: TestJson): KubeObject => {
    const result = cleaned(from(object));
    assert.ok('manifest' in result, JSON.stringify(result));
    return result.manifest;
  };
  assert.deepEqual(
    manifest({
      apiVersion: 'v1',
      kind: 'Service',
      spec: { clusterIP: '10.0.0.1', clusterIPs: ['10.0.0.1'], ports: [] },
      status: {},
    }),
    { apiVersion: 'v1', kind: 'Service', metadata: { name: 'a', namespace: 'shop' }, spec: { ports: [] } },
  );
  assert.deepEqual(
    manifest({
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { annotations: { 'deployment.kubernetes.io/revision': '3', mine: 'x' } },
      spec: { replicas: 1 },
    }).metadata.annotations,
    { mine: 'x' },
  );
  // Others have kinds of the same names.
  const volcano = {
    apiVersion: 'batch.volcano.sh/v1alpha1',
    kind: 'Job',
    spec: { selector: { a: 'b' }, tasks: [] },
    status: { conditions: [{ type: 'Complete', status: 'True' }] },
  };
  assert.deepEqual(fieldOf(manifest(volcano), 'spec'), volcano.spec);
  const leftOut = [
    { kind: 'ReplicaSet', metadata: { ownerReferences: [{ kind: 'Deployment', controller: true }] } },
    { kind: 'Pod', metadata: { annotations: { 'kubernetes.io/config.mirror': 'x' } } },
    { apiVersion: 'v1', kind: 'Pod', status: { phase: 'Failed' } },
    { kind: 'ConfigMap', metadata: { name: 'kube-root-ca.crt' } },
    { kind: 'Event' },
    { apiVersion: 'batch/v1', kind: 'Job', status: { conditions: [{ type: 'Complete', status: 'True' }] } },
  ];
  for (const object of leftOut) assert.deepEqual(cleaned(from(object)), { leftOut: undefined }, JSON.stringify(object));
  assert.match(
    (
      cleaned(
        from({ kind: 'Pod', metadata: { ownerReferences: [{ kind: 'Ship', name: 's', controller: true }] } }),
      ) as TestJson
    ).leftOut,
    /belongs to Ship s, whose controller does not run here/,
  );
});

test('nodes are simulated as they are, less what Pods take that are not copied, and can be written as manifests', () => {
  const pods = [
    sampleOf(kinds.Pod, {
      metadata: { name: 'static', annotations: { 'kubernetes.io/config.mirror': 'x' } },
      spec: { nodeName: 'a', containers: [{ resources: { requests: { cpu: '500m', memory: '1Gi' } } }] },
    }),
  ];
  const node = sampleOf(kinds.Node, {
    metadata: { name: 'a', labels: { zone: 'z' } },
    spec: {
      unschedulable: true,
      taints: [
        { key: 'gpu', effect: 'NoSchedule' },
        { key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' },
      ],
    },
    status: {
      allocatable: { cpu: '4', memory: '8Gi', pods: '20', 'nvidia.com/gpu': '2' },
      images: [{ names: ['x'] }],
      conditions: [{ type: 'Ready', status: 'False' }],
    },
  });
  const simulated = simulatedNode(node, takenByNode(pods).get('a'));
  assert.deepEqual(simulated, {
    name: 'a',
    labels: { zone: 'z' },
    extended: { 'nvidia.com/gpu': '2' },
    cpu: '3500m',
    memory: '7Gi',
    pods: 20,
    taints: [{ key: 'gpu', effect: 'NoSchedule' }],
    images: ['x'],
    unschedulable: true,
    isDown: true,
  });
  assert.deepEqual(simulatedNode(nodeManifest(simulated)), simulated);
});

const rehearsal = (seed: number, downSeconds: number, lowestReady: number): Rehearsal => ({
  seed,
  virtualSeconds: 60,
  jobs: [],
  cronJobs: [],
  drains: [],
  rollouts: [],
  timeline: [],
  budgets: [{ namespace: 'd', name: 'b', brokenSeconds: downSeconds, refused: 0 }],
  workloads: [
    {
      kind: 'Deployment',
      namespace: 'd',
      name: 'w',
      wanted: 2,
      lowestReady,
      belowSeconds: downSeconds,
      downSeconds,
      restarts: 0,
      stuck: [],
      verdict: downSeconds > 0 ? 'unavailable' : 'ok',
    },
  ],
});

test('a summary holds the worst of each number, and which seeds show it', () => {
  const all = [rehearsal(1, 0, 2), rehearsal(2, 30, 0), rehearsal(3, 50, 0)];
  const { workloads, budgets } = summaryOf(all);
  assert.deepEqual(
    workloads.map(({ lowestReady, downSeconds, seeds, verdict }) => [lowestReady, downSeconds, seeds, verdict]),
    [[0, 50, [2, 3], 'unavailable']],
  );
  assert.deepEqual(
    budgets.map(({ brokenSeconds, seeds }) => [brokenSeconds, seeds]),
    [[50, [2, 3]]],
  );
  const result = jsonResult(all, { name: 'unavailable', severity: 2 }, (seed) => `again ${seed}`, []);
  assert.deepEqual([result.format, result.worst, result.repeat, result.failed], [1, 3, 'again 3', [2, 3]]);
  assert.deepEqual(jsonResult(all, { name: 'broken', severity: 3 }, () => '', []).failed, []);
});
