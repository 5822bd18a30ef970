/** ClusterTrustBundles and PodCertificateRequests as clients, signers and nodes meet them. */
import assert from 'node:assert/strict';
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { describe, it } from 'node:test';
import { decodeCertificationRequest } from '#base/certificate-request.ts';
import type { TestJson } from '#base/testing.ts';
import { createCertificateAuthority, createStubRequest, signCertificationRequest } from '#base/x509.ts';
import { timestamp } from '#base/timestamp.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { createTestApi, podBody, pods } from './fixture.ts';
import type { TestApi } from './fixture.ts';

const withApi = (run: (t: TestApi) => Promise<void>) => async (): Promise<void> => {
  await using t = await createTestApi();
  await run(t);
};
const bundles = '/apis/certificates.k8s.io/v1/clustertrustbundles';
const requests = '/apis/certificates.k8s.io/v1/namespaces/default/podcertificaterequests';
const ca = createCertificateAuthority('test', realRandom, realClock);
const user = (name: string, ...groups: string[]) => ({ user: { name, groups: ['system:authenticated', ...groups] } });
const node = user('system:node:n1', 'system:nodes');
const grant = async (t: TestApi, name: string, verb: string, signer: string): Promise<void> => {
  const rbac = '/apis/rbac.authorization.k8s.io/v1';
  await t.make(`${rbac}/clusterroles`, {
    metadata: { name },
    rules: [
      { apiGroups: ['certificates.k8s.io'], resources: ['signers'], verbs: [verb], resourceNames: [signer] },
      { apiGroups: ['certificates.k8s.io'], resources: ['*'], verbs: ['create', 'get', 'update', 'patch'] },
    ],
  });
  await t.make(`${rbac}/clusterrolebindings`, {
    metadata: { name },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name },
    subjects: [{ kind: 'User', apiGroup: 'rbac.authorization.k8s.io', name }],
  });
};
const bundle = (spec: TestJson, name = 'roots'): TestJson => ({ metadata: { name }, spec });

describe('a ClusterTrustBundle', () => {
  it(
    'holds certificates of authorities, each once, under a name that tells its signer',
    withApi(async (t) => {
      const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const leaf = signCertificationRequest(
        decodeCertificationRequest(createStubRequest(privateKey)),
        { usages: ['client auth'], seconds: 3600, ca },
        realRandom,
        realClock,
      );
      const pem = ca.certificatePem;
      const cases: [TestJson, RegExp][] = [
        [bundle({ trustBundle: '' }), /at least one trust anchor/],
        [bundle({ trustBundle: pem + pem }), /duplicate trust anchor \(indices \[0 1\]\)/],
        [bundle({ trustBundle: ca.keyPem }), /entry 0 has bad block type: EC PRIVATE KEY/],
        [bundle({ trustBundle: pem + leaf }), /entry 1 does not have the CA bit set/],
        [
          bundle({ trustBundle: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n' }),
          /entry 0 does not parse/,
        ],
        [bundle({ trustBundle: pem.replace('-----\n', '-----\nA: b\n\n') }), /entry 0 has PEM block headers/],
        [bundle({ trustBundle: pem }, 'a:b'), /without signer name must not have ":"/],
        [bundle({ trustBundle: pem, signerName: 'example.com/x' }), /must be named with prefix example\.com:x:/],
        [bundle({ trustBundle: pem, signerName: 'x' }, 'x:1'), /fully qualified domain and path/],
      ];
      for (const [body, words] of cases) {
        const { status, body: answer } = await t.call('POST', bundles, body);
        assert.equal(status, 422, JSON.stringify(answer));
        assert.match(answer.message, words);
      }
      const made = await t.make(
        bundles,
        bundle({ trustBundle: `# ours\n${pem}`, signerName: 'example.com/x' }, 'example.com:x:1'),
      );
      const moved = { ...made, spec: { ...made.spec, signerName: '' } };
      assert.match((await t.call('PUT', `${bundles}/example.com:x:1`, moved)).body.message, /field is immutable/);
      const listed = await t.call('GET', `${bundles}?fieldSelector=spec.signerName%3Dexample.com%2Fx`);
      assert.equal(listed.body.items.length, 1);
    }),
  );

  it(
    'of a signer is written by those who may attest for it',
    withApi(async (t) => {
      await grant(t, 'jane', 'attest', 'example.com/*');
      await grant(t, 'joe', 'attest', 'example.org/*');
      const body = bundle({ trustBundle: ca.certificatePem, signerName: 'example.com/x' }, 'example.com:x:1');
      const refused = await t.call('POST', bundles, body, user('joe'));
      assert.equal(refused.status, 403);
      assert.match(refused.body.message, /user not permitted to attest for signerName "example.com\/x"/);
      assert.equal((await t.call('POST', bundles, body, user('jane'))).status, 201);
    }),
  );
});

const key = generateKeyPairSync('ed25519').privateKey;
const stub = Buffer.from(createStubRequest(key)).toString('base64');

/** A Pod of node n1 that shows a certificate, and what its node asks for. */
async function askFor(t: TestApi, spec: TestJson = {}): Promise<TestJson> {
  const self = await t.make('/api/v1/nodes', { metadata: { name: 'n1' } });
  const source = { signerName: 'example.com/pods', keyType: 'ED25519', credentialBundlePath: 'bundle.pem' };
  const pod = await t.make(
    pods,
    podBody('a', {
      spec: { nodeName: 'n1', volumes: [{ name: 'v', projected: { sources: [{ podCertificate: source }] } }] },
    }),
  );
  const account = (await t.call('GET', '/api/v1/namespaces/default/serviceaccounts/default')).body;
  return {
    metadata: { name: 'r' },
    spec: {
      signerName: 'example.com/pods',
      podName: 'a',
      podUID: pod.metadata.uid,
      serviceAccountName: 'default',
      serviceAccountUID: account.metadata.uid,
      nodeName: 'n1',
      nodeUID: self.metadata.uid,
      stubPKCS10Request: stub,
      ...spec,
    },
  };
}

/**
 * What a signer answers with a certificate of `seconds`, refreshed after half of them. It begins five minutes before it
 * is made, and the API server takes no earlier ones: the signer's clock is ahead.
 */
function issued(t: TestApi, seconds: number, from = stub): TestJson {
  const ahead = { ...realClock, now: () => t.clock.now() + 60_000 };
  const chain = signCertificationRequest(
    decodeCertificationRequest(Buffer.from(from, 'base64')),
    { usages: ['client auth'], seconds, ca },
    realRandom,
    ahead,
  );
  const [begin, end] = timesOf(chain);
  return {
    certificateChain: chain,
    notBefore: timestamp(begin),
    notAfter: timestamp(end),
    beginRefreshAt: timestamp((begin + end) / 2),
    conditions: [{ type: 'Issued', status: 'True', reason: 'Ok', message: '', lastTransitionTime: timestamp(begin) }],
  };
}

function timesOf(pem: string): [number, number] {
  const { validFromDate, validToDate } = new X509Certificate(pem);
  return [validFromDate.getTime(), validToDate.getTime()];
}

describe('a PodCertificateRequest', () => {
  it(
    'is made by the node of the Pod alone, for what the Pod shows',
    withApi(async (t) => {
      const body = await askFor(t);
      const cases: [TestJson, TestJson, RegExp][] = [
        [{ nodeName: 'n2' }, node, /which is not the requesting node "n1"/],
        [{ signerName: 'example.org/other' }, node, /does not mount a podCertificate projected volume for signer/],
        [{ serviceAccountName: 'other' }, node, /contains serviceAccountName \("other"\) that differs/],
        [{ podUID: 'x' }, node, /contains pod UID \("x"\) which differs/],
      ];
      for (const [spec, as, words] of cases) {
        const { status, body: answer } = await t.call(
          'POST',
          requests,
          { ...body, spec: { ...body.spec, ...spec } },
          as,
        );
        assert.ok(status === 403 || status === 500, String(status));
        assert.match(answer.message, words);
      }
      const made = await t.call('POST', requests, body, node);
      assert.equal(made.status, 201, made.body.message);
      assert.equal(made.body.spec.maxExpirationSeconds, 86_400);
      assert.equal((await t.call('GET', `${requests}/r`, undefined, node)).status, 200);
      assert.equal((await t.call('GET', requests, undefined, node)).status, 403);
      const own = await t.call('GET', `${requests}?fieldSelector=spec.nodeName%3Dn1`, undefined, node);
      assert.equal(own.body.items?.length, 1);
      const others = user('system:node:n2', 'system:nodes');
      assert.equal((await t.call('GET', `${requests}/r`, undefined, others)).status, 403);
      assert.equal(
        (await t.call('GET', `${requests}?fieldSelector=spec.nodeName%3Dn1`, undefined, others)).status,
        403,
      );
    }),
  );

  it(
    'names a signer, a Pod and a key that signed it, within bounds',
    withApi(async (t) => {
      const body = await askFor(t);
      const weak = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
      const forged = Buffer.from(createStubRequest(key));
      forged[forged.length - 1]! ^= 1;
      const cases: [TestJson, RegExp][] = [
        [{ signerName: 'pods' }, /spec.signerName: Invalid value: "pods": must be a fully qualified domain/],
        [{ signerName: 'com/pods' }, /at least two segments separated by dots/],
        [{ maxExpirationSeconds: 3599 }, /must be in the range \[3600, 7862400\]/],
        [{ maxExpirationSeconds: 90_000, signerName: 'kubernetes.io/x' }, /must be in the range \[3600, 86400\]/],
        [{ stubPKCS10Request: 'AAAA' }, /must be a valid PKCS#10 CSR/],
        [{ stubPKCS10Request: forged.toString('base64') }, /invalid signature/],
        [
          { stubPKCS10Request: Buffer.from(createStubRequest(weak)).toString('base64') },
          /RSA keys must have modulus size 3072 or 4096/,
        ],
        [{ unverifiedUserAnnotations: { plain: 'x' } }, /must be a domain-prefixed key/],
        [{ podUID: '' }, /spec.podUID: Invalid value: "": must not be empty/],
      ];
      for (const [spec, words] of cases) {
        const { status, body: answer } = await t.call('POST', requests, { ...body, spec: { ...body.spec, ...spec } });
        assert.equal(status, 422, `${String(words)}: ${JSON.stringify(answer)}`);
        assert.match(answer.message, words);
      }
    }),
  );

  it(
    'is answered once, by who may sign, with a certificate of its key',
    withApi(async (t) => {
      const made = await t.make(requests, await askFor(t, { maxExpirationSeconds: 7500 }));
      await grant(t, 'signer', 'sign', 'example.com/pods');
      await grant(t, 'stranger', 'sign', 'example.org/pods');
      const put = (status: TestJson, name = 'signer') =>
        t.call('PUT', `${requests}/r/status`, { ...made, status }, user(name));
      const good = issued(t, 7200);
      const condition = good.conditions[0];
      const foreign = Buffer.from(createStubRequest(generateKeyPairSync('ed25519').privateKey)).toString('base64');
      const cases: [TestJson, RegExp][] = [
        [{ ...good, conditions: [] }, /immutable unless transitioning/],
        [{ ...good, conditions: [{ ...condition, type: 'Other' }] }, /supported values: "Issued", "Denied", "Failed"/],
        [{ ...good, conditions: [condition, { ...condition, type: 'Denied' }] }, /at most one condition/],
        [{ ...good, conditions: [{ ...condition, type: 'Denied' }] }, /non-condition status fields must be empty/],
        [{ ...good, certificateChain: 'x' }, /must contain at least one certificate/],
        [issued(t, 7200, foreign), /was not issued to the requested public key/],
        [issued(t, 9000), /lifetime must be <= spec.maxExpirationSeconds \(7500\)/],
        [{ ...good, notAfter: good.notBefore }, /must be set to the NotAfter time/],
        [{ ...good, beginRefreshAt: good.notAfter }, /at least 10 minutes before status.notAfter/],
        [{ ...good, beginRefreshAt: undefined }, /status.beginRefreshAt: Required value/],
      ];
      for (const [status, words] of cases) {
        const answer = await put(status);
        assert.equal(answer.status, 422, `${String(words)}: ${JSON.stringify(answer.body)}`);
        assert.match(answer.body.message, words);
      }
      assert.match((await put(good, 'stranger')).body.message, /is not permitted to "sign" for signer/);
      const answered = await put(good);
      assert.equal(answered.status, 200, answered.body.message);
      const again = { ...answered.body, status: { ...answered.body.status, beginRefreshAt: good.notBefore } };
      assert.match(
        (await t.call('PUT', `${requests}/r/status`, again, user('signer'))).body.message,
        /immutable after PodCertificateRequest is issued/,
      );
    }),
  );
});
