/**
 * What programs on @kubernetes/client-node do: lists, watches, an informer, logs that are followed, exec with input and
 * exit codes, attach, port-forward, copying, server-side apply, patches, metrics, errors. NAMESPACE is the client's own.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import * as k8s from '@kubernetes/client-node';

const namespace = process.env.NAMESPACE;
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);
const objects = k8s.KubernetesObjectApi.makeApiClient(config);

async function until(what, check, seconds = 60) {
  for (let left = seconds * 5; left > 0; left--) {
    if (await check()) return console.log(what);
    await sleep(200);
  }
  throw new Error(`${what}: not in time`);
}

function sleeper(name, script) {
  const container = {
    name: 'c',
    image: 'busybox',
    imagePullPolicy: 'IfNotPresent',
    command: ['sh', '-c', script],
    stdin: true,
  };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels: { of: 'client-node' } },
    spec: { terminationGracePeriodSeconds: 0, containers: [container] },
  };
}

const isRunning = async (name) => (await core.readNamespacedPod({ name, namespace })).status.phase === 'Running';

const statusOf = ({ body }) => (typeof body === 'string' ? JSON.parse(body) : body);

const parts = {
  async versions() {
    const { gitVersion } = await config.makeApiClient(k8s.VersionApi).getCode();
    assert.match(gitVersion, /^v1\./);
    const groups = await config.makeApiClient(k8s.ApisApi).getAPIVersions();
    assert.ok(groups.groups.some(({ name }) => name === 'apps'));
  },

  async pages() {
    for (let i = 0; i < 25; i++)
      await core.createNamespacedConfigMap({
        namespace,
        body: { metadata: { name: `page-${i}`, labels: { page: 'yes' } } },
      });
    const seen = [];
    let _continue;
    do {
      const page = await core.listNamespacedConfigMap({ namespace, labelSelector: 'page=yes', limit: 10, _continue });
      seen.push(...page.items.map(({ metadata }) => metadata.name));
      _continue = page.metadata._continue;
    } while (_continue);
    assert.equal(new Set(seen).size, 25);
    await core.deleteCollectionNamespacedConfigMap({ namespace, labelSelector: 'page=yes' });
    assert.equal((await core.listNamespacedConfigMap({ namespace, labelSelector: 'page=yes' })).items.length, 0);
  },

  async watch() {
    const { metadata } = await core.listNamespacedSecret({ namespace });
    const seen = [];
    const controller = await new k8s.Watch(config).watch(
      `/api/v1/namespaces/${namespace}/secrets`,
      { resourceVersion: metadata.resourceVersion, allowWatchBookmarks: true },
      (type, object) => seen.push(`${type} ${object.metadata.name ?? ''}`),
      () => seen.push('END'),
    );
    const body = { metadata: { name: 'watched' }, stringData: { a: '1' } };
    await core.createNamespacedSecret({ namespace, body });
    const made = await core.readNamespacedSecret({ name: 'watched', namespace });
    await core.replaceNamespacedSecret({ name: 'watched', namespace, body: { ...made, data: { a: 'Mg==' } } });
    await core.deleteNamespacedSecret({ name: 'watched', namespace });
    await until('the watch told all', () => seen.filter((line) => line.endsWith(' watched')).length === 3);
    assert.deepEqual(
      seen.filter((line) => line.endsWith(' watched')),
      ['ADDED watched', 'MODIFIED watched', 'DELETED watched'],
    );
    controller.abort();
    await until('the watch ended', () => seen.at(-1) === 'END');
  },

  async 'a watch of what is forgotten'() {
    let ended;
    await new k8s.Watch(config).watch(
      `/api/v1/namespaces/${namespace}/secrets`,
      { resourceVersion: '99999999999' },
      (type, object) => (ended ??= object?.code ?? type),
      (error) => (ended ??= error),
    );
    await until('a version of the future is answered', () => ended !== undefined, 30);
  },

  async informer() {
    const list = () => core.listNamespacedPod({ namespace, labelSelector: 'of=client-node' });
    const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/pods`, list, 'of=client-node');
    const events = [];
    for (const type of ['add', 'update', 'delete'])
      informer.on(type, ({ metadata }) => events.push(`${type} ${metadata.name}`));
    informer.on('error', (error) => events.push(`error ${error}`));
    await informer.start();
    await core.createNamespacedPod({ namespace, body: sleeper('followed', 'sleep 3600') });
    await until('the informer has the Pod', () => informer.get('followed', namespace)?.status?.phase === 'Running');
    await core.deleteNamespacedPod({ name: 'followed', namespace });
    await until('the informer saw it go', () => events.includes('delete followed'));
    assert.equal(events[0], 'add followed');
    assert.equal(informer.list(namespace).length, 0);
    await informer.stop();
  },

  async logs() {
    await core.createNamespacedPod({
      namespace,
      body: sleeper('talks', 'i=0; while [ $i -lt 5 ]; do echo line $i; i=$((i+1)); sleep 0.3; done; sleep 3600'),
    });
    await until('it talks', () => isRunning('talks'));
    const out = new PassThrough();
    let all = '';
    out.on('data', (chunk) => (all += chunk));
    // Aborted, it emits an error that nobody can catch: it is followed until the end.
    await new k8s.Log(config).log(namespace, 'talks', 'c', out, { follow: true, timestamps: true });
    await until('all lines came', () => all.includes('line 4'));
    assert.match(all, /^\d{4}-\d\d-\d\dT\S+Z line 0\n/);
    assert.equal(await core.readNamespacedPodLog({ name: 'talks', namespace, tailLines: 2 }), 'line 3\nline 4\n');
  },

  async exec() {
    const exec = new k8s.Exec(config);
    const run = async (command, input) => {
      const out = new PassThrough();
      const err = new PassThrough();
      const words = [text(out), text(err)];
      const status = await new Promise((resolve, reject) => {
        const stdin = input === undefined ? null : Readable.from([input]);
        exec.exec(namespace, 'talks', 'c', command, out, err, stdin, false, resolve).catch(reject);
      });
      out.end();
      err.end();
      return { status, out: await words[0], err: await words[1] };
    };
    const told = await run(['sh', '-c', 'echo out; echo err >&2']);
    assert.deepEqual([told.out, told.err, told.status.status], ['out\n', 'err\n', 'Success']);
    assert.equal((await run(['wc', '-c'], 'x'.repeat(300_000))).out.trim(), '300000');
    const failed = await run(['sh', '-c', 'exit 7']);
    assert.equal(failed.status.reason, 'NonZeroExitCode');
    assert.deepEqual(failed.status.details.causes, [{ reason: 'ExitCode', message: '7' }]);
  },

  async attach() {
    await core.createNamespacedPod({
      namespace,
      body: sleeper('echoes', 'while read line; do echo "heard $line"; done'),
    });
    await until('it listens', () => isRunning('echoes'));
    const out = new PassThrough();
    let all = '';
    out.on('data', (chunk) => (all += chunk));
    const input = new PassThrough();
    const socket = await new k8s.Attach(config).attach(namespace, 'echoes', 'c', out, process.stderr, input, false);
    input.write('you\n');
    await until('it was heard', () => all === 'heard you\n');
    socket.close();
  },

  async 'port-forward'() {
    const script = 'mkdir /w && head -c 2000000 /dev/zero | tr "\\0" x > /w/big && exec httpd -f -p 8080 -h /w';
    await core.createNamespacedPod({ namespace, body: sleeper('serves', script) });
    await until('it serves', () => isRunning('serves'));
    await sleep(500);
    const forward = new k8s.PortForward(config);
    const server = createServer(
      (socket) => void forward.portForward(namespace, 'serves', [8080], socket, null, socket),
    );
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    for (let i = 0; i < 3; i++) {
      const socket = connect(server.address().port, '127.0.0.1');
      socket.write('GET /big HTTP/1.0\r\n\r\n');
      let bytes = 0;
      socket.on('data', (chunk) => (bytes += chunk.length));
      await until('all of it came', () => bytes > 2_000_000, 20);
      socket.destroy();
    }
    server.close();
  },

  /** Both return before they are done. */
  async copy() {
    const directory = mkdtempSync(join(process.cwd(), 'copy-'));
    mkdirSync(join(directory, 'to'));
    mkdirSync(join(directory, 'back'));
    const words = Array.from({ length: 20_000 }, (_unused, i) => i).join('\n');
    writeFileSync(join(directory, 'to/there'), words);
    const copy = new k8s.Cp(config);
    await copy.cpToPod(namespace, 'talks', 'c', join(directory, 'to'), '/tmp');
    await sleep(1_000);
    await copy.cpFromPod(namespace, 'talks', 'c', 'there', join(directory, 'back'), '/tmp');
    const back = join(directory, 'back/there');
    await until('it came back', () => existsSync(back) && readFileSync(back, 'utf8') === words, 30);
  },

  async apply() {
    const wanted = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'applied', namespace },
      data: { ours: '1' },
    };
    const apply = (manager, body, force) =>
      objects.patch(body, undefined, undefined, manager, force, k8s.PatchStrategy.ServerSideApply);
    await apply('one', wanted);
    await apply('two', { ...wanted, data: { theirs: '2' } });
    const both = await core.readNamespacedConfigMap({ name: 'applied', namespace });
    assert.deepEqual(both.data, { ours: '1', theirs: '2' });
    await assert.rejects(
      apply('two', { ...wanted, data: { ours: '3' } }),
      (error) => error.code === 409 && statusOf(error).message.includes('conflict with "one"'),
    );
    await apply('two', { ...wanted, data: { ours: '3' } }, true);
    assert.deepEqual((await core.readNamespacedConfigMap({ name: 'applied', namespace })).data, { ours: '3' });
  },

  async patches() {
    const spec = {
      replicas: 1,
      selector: { matchLabels: { app: 'patched' } },
      template: { metadata: { labels: { app: 'patched' } }, spec: sleeper('', 'sleep 3600').spec },
    };
    await apps.createNamespacedDeployment({ namespace, body: { metadata: { name: 'patched' }, spec } });
    const by = (type) => k8s.setHeaderOptions('Content-Type', type);
    const target = { name: 'patched', namespace };
    await apps.patchNamespacedDeployment(
      { ...target, body: [{ op: 'replace', path: '/spec/replicas', value: 2 }] },
      by(k8s.PatchStrategy.JsonPatch),
    );
    await apps.patchNamespacedDeployment(
      { ...target, body: { metadata: { labels: { a: 'b' } } } },
      by(k8s.PatchStrategy.MergePatch),
    );
    const template = { spec: { containers: [{ name: 'c', env: [{ name: 'A', value: '1' }] }] } };
    await apps.patchNamespacedDeployment(
      { ...target, body: { spec: { template } } },
      by(k8s.PatchStrategy.StrategicMergePatch),
    );
    const found = await apps.readNamespacedDeployment(target);
    assert.deepEqual([found.spec.replicas, found.metadata.labels.a], [2, 'b']);
    assert.equal(found.spec.template.spec.containers[0].image, 'busybox');
    await until('both are there', async () => (await apps.readNamespacedDeployment(target)).status.readyReplicas === 2);
    const scale = await apps.readNamespacedDeploymentScale(target);
    delete scale.metadata.resourceVersion;
    await apps.replaceNamespacedDeploymentScale({ ...target, body: { ...scale, spec: { replicas: 0 } } });
    await until('none is there', async () => !(await apps.readNamespacedDeployment(target)).status.readyReplicas);
  },

  async metrics() {
    const metrics = new k8s.Metrics(config);
    await until('nodes are measured', async () => (await metrics.getNodeMetrics()).items.length > 0, 30);
    await until(
      'Pods are measured',
      async () => (await metrics.getPodMetrics(namespace)).items.some(({ metadata }) => metadata.name === 'talks'),
      60,
    );
    const [node] = await k8s.topNodes(core);
    assert.ok(node.CPU.Capacity > 0);
  },

  async errors() {
    await assert.rejects(core.readNamespacedPod({ name: 'none', namespace }), (error) => {
      const status = statusOf(error);
      return error.code === 404 && status.reason === 'NotFound' && status.message === 'pods "none" not found';
    });
    await assert.rejects(
      core.createNamespacedPod({ namespace, body: { metadata: { name: 'UPPER' }, spec: {} } }),
      (error) => error.code === 422,
    );
  },
};

for (const [name, part] of Object.entries(parts)) {
  await part();
  console.log(`ok ${name}`);
}
process.exit(0);
