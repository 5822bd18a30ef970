/**
 * A backup that is made under load, restored on what looks like another machine (another home and host name): all that
 * the cluster was is there and goes on; what is wrong with a file is said before anything is made; who is killed leaves
 * nothing, or what is repeated.
 */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { kinds } from '#base/kinds.ts';
import { loadKubeconfig } from '#client/kubeconfig.ts';
import type { Client } from '#client/client.ts';
import { createClient } from '#client/rest-client.ts';
import { createHttpTransport } from '#client/transport-http.ts';
import { realClock } from '#os/clock.real.ts';
import { startS3, testAccess } from '#platform/backup/s3.testing.ts';
import { createMachine, run, type Machine, type Output } from './machine.ts';

const writers = 32;

const workload = (image: string): string => `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Secret
metadata: {name: secret}
stringData: {word: geheim}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: reader}]
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {selector: {app: db}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: c
        image: ${image}
        imagePullPolicy: IfNotPresent
        command: [sh, -c, 'echo begun >>/data/starts; exec busybox httpd -f -p 80 -h /data']
        volumeMounts: [{name: d, mountPath: /data}]
      volumes: [{name: d, persistentVolumeClaim: {claimName: data}}]
---
apiVersion: v1
kind: Pod
metadata: {name: alone}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "app:1", imagePullPolicy: IfNotPresent, command: [sh, -c, 'busybox cat /secret/word; exec busybox sleep 100000'], volumeMounts: [{name: s, mountPath: /secret}]}]
  volumes: [{name: s, secret: {secretName: secret}}]
`;

/** As on a machine of this name. */
function tiphysOn(host: string, machine: Machine, args: string[]): Promise<Output> {
  const script = 'hostname "$1"; shift; exec ./tiphys "$@"';
  return run('unshare', ['--uts', '/bin/sh', '-c', script, 'sh', host, ...args], machine.environment, {
    timeoutMs: 240_000,
  });
}

async function good(work: Promise<Output>): Promise<string> {
  const { code, stdout, stderr } = await work;
  assert.equal(code, 0, stdout + stderr);
  return stdout;
}

async function bad(work: Promise<Output>, says: RegExp): Promise<void> {
  const { code, stdout, stderr } = await work;
  assert.notEqual(code, 0, stdout);
  assert.match(stderr, says);
}

/** Writes pairs of ConfigMaps, the first before the second, until it is told to stop. */
class Load {
  readonly #client: Client;
  readonly #acknowledged: number[] = [];
  #running = true;
  readonly #work: Promise<unknown>;

  constructor(client: Client) {
    this.#client = client;
    this.#work = Promise.all(Array.from({ length: writers }, (_, writer) => this.#write(writer)));
  }

  async #write(writer: number): Promise<void> {
    for (const name of [`first-${writer}`, `second-${writer}`])
      await this.#client.create(kinds.ConfigMap, {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name, namespace: 'default' },
        data: { round: '0' },
      });
    for (let round = 1; this.#running; round++) {
      for (const name of [`first-${writer}`, `second-${writer}`])
        await this.#client.patch(
          kinds.ConfigMap,
          { name, namespace: 'default' },
          { merge: { data: { round: String(round) } } },
        );
      this.#acknowledged[writer] = round;
    }
  }

  /** Rounds that were acknowledged by now. */
  rounds(): number[] {
    return Array.from({ length: writers }, (_, writer) => this.#acknowledged[writer] ?? 0);
  }

  async end(): Promise<void> {
    this.#running = false;
    await this.#work;
  }
}

const clientOf = (machine: Machine, stack: AsyncDisposableStack): Client =>
  createClient(
    stack.use(createHttpTransport({ ...loadKubeconfig(`${machine.home}/run/admin.conf`), clock: realClock })),
    'test',
  );

/** What no controller changes by itself, without versions and who wrote it. */
async function lasting(machine: Machine): Promise<unknown> {
  const names = 'secrets,serviceaccounts,services,configmaps,roles,rolebindings,clusterroles,storageclasses,pvc';
  const text = await machine.kube('get', names, '-A', '-o', 'json', '--show-managed-fields=false');
  const { items } = JSON.parse(text) as { items: { kind: string; metadata: Record<string, unknown> }[] };
  return items
    .filter(({ metadata }) => !isOfMachine(String(metadata['name'])))
    .map((item) => ({ ...item, status: undefined, metadata: { ...item.metadata, resourceVersion: undefined } }));
}

/** Written by a server about itself, and pairs of the load. */
const isOfMachine = (name: string): boolean =>
  /^(tiphys-cluster|tiphys-removed-nodes|cluster-info|first-\d+|second-\d+|bootstrap-token-.*)$/.test(name);

async function buildImages(machine: Machine, registry: string): Promise<void> {
  const context = join(machine.home, 'image');
  mkdirSync(join(context, 'bin'), { recursive: true });
  copyFileSync('/bin/busybox', join(context, 'bin/busybox'));
  symlinkSync('busybox', join(context, 'bin/sh'));
  writeFileSync(join(context, 'Dockerfile'), 'FROM scratch\nCOPY bin /bin\nENV PATH=/bin\n');
  await good(machine.docker('build', '-q', '-t', 'app:1', '-t', `${registry}/team/app:2`, context));
  await good(machine.docker('push', '-q', `${registry}/team/app:2`));
  await good(machine.docker('rmi', `${registry}/team/app:2`));
}

/** What a volume holds on the disk of its machine. */
function filesOf(machine: Machine): Record<string, string> {
  const volumes = join(machine.home, 'data/volumes');
  const [directory = ''] = readdirSync(volumes);
  return Object.fromEntries(
    readdirSync(join(volumes, directory)).map((name) => {
      const path = join(volumes, directory, name);
      const { mode, uid, size, mtimeMs } = statSync(path);
      return [name, JSON.stringify({ mode, uid, size, mtime: Math.floor(mtimeMs), text: readFileSync(path, 'utf8') })];
    }),
  );
}

async function consistentRounds(client: Client): Promise<number[]> {
  const { items } = await client.list(kinds.ConfigMap, { namespace: 'default' });
  const round = (name: string): number => Number(items.find(({ metadata }) => metadata.name === name)?.data?.['round']);
  return Array.from({ length: writers }, (_, writer) => {
    const [first, second] = [round(`first-${writer}`), round(`second-${writer}`)];
    assert.ok(first === second || first === second + 1, `one revision: ${first} and ${second}`);
    return second;
  });
}

test('a cluster is backed up under load and goes on elsewhere', { timeout: 900_000 }, async (t) => {
  await using stack = new AsyncDisposableStack();
  const old = stack.use(createMachine());
  const made = stack.use(createMachine());
  await good(old.tiphys(['up']));
  const { registryPort } = JSON.parse(readFileSync(join(old.home, 'data/instance.json'), 'utf8')) as {
    registryPort: number;
  };
  const registry = `127.0.0.1:${registryPort}`;
  await buildImages(old, registry);
  await old.apply(workload(`${registry}/team/app:2`));
  await old.kube('rollout', 'status', 'statefulset/db', '--timeout=90s');
  await old.kube('wait', '--for=condition=Ready', 'pod/alone', '--timeout=60s');
  await good(run('./tiphys', ['registry-user', 'ada'], old.environment, { input: 'a long password\n' }));
  const token = (await old.kube('create', 'token', 'reader', '--duration=24h')).trim();
  const pass = old.file('pass', 'correct horse battery\n');
  const file = old.file('kept/b.age', '');
  const seal = ['--passphrase-file', pass];

  const before = await lasting(old);
  let known: number[] = [];
  let lastVersion = 0;
  await t.test('while hundreds of writes a second go on', async () => {
    await using access = new AsyncDisposableStack();
    const client = clientOf(old, access);
    const load = new Load(client);
    await old.until('writes', async () => String(Math.min(...load.rounds())), /^[1-9]/);
    known = load.rounds();
    const begunMs = performance.now();
    const said = await good(old.tiphys(['backup', file, ...seal, '--json'], 240_000));
    const rounds = load.rounds().reduce((sum, round, writer) => sum + round - (known[writer] ?? 0), 0);
    t.diagnostic(`${Math.round((2000 * rounds) / (performance.now() - begunMs))} writes a second meanwhile`);
    await load.end();
    const { metadata } = await client.list(kinds.ConfigMap, { namespace: 'default' });
    lastVersion = Number(metadata?.resourceVersion);
    const result = JSON.parse(said) as { images: string[]; volumes: { claim: string }[]; leftOut: string[] };
    assert.deepEqual(result.images, ['docker.io/library/app:1']);
    assert.deepEqual(
      result.volumes.map(({ claim }) => claim),
      ['default/data'],
    );
    assert.deepEqual(result.leftOut, []);
    assert.equal(statSync(file).mode & 0o777, 0o600);
    assert.deepEqual(readdirSync(join(old.home, 'kept')), ['b.age'], 'nothing is left beside it');
  });

  await t.test('a file that is not whole, or not ours, is refused, and nothing is made', async () => {
    const spoilt = join(old.home, 'spoilt.age');
    copyFileSync(file, spoilt);
    truncateSync(spoilt, statSync(file).size - 100);
    const wrong = old.file('wrong', 'a wrong passphrase\n');
    await bad(made.tiphys(['restore', spoilt, '-y', '--passphrase-file', wrong]), /not the passphrase/);
    await bad(made.tiphys(['restore', pass, '-y', ...seal]), /no backup/);
    await bad(made.tiphys(['restore', `${file}x`, '-y', ...seal]), /there is no/);
    await bad(made.tiphys(['restore', file, '-y']), /--passphrase-file FILE, or --identity/);
    // The networks of the first one are in use.
    await bad(made.tiphys(['restore', file, '-y', ...seal]), /Services of this cluster have addresses of/);
    await bad(old.tiphys(['restore', file, '-y', ...seal]), /there is a cluster in .* already/);
    assert.ok(!existsSync(join(made.home, 'data')));
    await good(old.tiphys(['down']));
    await bad(made.tiphys(['restore', spoilt, '-y', ...seal]), /cut off, or altered/);
    assert.ok(!existsSync(join(made.home, 'data')));
  });
  const files = filesOf(old);

  await t.test('a restore that is killed is no cluster, and is repeated', async () => {
    const child = spawn('./tiphys', ['restore', file, '-y', ...seal], {
      env: { ...process.env, ...made.environment },
      stdio: 'ignore',
    });
    const ended = new Promise((resolve) => child.once('exit', resolve));
    // Its keys are there, and more is to come.
    await made.until('it has begun', async () => String(existsSync(join(made.home, 'data/keys.json'))), /true/, 60_000);
    child.kill('SIGKILL');
    await ended;
    assert.ok(!existsSync(join(made.home, 'data/instance.json')));
    await bad(made.tiphys(['up']), /a restore into .* was interrupted: run 'tiphys restore' again/);
  });

  await t.test('all of it is there, on a machine of another name', async () => {
    const said = await good(tiphysOn('fresh', made, ['restore', file, '-y', ...seal]));
    assert.match(said, /Nodes that are not there: /);
    assert.deepEqual(await lasting(made), before);
    await using access = new AsyncDisposableStack();
    const client = clientOf(made, access);
    const rounds = await consistentRounds(client);
    for (const [writer, round] of rounds.entries())
      assert.ok(round >= (known[writer] ?? 0), 'what was acknowledged before it began is in it');
    const { metadata } = await client.list(kinds.ConfigMap, { namespace: 'default' });
    assert.ok(Number(metadata?.resourceVersion) > lastVersion);
    const watch = `/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=5&resourceVersion=${lastVersion}`;
    const { stdout, stderr } = await made.kubectl('get', '--raw', watch);
    assert.match(stdout + stderr, /"code":410|too old resource version/);
  });

  await t.test('nodes that are not there are shown as such, and their Pods run here', async () => {
    const nodes = await made.kube('get', 'nodes');
    assert.match(nodes, /^fresh +Ready/m);
    assert.match(nodes, /^(?!fresh )\S+ +NotReady/m);
    await made.kube('rollout', 'status', 'statefulset/db', '--timeout=90s');
    await made.kube('wait', '--for=condition=Ready', 'pod/alone', '--timeout=60s');
    const places = await made.kube('get', 'pods', '-o', 'jsonpath={.items[*].spec.nodeName}');
    assert.equal(places, 'fresh fresh');
    assert.equal(await made.kube('logs', 'alone'), 'geheim', 'a Secret is read');
    const { starts = '', ...others } = filesOf(made);
    assert.match(starts, /begun\\nbegun\\n/, 'the volume of before, and the Pod that begins again');
    assert.deepEqual(others, Object.fromEntries(Object.entries(files).filter(([name]) => name !== 'starts')));
  });

  await t.test('tokens and users of before are known, images are pulled, and kubectl goes on', async () => {
    const server = loadKubeconfig(`${made.home}/run/admin.conf`).server;
    const ask = await run('curl', [
      '-sk',
      '-H',
      `authorization: Bearer ${token}`,
      `${server}/api/v1/namespaces/default/pods`,
    ]);
    assert.match(ask.stdout, /"kind": ?"PodList"/);
    const login = await run('docker', ['login', registry, '-u', 'ada', '--password-stdin'], made.environment, {
      input: 'a long password',
    });
    assert.equal(login.code, 0, login.stderr);
    await good(made.docker('pull', '-q', `${registry}/team/app:2`));
    assert.match(await good(made.docker('run', '--rm', 'app:1', 'busybox', 'echo', 'runs')), /runs/);
    await made.kube(
      'create',
      'deployment',
      'later',
      `--image=${registry}/team/app:2`,
      '--',
      'busybox',
      'sleep',
      '1000',
    );
    await made.kube('rollout', 'status', 'deployment/later', '--timeout=60s');
  });

  await t.test('the server makes backups by itself, into a store, and says when it cannot', async () => {
    await using s3 = await startS3();
    const identity = await generateX25519Identity();
    const recipient = await identityToRecipient(identity);
    const environment = {
      ...made.environment,
      AWS_ACCESS_KEY_ID: testAccess.accessKeyId,
      AWS_SECRET_ACCESS_KEY: testAccess.secretAccessKey,
      AWS_REGION: testAccess.region,
      AWS_ENDPOINT_URL: s3.endpoint,
    };
    const schedule = ['backup', 's3://backups/kept', '--every', '6h', '--keep', '2', '--recipient', recipient];
    await good(run('./tiphys', schedule, environment));
    const status = async (): Promise<string> => (await tiphysOn('fresh', made, ['status'])).stdout;
    await made.until('the first one', status, /^Backups +every 6h0m0s to s3:.* last tiphys-\w{4}-\w+\.age/m, 60_000);
    const [name = ''] = s3.objects.keys();
    const secret = made.file('identity', `# mine\n${identity}\n`);
    const head = ['restore', `s3://backups/${name}`, '-y', '--identity', secret];
    await bad(run('./tiphys', head, { ...environment, TIPHYS_HOME: join(made.home, 'other') }), /have addresses of/);
    const nowhere = join(secret, 'below');
    await good(made.tiphys(['backup', nowhere, '--every', '6h', '--recipient', recipient]));
    await made.until('it fails', status, /^Backups .*FAILED at .*ENOTDIR/m, 60_000);
    const events = (): Promise<string> => made.kube('get', 'events', '-A', '--field-selector=reason=BackupFailed');
    await made.until('the Event', events, /No backup was made: .*ENOTDIR/);
    await good(made.tiphys(['backup', '--every', 'off']));
    assert.doesNotMatch(await status(), /Backups/);
  });

  await good(made.tiphys(['down']));
  assert.deepEqual(made.leftovers(), []);
});
