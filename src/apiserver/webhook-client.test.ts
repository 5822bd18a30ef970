import assert from 'node:assert/strict';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { it } from 'node:test';
import { createCertificateAuthority, issueCertificate } from '#base/x509.ts';
import { messageOf } from '#base/thrown.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { createTestApi } from './fixture.ts';
import { createWebhookCaller } from './webhook-client.ts';

it('calls a webhook by its address, and holds the certificate to it', async () => {
  await using t = await createTestApi();
  const ca = createCertificateAuthority('ca', realRandom, realClock);
  const call = createWebhookCaller(t.api.server);
  for (const [ipAddresses, expected] of [
    [['127.0.0.1'], /^answered$/],
    [['127.0.0.2'], /does not match|altnames/i],
  ] as const) {
    const { certificatePem, keyPem } = issueCertificate(
      { commonName: 'hook', server: true, ipAddresses: [...ipAddresses] },
      ca,
      realRandom,
      realClock,
    );
    const server = createServer({ cert: certificatePem, key: keyPem }, (request, response) => {
      request.resume();
      response.end('{"ok":true}');
    });
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
    try {
      const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/x`;
      const answer = await call({ url, caBundle: Buffer.from(ca.certificatePem).toString('base64') }, {}, 5_000).then(
        () => 'answered',
        messageOf,
      );
      assert.match(answer, expected);
    } finally {
      await new Promise((resolve) => {
        server.close(resolve);
      });
    }
  }
});
