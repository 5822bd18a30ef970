/** What a Pod may ask of its node, and what kubectl shows and does with it. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { createMachine, run } from './machine.ts';

const manifests = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {a: "1", b: two}
---
apiVersion: v1
kind: Secret
metadata: {name: secret}
stringData: {password: hunter2}
---
apiVersion: v1
kind: Pod
metadata: {name: full, labels: {app: full}}
spec:
  terminationGracePeriodSeconds: 3
  securityContext: {fsGroup: 2000, runAsUser: 1000, runAsGroup: 3000, sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: "80"}]}
  initContainers:
  - {name: first, image: busybox, imagePullPolicy: IfNotPresent, command: [sh, -c, "echo init > /data/f"], volumeMounts: [{name: data, mountPath: /data}]}
  - {name: side, image: busybox, imagePullPolicy: IfNotPresent, restartPolicy: Always, command: [sh, -c, "trap 'exit 0' TERM; while true; do sleep 1; done"], startupProbe: {exec: {command: ["true"]}, periodSeconds: 1}}
  containers:
  - name: c
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "echo start; trap 'exit 0' TERM; httpd -p 80 -h /data; while true; do echo tick; sleep 1; done"]
    env:
    - {name: A, valueFrom: {configMapKeyRef: {name: settings, key: a}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: secret, key: password}}}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
    - {name: EXPANDED, value: "x-$(A)-$(NOPE)"}
    resources: {limits: {cpu: 500m, memory: 64Mi}}
    lifecycle: {postStart: {exec: {command: [sh, -c, "echo post > /data/post"]}}, preStop: {exec: {command: [sh, -c, "echo pre; sleep 1"]}}}
    readinessProbe: {httpGet: {path: /f, port: 80}, periodSeconds: 1}
    livenessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}
    startupProbe: {exec: {command: [test, -f, /data/post]}, periodSeconds: 1}
    securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: data, mountPath: /data}, {name: memory, mountPath: /memory}, {name: settings, mountPath: /settings}, {name: settings, mountPath: /one, subPath: a}, {name: secret, mountPath: /secret}, {name: down, mountPath: /down}, {name: projected, mountPath: /projected}]
  volumes:
  - {name: data, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 8Mi}}
  - {name: settings, configMap: {name: settings}}
  - {name: secret, secret: {secretName: secret, defaultMode: 0400}}
  - {name: down, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
  - {name: projected, projected: {sources: [{serviceAccountToken: {path: token, expirationSeconds: 3600, audience: x}}, {configMap: {name: settings, items: [{key: b, path: sub/b}]}}]}}
${pod('crash', 'command: [sh, -c, "echo out; echo bye > /dev/termination-log; exit 3"]')}
${pod('oom', 'command: [sh, -c, "x=a; while true; do x=$x$x; done"], resources: {limits: {memory: 16Mi}}', 'restartPolicy: Never, ')}
${pod('fallback', 'command: [sh, -c, "echo fall; exit 7"], terminationMessagePolicy: FallbackToLogsOnError', 'restartPolicy: Never, ')}
${pod('late', 'command: [sleep, "1000"]', 'activeDeadlineSeconds: 2, terminationGracePeriodSeconds: 0, ')}
${pod('nonroot', 'command: [sleep, "1000"]', 'securityContext: {runAsNonRoot: true}, ')}
${pod('unwell', 'command: [sleep, "1000"], livenessProbe: {exec: {command: [sh, -c, "echo nope; exit 1"]}, periodSeconds: 1, failureThreshold: 2}', 'terminationGracePeriodSeconds: 0, ')}
${pod('missing', 'command: [sleep, "1"], env: [{name: A, valueFrom: {configMapKeyRef: {name: nope, key: a}}}]')}
${pod('shared', 'command: [sleep, "1001"]}, {name: d, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "1002"]', 'shareProcessNamespace: true, ')}
${pod('turned', 'command: [sh, -c, "trap \'exit 0\' TERM; while true; do sleep 0.1; done"]', 'restartPolicy: Never, ')}
${pod('fills', `command: ${writes('/v')}, volumeMounts: [{name: v, mountPath: /v}]`, 'restartPolicy: Always, volumes: [{name: v, emptyDir: {sizeLimit: 1Mi}}], ')}
${pod('writes', `command: ${writes('/tmp')}, resources: {limits: {ephemeral-storage: 1Mi}}`)}
${pod('writes-less', `command: ${writes('/tmp')}, resources: {limits: {ephemeral-storage: 16Mi}}`)}
${pod('host', 'command: [sleep, "1003"]', 'hostNetwork: true, hostPID: true, ')}
---
apiVersion: v1
kind: Pod
metadata: {name: unknown}
spec: {containers: [{name: c, image: "registry.invalid/none:1"}]}
`;

/** The command of a container that writes four mebibytes and goes on. */
function writes(directory: string): string {
  return `[sh, -c, "dd if=/dev/zero of=${directory}/f bs=1M count=4; exec sleep 1000"]`;
}

function pod(name: string, container: string, spec = ''): string {
  return `---\napiVersion: v1\nkind: Pod\nmetadata: {name: ${name}}\nspec: {${spec}containers: [{name: c, image: busybox, imagePullPolicy: IfNotPresent, ${container}}]}`;
}

test('Pods and kubectl', { timeout: 240_000 }, async (t) => {
  await using machine = createMachine();
  assert.equal((await machine.tiphys(['up'])).code, 0);
  await machine.apply(manifests);
  const state = (name: string, path = '.status.containerStatuses[0]'): Promise<string> =>
    machine.kube('get', 'pod', name, '-o', `jsonpath={${path}}`);
  const exec = (...command: string[]): Promise<string> => machine.kube('exec', 'full', '-c', 'c', '--', ...command);

  await t.test('a Pod with most of what a Pod can have becomes ready and finds it', async () => {
    await machine.kube('wait', '--for=condition=Ready', 'pod/full', '--timeout=60s');
    assert.match(await exec('id'), /uid=1000 gid=3000 groups=2000,3000/);
    assert.match(await exec('env'), /^A=1$/m);
    assert.match(await exec('env'), /^EXPANDED=x-1-\$\(NOPE\)$/m);
    assert.equal(await exec('cat', '/settings/a', '/one', '/projected/sub/b', '/down/labels'), '11twoapp="full"');
    assert.match(await exec('ls', '-ln', '/secret/..data/'), /-r--r----- +1 0 +2000/);
    assert.match(await exec('grep', 'CapEff', '/proc/self/status'), /0000000000000000/);
    assert.match(
      (await machine.kubectl('exec', 'full', '-c', 'c', '--', 'touch', '/x')).stderr,
      /Read-only file system/,
    );
    assert.match(await exec('mount'), /tmpfs on \/memory type tmpfs \(.*size=8192k/);
  });
  await t.test('a changed ConfigMap reaches its volume', async () => {
    await machine.kube('patch', 'configmap', 'settings', '-p', '{"data":{"a":"changed"}}');
    await machine.until('the file', () => exec('cat', '/settings/a'), /^changed$/, 20_000);
  });
  await t.test('ends and refusals are told as Kubernetes tells them', async () => {
    await machine.until(
      'crash',
      () => state('crash'),
      /back-off .* restarting failed container=c pod=crash_default.*CrashLoopBackOff/,
      60_000,
    );
    assert.match(
      await state('crash', '.status.containerStatuses[0].lastState.terminated'),
      /"exitCode":3.*"message":"bye\\n".*"reason":"Error"/,
    );
    await machine.until('oom', () => state('oom'), /"reason":"OOMKilled"/);
    await machine.until('fallback', () => state('fallback'), /"exitCode":7.*"message":"fall\\n"/);
    await machine.until(
      'late',
      () => state('late', '.status'),
      /"terminated".*"phase":"Failed".*"reason":"DeadlineExceeded"/s,
    );
    await machine.until(
      'nonroot',
      () => state('nonroot'),
      /container has runAsNonRoot and image will run as root.*CreateContainerConfigError/,
    );
    await machine.until(
      'missing',
      () => state('missing'),
      /configmap \\"nope\\" not found.*CreateContainerConfigError/,
    );
    await machine.until(
      'a volume beyond its size',
      () => state('fills', '.status'),
      /"message":"Usage of EmptyDir volume \\"v\\" exceeds the limit \\"1Mi\\". ".*"phase":"Failed".*"reason":"Evicted"/,
      60_000,
    );
    await machine.until(
      'a container beyond its limit of disk',
      () => state('writes', '.status'),
      /"message":"Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ".*"reason":"Evicted"/,
      60_000,
    );
    assert.equal(await state('writes-less', '.status.phase'), 'Running');
    await machine.until('unwell', () => state('unwell', '.status.containerStatuses[0].restartCount'), /[1-9]/);
    await machine.until(
      'events',
      () => machine.kube('get', 'events'),
      /Liveness probe failed: nope[^]*Container c failed liveness probe, will be restarted/,
    );
    await machine.until(
      'unknown',
      () => state('unknown'),
      /(failed to pull image \\"registry.invalid\/none:1\\").*(ErrImagePull|ImagePullBackOff)/,
      60_000,
    );
    assert.match(
      (await machine.kubectl('logs', 'unknown')).stderr,
      /container "c" in pod "unknown" is waiting to start: (trying and failing to pull image|image can't be pulled)/,
    );
    assert.match(await machine.kube('describe', 'pod', 'crash'), /Back-off restarting|Container started/);
  });
  await t.test('namespaces are shared where the Pod says so', async () => {
    assert.match(await machine.kube('exec', 'shared', '-c', 'c', '--', 'ps'), /sleep 1002/);
    assert.match(await machine.kube('exec', 'host', '--', 'ps'), /kthreadd|init|systemd/);
    assert.match(await state('host', '.status'), /"hostIP":"([\d.]+)".*"podIP":"\1"/);
  });
  await t.test('a Pod that is told another image starts its container anew with it', async () => {
    await machine.until('it runs', () => state('turned'), /"running"/);
    assert.equal((await machine.docker('tag', 'busybox', 'turned:2')).code, 0);
    await machine.kube('set', 'image', 'pod/turned', 'c=turned:2');
    const status = await machine.until('the other image', () => state('turned'), /"image":"turned:2"/);
    assert.match(status, /"exitCode":0.*"restartCount":1/);
    await machine.until(
      'events',
      () => machine.kube('get', 'events'),
      /Container c definition changed, will be restarted/,
    );
  });
  await t.test('an ephemeral container sees the processes of its target and its end is reported', async () => {
    await machine.kube(
      'debug',
      'full',
      '--image=busybox',
      '--target=c',
      '--container=look',
      '--profile=general',
      '--attach=false',
      '--',
      'sh',
      '-c',
      'ps; exit 4',
    );
    await machine.until('its end', () => state('full', '.status.ephemeralContainerStatuses[0].state'), /"exitCode":4/);
    assert.match(await machine.kube('logs', 'full', '-c', 'look'), /httpd -p 80/);
    assert.equal(await state('full', '.status.containerStatuses[0].ready'), 'true');
  });
  for (const binary of ['kubectl', 'kubectl-1.37'])
    for (const webSockets of ['true', 'false']) {
      if ((await run('sh', ['-c', `command -v ${binary}`])).code !== 0) continue;
      await t.test(
        `${binary} ${webSockets === 'true' ? 'over WebSocket' : 'over SPDY'}: exec, cp, port-forward`,
        async () => {
          const environment = {
            ...machine.environment,
            KUBECTL_REMOTE_COMMAND_WEBSOCKETS: webSockets,
            KUBECTL_PORT_FORWARD_WEBSOCKETS: webSockets,
          };
          const failing = await run(
            binary,
            ['exec', 'full', '-c', 'c', '--', 'sh', '-c', 'echo out; echo err >&2; exit 5'],
            environment,
          );
          assert.deepEqual([failing.code, failing.stdout], [5, 'out\n']);
          assert.match(failing.stderr, /^err\ncommand terminated with exit code 5/);
          const large = 'x'.repeat(300_000);
          assert.equal(
            (await run(binary, ['exec', '-i', 'full', '-c', 'c', '--', 'cat'], environment, { input: large })).stdout,
            large,
          );
          // Its input stays open until it is done, however long that takes: script hangs up at the end of its input.
          const terminal = await run(
            'sh',
            [
              '-c',
              `mkfifo ${machine.home}/keys; sleep 100 > ${machine.home}/keys & script -qc "${binary} exec -it full -c c -- sh -c 'tty; exit 3'" /dev/null < ${machine.home}/keys; kill $!; rm ${machine.home}/keys`,
            ],
            environment,
          );
          assert.match(terminal.stdout, /\/dev\/pts\/\d+/);
          const file = machine.file('copied.txt', large);
          assert.equal((await run(binary, ['cp', file, 'full:/data/copied', '-c', 'c'], environment)).code, 0);
          assert.equal(
            (await run(binary, ['cp', 'full:/data/copied', `${file}.back`, '-c', 'c'], environment)).code,
            0,
          );
          assert.equal((await run('cmp', [file, `${file}.back`])).code, 0);
          const forward = await run(
            'sh',
            [
              '-c',
              `${binary} port-forward pod/full 0:80 > ${machine.home}/forward & pid=$!; for i in $(seq 300); do sleep 0.1; port=$(sed -n 's/.*127.0.0.1:\\([0-9]*\\) .*/\\1/p' ${machine.home}/forward | head -1); [ -n "$port" ] && break; done; curl -s --max-time 20 127.0.0.1:$port/f; curl -s --max-time 20 127.0.0.1:$port/post; kill $pid`,
            ],
            environment,
          );
          assert.equal(forward.stdout, 'init\npost\n');
        },
      );
    }
  await t.test('logs: --tail, --timestamps, --previous, -f', async () => {
    assert.match(
      await machine.kube('logs', 'full', '-c', 'c', '--tail=2', '--timestamps'),
      /^(\d{4}-\d\d-\d\dT\S+ tick\n){2}$/,
    );
    assert.equal(await machine.kube('logs', 'crash', '--previous'), 'out\n');
    assert.match(
      (await run('sh', ['-c', 'timeout 60 kubectl logs -f full -c c --tail=1 | head -n 3'], machine.environment))
        .stdout,
      /^(tick\n){3}$/,
    );
    assert.match(
      (await machine.kubectl('logs', 'full', '-c', 'none')).stderr,
      /container none is not valid for pod full/,
    );
  });
  await t.test("manifests that are wrong are refused in Kubernetes' words", async () => {
    const refuse = async (text: string, wanted: RegExp): Promise<void> => {
      const output = await run('kubectl', ['create', '-f', '-'], machine.environment, { input: text });
      assert.equal(output.code, 1);
      assert.match(output.stderr, wanted);
    };
    await refuse('apiVersion: v1\nkind: Pod\n  bad: [\n', /error converting YAML to JSON/);
    await refuse(
      '{"apiVersion":"v1","kind":"Nope","metadata":{"name":"x"}}',
      /no matches for kind "Nope" in version "v1"/,
    );
    await refuse(
      '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"containers":[{"name":"c","image":"i","bogus":1}]}}',
      /strict decoding error: unknown field "spec.containers\[0\].bogus"/,
    );
    await refuse(
      '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"restartPolicy":"Sometimes","containers":[{"name":"A b","image":"i"}]}}',
      /spec.restartPolicy: Unsupported value: "Sometimes"/,
    );
    const large = machine.file('large', 'a'.repeat(4_000_000));
    assert.match(
      (await machine.kubectl('create', 'configmap', 'large', `--from-file=${large}`)).stderr,
      /Request entity too large: limit is 3145728/,
    );
  });
  await t.test('the kubelet tells what Pods take of disk, and its configuration', async () => {
    const node = await machine.kube('get', 'node', '-o', 'jsonpath={.items[0].metadata.name}');
    const raw = async (path: string): Promise<unknown> =>
      JSON.parse(await machine.kube('get', '--raw', `/api/v1/nodes/${node}/proxy/${path}`));
    type Use = { name: string; usedBytes: number };
    type Summary = { pods: { podRef: { name: string }; volume: Use[]; 'ephemeral-storage': Use }[] };
    const { pods } = (await raw('stats/summary')) as Summary;
    const less = pods.find(({ podRef }) => podRef.name === 'writes-less');
    assert.ok((less?.['ephemeral-storage'].usedBytes ?? 0) >= 4 * 2 ** 20, JSON.stringify(less));
    const full = pods.find(({ podRef }) => podRef.name === 'full');
    assert.ok(
      full?.volume.some(({ name, usedBytes }) => name === 'data' && usedBytes > 0),
      JSON.stringify(full),
    );
    const { kubeletconfig } = (await raw('configz')) as { kubeletconfig: { maxPods: number } };
    assert.equal(kubeletconfig.maxPods, 110);
  });
  await t.test('deleted Pods go, hooks and all', async () => {
    await machine.kube('delete', 'pod', '--all', '--timeout=60s');
    assert.equal((await machine.docker('ps', '-aq')).stdout, '');
  });
  assert.equal((await machine.tiphys(['down'])).code, 0);
  assert.deepEqual(machine.leftovers(), []);
});
