/** Tokens of other issuers, of a webhook, and what a proxy says; and everything that is wrong with them. */
import assert from 'node:assert/strict';
import { createHmac, generateKeyPairSync, sign, type KeyObject } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createPlainServer, type RequestListener } from 'node:http';
import { createServer, request as httpsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { createCertificateAuthority, issueCertificate, type KeyPair } from '#base/x509.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import type { ServerFlags } from '../server-flags.ts';
import { createTestApi, type TestApi } from '../fixture.ts';
import { HeldPort } from '../held-port.ts';
import { serveHttp } from '../http.ts';
import { configPollMs } from '../limits.ts';
import { ServerFlags as Flags } from '../server-flags.ts';
import { parseAuthenticationConfig } from './authentication-config.ts';

const directory = mkdtempSync(join(tmpdir(), 'tiphys-authn-'));
after(() => rmSync(directory, { recursive: true }));
const write = (name: string, content: string | object): string => {
  const path = join(directory, name);
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
};

const issue = (authority: KeyPair, commonName: string, organizations: string[] = []): KeyPair =>
  issueCertificate(
    { commonName, organizations, ipAddresses: ['127.0.0.1'], dnsNames: ['localhost'], server: true, client: true },
    authority,
    realRandom,
    realClock,
  );
const authority = createCertificateAuthority('test', realRandom, realClock);

/** An issuer of tokens. */
class TestIssuer implements AsyncDisposable {
  readonly keys = new Map<string, { publicKey: KeyObject; privateKey: KeyObject }>();
  readonly asked: string[] = [];
  url = '';
  /** Instead of the usual answer. */
  answer: RequestListener | undefined;
  readonly #server;

  constructor() {
    this.addKey('one');
    const { certificatePem: cert, keyPem: key } = issue(authority, 'issuer');
    this.#server = createServer({ cert, key }, (request, response) => {
      this.asked.push(request.url ?? '');
      if (this.answer !== undefined) {
        this.answer(request, response);
        return;
      }
      const keys = [...this.keys].map(([kid, { publicKey }]) => ({
        ...publicKey.export({ format: 'jwk' }),
        kid,
        use: 'sig',
      }));
      const isKeys = request.url === '/keys';
      response.end(JSON.stringify(isKeys ? { keys } : { issuer: this.url, jwks_uri: `${this.url}/keys` }));
    });
  }

  addKey(id: string): void {
    this.keys.set(id, generateKeyPairSync('rsa', { modulusLength: 2048 }));
  }

  async listen(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    const address = this.#server.address();
    this.url = `https://127.0.0.1:${address !== null && typeof address === 'object' ? address.port : 0}`;
    return this;
  }

  /** A token of this issuer, valid for an hour of the fake clock. */
  token(api: TestApi, claims: object = {}, { kid = 'one', alg = 'RS256' } = {}): string {
    const seconds = Math.floor(api.clock.now() / 1000);
    const whole = { iss: this.url, aud: 'tiphys', sub: 'jane', exp: seconds + 3600, ...claims };
    const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
    const head = `${encode({ alg, kid })}.${encode(whole)}`;
    const key = this.keys.get(kid) ?? this.keys.get('one');
    assert.ok(key !== undefined);
    return `${head}.${sign('sha256', Buffer.from(head), key.privateKey).toString('base64url')}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

async function whoIs(api: TestApi, token: string): Promise<unknown> {
  const path = '/apis/authentication.k8s.io/v1/selfsubjectreviews';
  const answer = await api.call('POST', path, {}, { user: null, headers: { authorization: `Bearer ${token}` } });
  return answer.status === 201 ? answer.body.status.userInfo : answer.status;
}

const caFile = write('ca.pem', authority.certificatePem);
const flagsFor = (issuer: TestIssuer, ...more: string[]): ServerFlags =>
  new Flags([`oidc-issuer-url=${issuer.url}`, 'oidc-client-id=tiphys', `oidc-ca-file=${caFile}`, ...more]);

describe('a token of an issuer', () => {
  let issuer: TestIssuer;
  before(async () => {
    issuer = await new TestIssuer().listen();
  });
  after(() => issuer[Symbol.asyncDispose]());

  it('is its holder, named by a claim, with groups of a claim', async () => {
    const flags = flagsFor(
      issuer,
      'oidc-groups-claim=roles',
      'oidc-groups-prefix=oidc:',
      'oidc-required-claim=tenant=a',
    );
    await using api = await createTestApi({ flags });
    assert.deepEqual(await whoIs(api, issuer.token(api, { tenant: 'a', roles: ['dev', 'ops'] })), {
      username: `${issuer.url}#jane`,
      groups: ['oidc:dev', 'oidc:ops', 'system:authenticated'],
    });
    assert.equal(await whoIs(api, issuer.token(api, { tenant: 'b' })), 401);
    assert.equal(await whoIs(api, issuer.token(api, { tenant: 'a', roles: [1] })), 401);
    const path = '/apis/authentication.k8s.io/v1/tokenreviews';
    const review = await api.call('POST', path, { spec: { token: issuer.token(api, { tenant: 'a' }) } });
    assert.equal(review.body.status.user.username, `${issuer.url}#jane`);
  });

  it('that is not what it should be is nobody', async () => {
    await using api = await createTestApi({ flags: flagsFor(issuer) });
    const seconds = api.clock.now() / 1000;
    const good = issuer.token(api);
    assert.notEqual(await whoIs(api, good), 401);
    const [head = '', body = '', signature = ''] = good.split('.');
    const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
    const publicPem = issuer.keys.get('one')?.publicKey.export({ type: 'spki', format: 'pem' }) ?? '';
    const confused = `${encode({ alg: 'HS256', kid: 'one' })}.${body}`;
    const wrong: Record<string, string> = {
      expired: issuer.token(api, { exp: seconds - 1 }),
      'without an end': issuer.token(api, { exp: undefined }),
      'whose end is a text': issuer.token(api, { exp: String(seconds + 100) }),
      'not valid yet': issuer.token(api, { nbf: seconds + 600 }),
      'for another audience': issuer.token(api, { aud: ['other'] }),
      'without a subject': issuer.token(api, { sub: undefined }),
      'of an empty subject': issuer.token(api, { sub: {} }),
      'of algorithm none': `${encode({ alg: 'none' })}.${body}.`,
      'signed with the public key as a secret': `${confused}.${createHmac('sha256', publicPem).update(confused).digest('base64url')}`,
      'of an algorithm that is not allowed': issuer.token(api, {}, { alg: 'RS512' }),
      'with another body': `${head}.${encode({ iss: issuer.url, aud: 'tiphys', sub: 'root', exp: seconds + 100 })}.${signature}`,
      'without a signature': `${head}.${body}.`,
      'with a critical header': `${encode({ alg: 'RS256', kid: 'one', crit: ['b64'] })}.${body}.${signature}`,
      'of an unknown issuer': issuer.token(api, { iss: 'https://other.example.com' }),
      'of a prototype': issuer.token(api, { iss: '__proto__' }),
      'too long': `${head}.${'a'.repeat(100_000)}.${signature}`,
    };
    for (const [what, token] of Object.entries(wrong)) assert.equal(await whoIs(api, token), 401, what);
    api.clock.advance(3_601_000);
    assert.equal(await whoIs(api, good), 401, 'it was remembered, and has ended');
  });

  it('signed by a new key is known once its keys are fetched again, and an unknown key is not asked for each time', async () => {
    await using own = await new TestIssuer().listen();
    await using api = await createTestApi({ flags: flagsFor(own) });
    assert.notEqual(await whoIs(api, own.token(api)), 401);
    own.addKey('two');
    assert.equal(await whoIs(api, own.token(api, {}, { kid: 'two' })), 401, 'it was fetched a moment ago');
    api.clock.advance(10_000);
    assert.notEqual(await whoIs(api, own.token(api, { n: 1 }, { kid: 'two' })), 401);
    own.asked.length = 0;
    for (let i = 0; i < 20; i++) assert.equal(await whoIs(api, own.token(api, { i }, { kid: `x${i}` })), 401);
    assert.ok(own.asked.length <= 2, own.asked.join(' '));
  });

  it('is nobody while its issuer fails, redirects, lies or floods; then it is known', async () => {
    await using own = await new TestIssuer().listen();
    own.answer = (_request, response) => response.writeHead(500).end();
    await using api = await createTestApi({ flags: flagsFor(own) });
    const answers: Record<string, RequestListener> = {
      'a redirection': (_request, response) => response.writeHead(302, { location: `${issuer.url}/keys` }).end(),
      'no JSON': (_request, response) => response.end('<html>'),
      'another issuer': (_request, response) =>
        response.end(JSON.stringify({ issuer: issuer.url, jwks_uri: `${issuer.url}/keys` })),
      'keys by plain HTTP': (_request, response) =>
        response.end(JSON.stringify({ issuer: own.url, jwks_uri: 'http://127.0.0.1/keys' })),
      megabytes: (_request, response) => response.end('x'.repeat(2_000_000)),
      'a broken connection': (request) => request.socket.destroy(),
    };
    for (const [what, answer] of Object.entries(answers)) {
      own.answer = answer;
      api.clock.advance(10_000);
      assert.equal(await whoIs(api, own.token(api)), 401, what);
    }
    own.answer = undefined;
    api.clock.advance(10_000);
    assert.notEqual(await whoIs(api, own.token(api)), 401);
  });
});

describe('an authentication configuration', () => {
  const config = (issuer: TestIssuer, more: object = {}, top: object = {}): object => ({
    apiVersion: 'apiserver.config.k8s.io/v1',
    kind: 'AuthenticationConfiguration',
    jwt: [
      {
        issuer: { url: issuer.url, certificateAuthority: authority.certificatePem, audiences: ['tiphys'] },
        claimMappings: {
          username: { expression: "claims.sub + '@' + claims.tenant" },
          groups: { expression: "claims.roles.split(',')" },
          uid: { claim: 'uid' },
          extra: [{ key: 'example.com/tenant', valueExpression: 'claims.tenant' }],
        },
        claimValidationRules: [{ expression: 'claims.exp - claims.iat <= 7200', message: 'it lives too long' }],
        userValidationRules: [{ expression: "!user.username.startsWith('system:')", message: 'reserved' }],
        ...more,
      },
    ],
    ...top,
  });

  it('maps claims by expressions, checks them and the user, and is taken up when the file changes', async () => {
    await using issuer = await new TestIssuer().listen();
    const file = write('authn.yaml', config(issuer));
    await using api = await createTestApi({ flags: new Flags([`authentication-config=${file}`]) });
    const iat = Math.floor(api.clock.now() / 1000);
    const claims = { iat, tenant: 'a', roles: 'dev,ops', uid: '7' };
    assert.deepEqual(await whoIs(api, issuer.token(api, claims)), {
      username: 'jane@a',
      uid: '7',
      groups: ['dev', 'ops', 'system:authenticated'],
      extra: { 'example.com/tenant': ['a'] },
    });
    assert.equal(await whoIs(api, issuer.token(api, { ...claims, iat: iat - 10_000 })), 401, 'too long');
    assert.equal(await whoIs(api, issuer.token(api, { ...claims, sub: 'system:admin' })), 401, 'reserved');
    assert.equal(await whoIs(api, issuer.token(api, { ...claims, tenant: undefined })), 401, 'no tenant');
    write('authn.yaml', 'apiVersion: v1');
    api.clock.advance(configPollMs);
    assert.notEqual(await whoIs(api, issuer.token(api, claims)), 401, 'a file that is wrong changes nothing');
    write('authn.yaml', config(issuer, { claimMappings: { username: { claim: 'sub', prefix: 'x:' } } }));
    api.clock.advance(configPollMs);
    assert.deepEqual(await whoIs(api, issuer.token(api, claims)), {
      username: 'x:jane',
      groups: ['system:authenticated'],
    });
    write('authn.yaml', { apiVersion: 'apiserver.config.k8s.io/v1', kind: 'AuthenticationConfiguration', jwt: [] });
    api.clock.advance(configPollMs);
    assert.equal(await whoIs(api, issuer.token(api, claims)), 401);
  });

  it('says at which paths somebody unknown may ask', async () => {
    const anonymous = { enabled: true, conditions: [{ path: '/livez' }] };
    const file = write('anonymous.yaml', {
      apiVersion: 'apiserver.config.k8s.io/v1beta1',
      kind: 'AuthenticationConfiguration',
      anonymous,
    });
    await using api = await createTestApi({ flags: new Flags([`authentication-config=${file}`]) });
    const status = async (path: string): Promise<number> =>
      (await api.call('GET', path, undefined, { user: null })).status;
    assert.deepEqual([await status('/livez'), await status('/readyz'), await status('/api')], [200, 401, 401]);
  });

  it('is refused with all that is wrong with it', () => {
    const wrong = {
      apiVersion: 'apiserver.config.k8s.io/v1',
      kind: 'AuthenticationConfiguration',
      jwt: [
        {
          issuer: { url: 'http://a.example.com?b', audiences: ['a', 'b'], certificateAuthority: 'none' },
          claimMappings: {
            username: { claim: 'sub', expression: 'claims.sub' },
            groups: { claim: 'g' },
            extra: [{ key: 'Upper', valueExpression: 'claims.' }],
          },
          claimValidationRules: [{ requiredValue: 'a' }],
          userValidationRule: [],
        },
      ],
      anonymous: { enabled: false, conditions: [{ path: '/' }] },
    };
    assert.throws(
      () => parseAuthenticationConfig(JSON.stringify(wrong), 'a.yaml', 'https://own'),
      ({ message }: Error) => {
        for (const part of [
          'unknown field "userValidationRule"',
          'jwt[0].issuer.url: Invalid value: "http://a.example.com?b": URL scheme must be https',
          'URL must not contain a query',
          'audienceMatchPolicy must be MatchAny for multiple audiences',
          'does not contain any valid RSA or ECDSA certificates',
          'jwt[0].claimMappings.username: Invalid value: "": claim and expression can\'t both be set',
          'jwt[0].claimMappings.groups.prefix: Required value',
          'jwt[0].claimMappings.extra[0].key: Invalid value: "Upper"',
          'jwt[0].claimMappings.extra[0].valueExpression: Invalid value: "claims.": compilation failed',
          'jwt[0].claimValidationRules[0]: Required value: claim or expression is required',
          'enabled should be set to true when conditions are defined',
        ])
          assert.ok(message.includes(part), `${part}\n${message}`);
        return true;
      },
    );
    const email = { username: { expression: 'claims.email' } };
    const unverified = {
      ...wrong,
      anonymous: undefined,
      jwt: [{ issuer: { url: 'https://a', audiences: ['a'] }, claimMappings: email }],
    };
    assert.throws(
      () => parseAuthenticationConfig(JSON.stringify(unverified), 'a.yaml', ''),
      /claims\.email_verified must be used/,
    );
  });
});

describe('a token webhook', () => {
  it('is asked once for a token, and what it said is remembered', async () => {
    const asked: string[] = [];
    let status = 200;
    const server = createPlainServer((request, response) => {
      let body = '';
      request.setEncoding('utf8').on('data', (part: string) => (body += part));
      request.on('end', () => {
        const { apiVersion, kind, spec } = JSON.parse(body);
        asked.push(spec.token);
        const known = { authenticated: true, user: { username: 'joe', uid: '1', groups: ['g'], extra: { a: ['b'] } } };
        const answer = { apiVersion, kind, status: spec.token === 'good' ? known : { authenticated: false } };
        response.writeHead(status).end(status === 200 ? JSON.stringify(answer) : '');
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
      const address = server.address();
      const port = address !== null && typeof address === 'object' ? address.port : 0;
      const config = write('webhook.yaml', {
        'current-context': 'c',
        contexts: [{ name: 'c', context: { cluster: 'c', user: '' } }],
        clusters: [{ name: 'c', cluster: { server: `http://127.0.0.1:${port}/` } }],
      });
      const flags = new Flags([`authentication-token-webhook-config-file=${config}`]);
      await using api = await createTestApi({ flags });
      const joe = { username: 'joe', uid: '1', groups: ['g', 'system:authenticated'], extra: { a: ['b'] } };
      assert.deepEqual(await Promise.all([whoIs(api, 'good'), whoIs(api, 'good'), whoIs(api, 'bad')]), [joe, joe, 401]);
      assert.deepEqual([await whoIs(api, 'good'), await whoIs(api, 'bad')], [joe, 401]);
      assert.deepEqual(asked.sort(), ['bad', 'good']);
      api.clock.advance(120_000);
      status = 404;
      assert.equal(await whoIs(api, 'good'), 401, 'it is not remembered for ever');
      status = 200;
      assert.deepEqual(await whoIs(api, 'good'), joe, 'a failure is not remembered');
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });
});

describe('an authenticating proxy', () => {
  it('says who asks, and nobody else does', async () => {
    const proxies = createCertificateAuthority('proxies', realRandom, realClock);
    const flags = new Flags([
      `requestheader-client-ca-file=${write('proxies.pem', proxies.certificatePem)}`,
      'requestheader-allowed-names=front',
      'requestheader-username-headers=X-Remote-User',
      'requestheader-group-headers=X-Remote-Group',
      'requestheader-uid-headers=X-Remote-Uid',
      'requestheader-extra-headers-prefix=X-Remote-Extra-',
    ]);
    await using api = await createTestApi({ flags });
    const { proxy } = api.api.server.authenticators ?? {};
    assert.ok(proxy !== undefined);
    const own = issue(authority, 'api');
    await using http = await serveHttp({
      api: api.api,
      serving: own,
      clientCa: authority.certificatePem,
      kubeletClient: own,
      proxy,
      ports: [await HeldPort.open({ host: '127.0.0.1', port: 0 })],
    });
    const ask = (client: KeyPair | undefined): Promise<unknown> =>
      new Promise((resolve, reject) => {
        const out = httpsRequest(
          `https://127.0.0.1:${http.port}/apis/authentication.k8s.io/v1/selfsubjectreviews`,
          {
            method: 'POST',
            agent: false,
            ca: authority.certificatePem,
            ...(client === undefined ? {} : { cert: client.certificatePem, key: client.keyPem }),
            headers: {
              'content-type': 'application/json',
              'x-remote-user': 'jane',
              'x-remote-uid': '9',
              'x-remote-group': ['a, with a comma', 'b'],
              'x-remote-extra-example.com%2Fscope': ['one', 'two'],
            },
          },
          (answer) => {
            let text = '';
            answer.setEncoding('utf8').on('data', (part: string) => (text += part));
            answer.on('end', () =>
              resolve(answer.statusCode === 201 ? JSON.parse(text).status.userInfo : answer.statusCode),
            );
          },
        );
        out.on('error', reject).end('{}');
      });
    assert.deepEqual(await ask(issue(proxies, 'front')), {
      username: 'jane',
      uid: '9',
      groups: ['a, with a comma', 'b', 'system:authenticated'],
      extra: { 'example.com/scope': ['one', 'two'] },
    });
    assert.equal(await ask(issue(proxies, 'other', ['system:masters'])), 403, 'a name that is not allowed is nobody');
    assert.equal(await ask(undefined), 403);
    assert.deepEqual(await ask(issue(authority, 'joe', ['g'])), {
      username: 'joe',
      groups: ['g', 'system:authenticated'],
    });
  });
});
