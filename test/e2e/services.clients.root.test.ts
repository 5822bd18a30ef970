/** Services, DNS and Ingress as a Pod and as the host meet them. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import dnsPacket from 'dns-packet';
import { createMachine, run } from './machine.ts';

const manifests = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: api}
spec:
  replicas: 2
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: busybox, imagePullPolicy: IfNotPresent, command: [sh, -c, "mkdir /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www"], readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}}]}
---
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {selector: {app: api}, type: NodePort, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: local}
spec: {selector: {app: api}, type: NodePort, externalTrafficPolicy: Local, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec: {selector: {app: api}, clusterIP: None, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: balanced}
spec: {selector: {app: api}, type: LoadBalancer, ports: [{port: 18088, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: api.default.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec: {selector: {app: api}, sessionAffinity: ClientIP, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {selector: {app: nobody}, type: NodePort, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "100000"]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: holder}
spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: busybox, imagePullPolicy: IfNotPresent, command: [sh, -c, "mkdir /www; echo held > /www/index.html; exec httpd -f -p 8080 -h /www"], ports: [{containerPort: 8080, hostPort: 18089}]}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: hosts}
spec: {rules: [{host: a.test, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: api, port: {name: http}}}}, {path: /none, pathType: Exact, backend: {service: {name: nobody, port: {number: 80}}}}]}}]}
`;

function ask(
  server: string,
  name: string,
  type: string,
): Promise<{ rcode: string; answers: { type: string; data: unknown }[] }> {
  const query = dnsPacket.encode({ type: 'query', id: 7, flags: 0x100, questions: [{ name, type: type as 'A' }] });
  return new Promise((resolve, reject) => {
    const socket = createSocket('udp4');
    socket.on('message', (message) => {
      socket.close();
      resolve(dnsPacket.decode(message) as never);
    });
    socket.on('error', reject);
    socket.send(query, 53, server);
  });
}

function askByTcp(server: string, name: string): Promise<{ answers: { data: unknown }[] }> {
  return new Promise((resolve, reject) => {
    const socket = connect(53, server, () =>
      socket.write(dnsPacket.streamEncode({ type: 'query', id: 8, flags: 0x100, questions: [{ name, type: 'A' }] })),
    );
    socket.on('data', (data) => {
      socket.destroy();
      resolve(dnsPacket.streamDecode(Buffer.from(data)) as never);
    });
    socket.on('error', reject);
  });
}

test('Services, names and Ingress', { timeout: 240_000 }, async (t) => {
  await using machine = createMachine();
  assert.equal((await machine.tiphys(['up'])).code, 0);
  await machine.apply(manifests);
  await machine.kube('rollout', 'status', 'deployment/api', '--timeout=90s');
  await machine.kube('wait', '--for=condition=Ready', 'pod/client', 'pod/holder', '--timeout=60s');
  const get = async (...args: string[]): Promise<string> =>
    (await run('curl', ['-s', '-S', '--max-time', '5', ...args])).stdout.trim();
  const refused = async (url: string): Promise<void> => {
    assert.equal((await run('curl', ['-s', '--max-time', '5', url])).code, 7);
  };
  const inPod = (...command: string[]): Promise<string> => machine.kube('exec', 'client', '--', ...command);
  const field = (kind: string, name: string, path: string): Promise<string> =>
    machine.kube('get', kind, name, '-o', `jsonpath={${path}}`);
  const dns = await field('service', 'kube-dns', '.spec.clusterIP').catch(
    async () => /nameserver (\S+)/.exec(await inPod('cat', '/etc/resolv.conf'))![1]!,
  );

  await t.test('a Service answers by its short and full names, and from a Pod of its own', async () => {
    for (const name of ['api', 'api.default', 'api.default.svc.cluster.local', 'alias'])
      assert.match(await inPod('wget', '-qO-', `http://${name}/`), /^api-/, name);
    const pod = (await machine.kube('get', 'pods', '-l', 'app=api', '-o', 'name')).split('\n')[0]!;
    for (let i = 0; i < 4; i++)
      assert.match(await machine.kube('exec', pod, '--', 'wget', '-qO-', 'http://api/'), /^api-/);
  });
  await t.test('a node port answers on 127.0.0.1 and on the address of the node', async () => {
    const node = await machine.kube('get', 'nodes', '-o', 'jsonpath={.items[0].status.addresses[0].address}');
    for (const service of ['api', 'local']) {
      const port = await field('service', service, '.spec.ports[0].nodePort');
      for (const host of ['127.0.0.1', node])
        assert.match(await get(`http://${host}:${port}/`), /^api-/, `${service} on ${host}`);
    }
    const address = await machine.until(
      'address of the balancer',
      () => field('service', 'balanced', '.status.loadBalancer.ingress[0].ip'),
      /\d/,
    );
    assert.match(await get(`http://${address}:18088/`), /^api-/);
  });
  await t.test('parts manage fields under the names that they have upstream', async () => {
    const shown = ['-o', 'jsonpath={..managedFields[*].manager}', '--show-managed-fields'];
    const managers = async (...args: string[]): Promise<string[]> =>
      [...new Set((await machine.kube('get', ...args, ...shown)).trim().split(/\s+/))].sort();
    assert.deepEqual(await managers('pods', '-l', 'app=api'), ['kube-controller-manager', 'kubelet']);
    const { length } = await managers('deployment', 'api');
    assert.equal(length, 2, 'who applied, and kube-controller-manager');
    assert.equal((await managers('deployment', 'api')).includes('kube-controller-manager'), true);
    assert.deepEqual(await managers('apiservice', 'v1.apps'), ['kube-apiserver']);
  });
  await t.test('a host port leads to its Pod, also after the node was killed', async () => {
    assert.equal(await get('http://127.0.0.1:18089/'), 'held');
    process.kill(machine.pid('node-1'), 'SIGKILL');
    assert.equal(await get('http://127.0.0.1:18089/'), 'held');
    await machine.until('ready again', async () => (await machine.tiphys(['status'])).stdout, /node-1/);
    await machine.until(
      'exec again',
      async () => (await machine.kubectl('exec', 'holder', '--', 'echo', 'back')).stdout,
      /back/,
    );
    assert.equal(await get('http://127.0.0.1:18089/'), 'held');
  });
  await t.test('clients of one address stay with one endpoint where the Service says so', async () => {
    const answersOf = async (name: string): Promise<Set<string>> => {
      const loop = `for i in $(seq 40); do wget -qO- http://${name}/ | head -n 1; done`;
      const lines = (await inPod('sh', '-c', loop)).split('\n').filter((line) => line !== '');
      assert.equal(lines.length, 40);
      return new Set(lines);
    };
    // Of 40 requests to two endpoints all meet the same one in one of 10^11 runs.
    assert.ok((await answersOf('api')).size > 1);
    assert.equal((await answersOf('sticky')).size, 1);
  });
  await t.test('a client stays with its endpoint while others come, until that one is gone', async () => {
    const ask = (): Promise<string> => inPod('wget', '-qO-', 'http://sticky/');
    const first = await ask();
    assert.match(first, /^api-/);
    await machine.kube('scale', 'deployment', 'api', '--replicas=6');
    await machine.kube('rollout', 'status', 'deployment/api', '--timeout=90s');
    for (let i = 0; i < 6; i++) assert.equal(await ask(), first);
    await machine.kube('delete', 'pod', first.trim());
    const next = await ask();
    assert.match(next, /^api-/);
    assert.notEqual(next, first);
    for (let i = 0; i < 3; i++) assert.equal(await ask(), next);
    await machine.kube('scale', 'deployment', 'api', '--replicas=2');
    await machine.kube('rollout', 'status', 'deployment/api', '--timeout=90s');
  });
  await t.test('a Service without endpoints refuses at once', async () => {
    assert.match(
      (await machine.kubectl('exec', 'client', '--', 'wget', '-qO-', 'http://nobody/')).stderr,
      /Connection refused/,
    );
    await refused(`http://127.0.0.1:${await field('service', 'nobody', '.spec.ports[0].nodePort')}/`);
  });
  await t.test('names of endpoints, ports and addresses are answered, by UDP and TCP', async () => {
    const clusterIp = await field('service', 'api', '.spec.clusterIP');
    assert.deepEqual(
      (await askByTcp(dns, 'api.default.svc.cluster.local')).answers.map((answer) => answer.data),
      [clusterIp],
    );
    assert.equal((await ask(dns, 'headless.default.svc.cluster.local', 'A')).answers.length, 2);
    const ports = (await ask(dns, '_http._tcp.headless.default.svc.cluster.local', 'SRV')).answers as {
      data: { port: number; target: string };
    }[];
    assert.deepEqual(
      ports.map((answer) => answer.data.port),
      [8080, 8080],
    );
    assert.match(ports[0]!.data.target, /\.headless\.default\.svc\.cluster\.local$/);
    assert.equal(
      (await ask(dns, `${clusterIp.split('.').reverse().join('.')}.in-addr.arpa`, 'PTR')).answers[0]!.data,
      'api.default.svc.cluster.local',
    );
    assert.equal((await ask(dns, 'missing.default.svc.cluster.local', 'A')).rcode, 'NXDOMAIN');
    assert.deepEqual(await ask(dns, 'api.default.svc.cluster.local', 'AAAA'), {
      ...(await ask(dns, 'api.default.svc.cluster.local', 'AAAA')),
      rcode: 'NOERROR',
      answers: [],
    });
  });
  await t.test('an Ingress without a class is served: hosts, paths, TLS', async () => {
    const { httpPort, httpsPort } = JSON.parse(readFileSync(`${machine.home}/data/instance.json`, 'utf8')) as {
      httpPort: number;
      httpsPort: number;
    };
    await machine.until('ingress', () => get('-H', 'Host: a.test', `http://127.0.0.1:${httpPort}/`), /^api-/);
    assert.equal(await get('-H', 'Host: a.test', `http://127.0.0.1:${httpPort}/none`), 'no endpoints available');
    assert.equal(await get('-H', 'Host: other.test', `http://127.0.0.1:${httpPort}/`), 'default backend - 404');
    const [key, certificate] = [`${machine.home}/tls.key`, `${machine.home}/tls.crt`];
    await run('openssl', [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-subj',
      '/CN=tls.test',
      '-addext',
      'subjectAltName=DNS:tls.test',
      '-keyout',
      key,
      '-out',
      certificate,
      '-days',
      '2',
    ]);
    await machine.kube('create', 'secret', 'tls', 'site', '--cert', certificate, '--key', key);
    await machine.kube('create', 'ingress', 'site', '--rule=tls.test/*=api:80,tls=site');
    await machine.until(
      'TLS',
      () =>
        get('--cacert', certificate, '--resolve', `tls.test:${httpsPort}:127.0.0.1`, `https://tls.test:${httpsPort}/`),
      /^api-/,
    );
  });
  assert.equal((await machine.tiphys(['down'])).code, 0);
  assert.deepEqual(machine.leftovers(), []);
});
