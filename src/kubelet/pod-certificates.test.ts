import assert from 'node:assert/strict';
import { createPublicKey, X509Certificate } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { PodCertificateRequest, PodCertificateRequestStatus } from '#api/certificates.v1.ts';
import type { Pod } from '#api/core.v1.ts';
import { decodeCertificationRequest } from '#base/certificate-request.ts';
import { ApiError } from '#base/errors.ts';
import { timestamp } from '#base/timestamp.ts';
import { createCertificateAuthority, signCertificationRequest } from '#base/x509.ts';
import type { Client } from '#client/client.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { certificateAskedMsMax, certificateJitterMsMax } from './limits.ts';
import { podCertificate, type CredentialBundle } from './pod-certificates.ts';
import { stored } from './stored.testing.ts';

const ca = createCertificateAuthority('test', realRandom, realClock);
const source = { signerName: 'example.com/pods', keyType: 'ECDSAP384', maxExpirationSeconds: 7200 };
const pod: Pod = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { ...stored, name: 'p', namespace: 'default', uid: 'pod-uid' },
  spec: { containers: [{ name: 'c' }], serviceAccountName: 'runner' },
};

/** A cluster of one node: what it was asked for, and a signer that answers when it is told to. */
class Scene {
  readonly requests = new Map<string, PodCertificateRequest>();
  readonly directory: string;
  nowMs = realClock.now();
  /** What becomes of a request as soon as somebody waits for it. */
  answer: 'Issued' | 'Denied' | undefined;

  constructor(directory: string) {
    this.directory = directory;
  }

  async certificate(): Promise<CredentialBundle> {
    const clock = { ...realClock, now: () => this.nowMs };
    return podCertificate(
      { client: this.#client, clock, random: { ...realRandom, float: () => 0.5 }, nodeName: 'n1' },
      { pod, source, file: join(this.directory, 'note.json') },
    );
  }

  settle(request: PodCertificateRequest): void {
    if (this.answer === undefined) return;
    const status: PodCertificateRequestStatus = this.answer === 'Issued' ? this.#sign(request) : {};
    status.conditions = [
      { type: this.answer, status: 'True', reason: 'Test', message: 'so', lastTransitionTime: timestamp(this.nowMs) },
    ];
    request.status = status;
  }

  #sign({ spec }: PodCertificateRequest): PodCertificateRequestStatus {
    const chain = signCertificationRequest(
      decodeCertificationRequest(Buffer.from(spec.stubPKCS10Request, 'base64')),
      { usages: ['client auth'], seconds: spec.maxExpirationSeconds ?? 0, ca },
      realRandom,
      realClock,
    );
    return { certificateChain: `# signed\n${chain}`, beginRefreshAt: timestamp(this.nowMs + 3_600_000) };
  }

  get #client(): Client {
    const { requests } = this;
    return {
      get: async (kind: { kind: string }, name: string) => {
        if (kind.kind !== 'PodCertificateRequest') return { metadata: { ...stored, name, uid: `${name}-uid` } };
        const found = requests.get(name);
        if (found === undefined) throw new ApiError('NotFound', 'gone');
        return structuredClone(found);
      },
      create: async (_kind: unknown, object: PodCertificateRequest) => {
        const name = `req-${requests.size}`;
        const made = { ...object, metadata: { ...stored, ...object.metadata, name } };
        requests.set(name, made);
        return made;
      },
      watch: async function* (this: void, _kind: unknown, options: { fieldSelector: string }) {
        const name = /metadata.name=([^,]+),spec.nodeName=n1$/.exec(options.fieldSelector)?.[1] ?? '';
        const found = requests.get(name);
        if (found === undefined) return;
        scenes.get(requests)?.settle(found);
        if (found.status !== undefined) yield { type: 'MODIFIED', object: found };
      },
    } as unknown as Client;
  }
}
const scenes = new WeakMap<object, Scene>();

async function inScene(run: (scene: Scene) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'tiphys-certificates-'));
  const scene = new Scene(directory);
  scenes.set(scene.requests, scene);
  try {
    await run(scene);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

const belongsTo = ({ keyPem, chainPem }: CredentialBundle): boolean =>
  new X509Certificate(chainPem).publicKey.equals(createPublicKey(keyPem));

test('a certificate is asked for once, in the words of the Pod, and held with its key', async () => {
  await inScene(async (scene) => {
    scene.answer = 'Issued';
    const first = await scene.certificate();
    assert.ok(belongsTo(first));
    assert.ok(!first.chainPem.includes('#'), 'what stands between the blocks is no part of the chain');
    const [request] = scene.requests.values();
    assert.deepEqual(request?.metadata.ownerReferences, [{ apiVersion: 'v1', kind: 'Pod', name: 'p', uid: 'pod-uid' }]);
    const { stubPKCS10Request: _, ...spec } = request.spec;
    assert.deepEqual(spec, {
      signerName: 'example.com/pods',
      podName: 'p',
      podUID: 'pod-uid',
      serviceAccountName: 'runner',
      serviceAccountUID: 'runner-uid',
      nodeName: 'n1',
      nodeUID: 'n1-uid',
      maxExpirationSeconds: 7200,
    });
    assert.deepEqual(await scene.certificate(), {
      ...first,
      refreshAtMs: scene.nowMs + 3_600_000 + certificateJitterMsMax / 2 - (scene.nowMs % 1000),
    });
    assert.equal(scene.requests.size, 1, 'another kubelet would find it in its file');
  });
});

test('a renewal has a key of its own, and what is held is shown until it is there', async () => {
  await inScene(async (scene) => {
    scene.answer = 'Issued';
    const first = await scene.certificate();
    scene.answer = undefined;
    scene.nowMs += 3_600_000 + certificateJitterMsMax;
    assert.equal((await scene.certificate()).keyPem, first.keyPem);
    assert.equal((await scene.certificate()).keyPem, first.keyPem);
    assert.equal(scene.requests.size, 2);
    scene.answer = 'Issued';
    for (const request of scene.requests.values()) if (request.status === undefined) scene.settle(request);
    const second = await scene.certificate();
    assert.notEqual(second.keyPem, first.keyPem);
    assert.ok(belongsTo(second));
  });
});

test('a request that nobody answers is looked at again; one that was deleted is made anew', async () => {
  await inScene(async (scene) => {
    for (let pass = 0; pass < 2; pass++) await assert.rejects(scene.certificate(), /is not issued yet/);
    assert.equal(scene.requests.size, 1);
    const [name] = scene.requests.keys();
    scene.requests.set('other', scene.requests.get(name!)!);
    scene.requests.delete(name!);
    await assert.rejects(scene.certificate(), /is not issued yet/, 'it may only not be seen yet');
    scene.nowMs += certificateAskedMsMax;
    await assert.rejects(scene.certificate(), /is not issued yet/);
    scene.answer = 'Issued';
    assert.ok(belongsTo(await scene.certificate()));
    assert.equal(scene.requests.size, 2);
  });
});

test('what the signer refuses stays refused', async () => {
  await inScene(async (scene) => {
    scene.answer = 'Denied';
    for (let pass = 0; pass < 2; pass++)
      await assert.rejects(scene.certificate(), /permanently denied: reason="Test" message="so"/);
    assert.equal(scene.requests.size, 1);
  });
});
