/** The API server's own certificates while it runs for longer than they hold. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { connect, type ClientHttp2Session } from 'node:http2';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import type { TLSSocket } from 'node:tls';
import { createTestApi, podBody, pods } from '#apiserver/fixture.ts';
import { HeldPort } from '#apiserver/held-port.ts';
import { serveHttp } from '#apiserver/http.ts';
import { createCertificateAuthority, issueCertificate } from '#base/x509.ts';
import { silentLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { SimClock } from '#os/clock.sim.ts';
import { establishKeyRing, holdsAdminConfig, loadKeyRing, ownCertificate, writeAdminConfig } from './identity.ts';
import { timeOf } from './managed-certificate.ts';
import { files, pathsOf } from './paths.ts';

const dayMs = 86_400_000;
const serialOf = (pem: string): string => new X509Certificate(pem).serialNumber;

/** Answers every request with the serial number of the certificate that its client shows. */
async function startKubelet(options: { cert: string; key: string; ca: string }): Promise<Server> {
  const server = createServer({ ...options, requestCert: true, rejectUnauthorized: false }, (request, response) => {
    response.end((request.socket as TLSSocket).getPeerCertificate().serialNumber);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  return server;
}

test('its certificates are renewed before they end, and no connection breaks', async () => {
  await using stack = new AsyncDisposableStack();
  // TLS looks at the clock of today: those who are to trust the certificates of later take them from any time.
  const clock = new SimClock(Date.now());
  const authority = createCertificateAuthority('ca', realRandom, clock);
  const own = (commonName: string, use: object) => {
    const request = { commonName, ipAddresses: ['127.0.0.1'], days: 30, ...use };
    const certificate = ownCertificate(authority, request, { random: realRandom, clock, log: silentLogger });
    stack.defer(() => certificate.close());
    void certificate.run();
    return certificate;
  };
  const serving = own('kube-apiserver', { server: true });
  const kubeletClient = own('kubelet-client', { client: true });
  const [first, firstClient] = await Promise.all([serving.ready, kubeletClient.ready]);
  const api = stack.use(await createTestApi());
  const http = stack.use(
    await serveHttp({
      api: api.api,
      serving: first,
      clientCa: authority.certificatePem,
      kubeletClient: firstClient,
      ports: [await HeldPort.open({ host: '127.0.0.1', port: 0 })],
    }),
  );
  serving.subscribe((pair) => http.setServing(pair));
  kubeletClient.subscribe((pair) => http.setKubeletClient(pair));
  const kubeletPair = issueCertificate({ commonName: 'n1', server: true }, authority, realRandom, clock);
  const { certificatePem: cert, keyPem: key } = kubeletPair;
  const kubelet = await startKubelet({ cert, key, ca: authority.certificatePem });
  stack.defer(() => {
    kubelet.close();
  });
  await api.make('/api/v1/nodes', {
    metadata: { name: 'n1' },
    status: {
      addresses: [{ type: 'InternalIP', address: '127.0.0.1' }],
      daemonEndpoints: { kubeletEndpoint: { Port: (kubelet.address() as AddressInfo).port } },
    },
  });
  await api.make(pods, podBody('a', { spec: { nodeName: 'n1' } }));

  const admin = issueCertificate(
    { commonName: 'admin', organizations: ['system:masters'], client: true },
    authority,
    realRandom,
    clock,
  );
  const open = (): ClientHttp2Session => {
    const session = connect(`https://127.0.0.1:${http.port}`, {
      rejectUnauthorized: false,
      cert: admin.certificatePem,
      key: admin.keyPem,
    });
    stack.defer(() => session.destroy());
    return session;
  };
  const read = async (session: ClientHttp2Session, path: string): Promise<string> => {
    let text = '';
    for await (const part of session.request({ ':path': path })) text += String(part);
    return text;
  };
  const shownTo = async (session: ClientHttp2Session): Promise<X509Certificate> => {
    await read(session, '/version');
    return new X509Certificate((session.socket as TLSSocket).getPeerCertificate().raw);
  };

  const before = open();
  assert.equal((await shownTo(before)).serialNumber, serialOf(first.certificatePem));
  assert.equal(await read(before, `${pods}/a/log`), serialOf(firstClient.certificatePem));
  const watch = before.request({ ':path': `${pods}?watch=1` }).setEncoding('utf8');
  const events = watch[Symbol.asyncIterator]();
  assert.match(String((await events.next()).value), /"ADDED"/);

  let serial = serialOf(first.certificatePem);
  for (let round = 0; round < 5; round++) {
    const endsAtMs = timeOf(serving.pair, 1);
    await clock.advance(30 * dayMs);
    assert.ok(endsAtMs <= clock.now() && timeOf(serving.pair, 1) > clock.now());
    const shown = await shownTo(open());
    assert.notEqual(shown.serialNumber, serial);
    assert.ok(shown.verify(new X509Certificate(authority.certificatePem).publicKey));
    assert.ok(shown.checkIP('127.0.0.1') !== undefined && shown.validToDate.getTime() > clock.now());
    serial = shown.serialNumber;
  }
  assert.notEqual(await read(before, `${pods}/a/log`), serialOf(firstClient.certificatePem));
  assert.equal(await read(before, `${pods}/a/log`), serialOf(kubeletClient.pair.certificatePem));
  await api.make(pods, podBody('b'));
  assert.match(String((await events.next()).value), /"name":"b"/, 'the watch of before goes on');
});

test("the user's kubeconfig and the authority are made anew before they end", () => {
  const home = mkdtempSync(join(tmpdir(), 'tiphys-admin-'));
  try {
    const clock = { ...realClock, now: () => nowMs };
    let nowMs = Date.parse('2026-01-01T00:00:00Z');
    const paths = pathsOf({ TIPHYS_HOME: home });
    for (const directory of [paths.run, dirname(files.keys(paths))]) mkdirSync(directory, { recursive: true });
    const ring = establishKeyRing(paths, { random: realRandom, clock });
    const write = (): void => writeAdminConfig(paths, { apiPort: 6443 }, ring, { random: realRandom, clock });
    assert.equal(holdsAdminConfig(paths, clock), false, 'there is none');
    write();
    assert.equal(holdsAdminConfig(paths, clock), true);
    nowMs += 300 * dayMs;
    assert.equal(holdsAdminConfig(paths, clock), false);
    write();
    assert.equal(holdsAdminConfig(paths, clock), true);
    nowMs += 8 * 365 * dayMs;
    const renewed = loadKeyRing(paths, { random: realRandom, clock });
    assert.notEqual(renewed.ca.certificatePem, ring.ca.certificatePem);
    assert.deepEqual([renewed.ca.keyPem, renewed.serviceAccount], [ring.ca.keyPem, ring.serviceAccount]);
    assert.deepEqual(establishKeyRing(paths, { random: realRandom, clock }), renewed, 'it is kept');
    assert.equal(holdsAdminConfig(paths, clock), false, 'and told to the user');
  } finally {
    rmSync(home, { recursive: true });
  }
});
