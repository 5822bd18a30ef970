/** Certificates of Ingresses, as a client meets them at a real proxy that follows a real API server. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { test } from 'node:test';
import { connect } from 'node:tls';
import type { Event } from '#api/core.v1.ts';
import { createTestApi } from '#apiserver/fixture.ts';
import { createCertificateAuthority, issueCertificate, type KeyPair } from '#base/x509.ts';
import type { Client } from '#client/client.ts';
import { InformerFactory } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import { createClient } from '#client/rest-client.ts';
import { createDirectTransport } from '#client/transport-direct.ts';
import { silentLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { freePort } from '#os/test-port.ts';
import { ingressController, ingressClassName, runIngress, runningHaproxy } from './ingress.ts';

const isRoot = process.getuid?.() === 0;
const authority = createCertificateAuthority('test', realRandom, realClock);
const makePair = (name: string): KeyPair =>
  issueCertificate({ commonName: name, dnsNames: [name], server: true }, authority, realRandom, realClock);
const base64 = (text: string): string => Buffer.from(text).toString('base64');
const data = ({ certificatePem, keyPem }: KeyPair): Record<string, string> => ({
  'tls.crt': base64(certificatePem),
  'tls.key': base64(keyPem),
});
const serialOf = (pair: KeyPair): string => new X509Certificate(pair.certificatePem).serialNumber;

/** The serial number of what the proxy shows for a host; undefined while it does not answer. */
function servedAt(port: number, servername: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port, servername, rejectUnauthorized: false });
    socket.on('secureConnect', () => {
      resolve(socket.getPeerCertificate().serialNumber);
      socket.destroy();
    });
    socket.on('error', () => resolve(undefined));
  });
}

interface Bench extends AsyncDisposable {
  client: Client;
  fallback: KeyPair;
  runDir: string;
  /** Reads of Secrets by the proxy's side that named none. */
  unnamedReads: string[];
  expect(host: string, pair: KeyPair, when: string): Promise<void>;
  events(): Promise<string[]>;
}

async function openBench(): Promise<Bench> {
  await using stack = new AsyncDisposableStack();
  const runDir = mkdtempSync('/tmp/tiphys-ingress-');
  stack.defer(() => rmSync(runDir, { recursive: true, force: true }));
  mkdirSync(runDir, { recursive: true });
  const api = stack.use(await createTestApi());
  const admin = { name: 'admin', groups: ['system:masters', 'system:authenticated'] };
  const client = createClient(createDirectTransport(api.api.handle, admin), 'admin');
  const unnamedReads: string[] = [];
  // The rights of the identity itself are tested where they are decided (`src/apiserver/authz/identities.test.ts`).
  const transport = createDirectTransport((request) => {
    if (request.method === 'GET' && /\/secrets/.test(request.path)) {
      const isNamed = /metadata\.name=/.test(request.query.get('fieldSelector') ?? '');
      if (!isNamed) unnamedReads.push(request.path);
    }
    return api.api.handle(request);
  }, admin);
  const network = createClient(transport, 'network');
  const informers = stack.use(
    new InformerFactory({ client: network, clock: realClock, random: realRandom, log: silentLogger }),
  );
  const fallback = makePair('default.test');
  const [httpPort, httpsPort] = [await freePort(), await freePort()];
  stack.defer(async () => {
    const pid = await runningHaproxy(runDir);
    if (pid !== undefined) linuxProcesses.kill(pid, 'SIGKILL');
  });
  const ingress = stack.use(
    runIngress({
      client: network,
      informers,
      processes: linuxProcesses,
      clock: realClock,
      log: silentLogger,
      runDir,
      nodeName: 'a',
      httpBinds: [`127.0.0.1:${httpPort}`],
      httpsBinds: [`127.0.0.1:${httpsPort}`],
      statusAddress: '127.0.0.1',
      defaultCertificate: async () => `${fallback.certificatePem}${fallback.keyPem}`,
    }),
  );
  informers.start();
  await ingress.ready;
  await client.create(kinds.IngressClass, {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'IngressClass',
    metadata: { name: ingressClassName },
    spec: { controller: ingressController },
  });
  const owned = stack.move();
  return {
    client,
    fallback,
    runDir,
    unnamedReads,
    async expect(host, pair, when) {
      let served: string | undefined;
      for (let tries = 0; tries < 1000; tries++) {
        served = await servedAt(httpsPort, host);
        if (served === serialOf(pair)) return;
        await realClock.sleep(10);
      }
      assert.equal(served, serialOf(pair), when);
    },
    events: async () =>
      (await client.list(kinds.Event, { namespace: 'default' })).items
        .filter((event: Event) => event.reason === 'CertificateNotServed')
        .map((event) => `${event.involvedObject.name}: ${event.message}`),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function addIngress(client: Client, name: string, secretName: string): Promise<void> {
  await client.create(kinds.Ingress, {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'Ingress',
    metadata: { name, namespace: 'default' },
    spec: {
      ingressClassName,
      tls: [{ hosts: [`${name}.test`], secretName }],
      rules: [
        {
          host: `${name}.test`,
          http: {
            paths: [{ path: '/', pathType: 'Prefix', backend: { service: { name: 's', port: { number: 80 } } } }],
          },
        },
      ],
    },
  });
}

const addSecret = (client: Client, name: string, pair: KeyPair): Promise<unknown> =>
  client.create(kinds.Secret, {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name, namespace: 'default' },
    type: 'kubernetes.io/tls',
    data: data(pair),
  });
const changeSecret = (client: Client, name: string, changed: Record<string, string>): Promise<unknown> =>
  client.patch(kinds.Secret, { name, namespace: 'default' }, { merge: { data: changed } });

test('a Secret that an Ingress names is followed', { skip: !isRoot && 'needs root' }, async (t) => {
  await using bench = await openBench();
  const { client } = bench;
  const [first, second, third, other] = ['shop.test', 'shop.test', 'shop.test', 'other.test'].map(makePair) as [
    KeyPair,
    KeyPair,
    KeyPair,
    KeyPair,
  ];
  await addSecret(client, 'other', other);
  await addIngress(client, 'other', 'other');
  await bench.expect('other.test', other, 'it was there before the Ingress');

  await t.test('that comes after the Ingress', async () => {
    await addIngress(client, 'shop', 'shop');
    await bench.expect('shop.test', bench.fallback, 'until it is there');
    for (let tries = 0; tries < 1000 && (await bench.events()).length === 0; tries++) await realClock.sleep(10);
    assert.deepEqual(await bench.events(), ['shop: Secret shop is not found; the default certificate is served']);
    await addSecret(client, 'shop', first);
    await bench.expect('shop.test', first, 'once it is there');
  });

  await t.test('that changes, without anything else that does', async () => {
    await changeSecret(client, 'shop', data(second));
    await bench.expect('shop.test', second, 'the new one');
  });

  await t.test('that is made wrong: the one before it stays, others go on changing, and an event says so', async () => {
    const wrong: [Record<string, string>, RegExp][] = [
      [{ 'tls.key': data(first)['tls.key']! }, /tls.key is not the key of tls.crt/],
      [{ 'tls.crt': base64('no certificate') }, /no usable certificate/],
      [{ 'tls.crt': '' }, /it has no tls.crt/],
    ];
    for (const [changed, message] of wrong) {
      await changeSecret(client, 'shop', { ...data(second), ...changed });
      const said = async (): Promise<boolean> => (await bench.events()).some((text) => message.test(text));
      for (let tries = 0; tries < 1000 && !(await said()); tries++) await realClock.sleep(10);
      assert.ok(await said(), String(message));
      assert.ok((await bench.events()).every((text) => text.startsWith('shop: ')));
      await bench.expect('shop.test', second, 'the one before');
    }
    const renewed = makePair('other.test');
    await changeSecret(client, 'other', data(renewed));
    await bench.expect('other.test', renewed, 'another');
    await bench.expect('shop.test', second, 'the one before');
    await changeSecret(client, 'shop', data(third));
    await bench.expect('shop.test', third, 'made right again');
  });

  await t.test('that is deleted: the default certificate, and no key stays on the disk', async () => {
    await client.delete(kinds.Secret, 'shop', 'default');
    await bench.expect('shop.test', bench.fallback, 'the default');
    const files = (): string => readdirSync(`${bench.runDir}/certs`).sort().join(' ');
    // They go once the proxy has read the others.
    for (let tries = 0; tries < 1000 && files().includes('shop'); tries++) await realClock.sleep(10);
    assert.equal(files(), 'default.pem default_other.pem');
    await addSecret(client, 'shop', first);
    await bench.expect('shop.test', first, 'made again');
  });

  await t.test('while an Ingress names it, and nothing reads others', async () => {
    await client.delete(kinds.Ingress, 'shop', 'default');
    await bench.expect('shop.test', bench.fallback, 'nobody names it');
    assert.deepEqual(bench.unnamedReads, []);
  });
});
