import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import { createTestApi } from './fixture.ts';
import type { TestApi } from './fixture.ts';

const definitions = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
const pathOf = (version: string): string => `/apis/example.com/${version}/namespaces/default/hosts`;

const text = { type: 'string' };
const versionsOf = (stored: string): TestJson[] => [
  {
    name: 'v1',
    served: true,
    storage: stored === 'v1',
    selectableFields: [{ jsonPath: '.hostPort' }],
    schema: { openAPIV3Schema: { type: 'object', properties: { hostPort: text } } },
  },
  {
    name: 'v2',
    served: true,
    storage: stored === 'v2',
    selectableFields: [{ jsonPath: '.host' }, { jsonPath: '.port' }],
    schema: {
      openAPIV3Schema: {
        type: 'object',
        properties: { host: text, port: text, scheme: { ...text, default: 'http' } },
      },
    },
  },
];

const definition = (stored: string): TestJson => ({
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'hosts.example.com' },
  spec: {
    group: 'example.com',
    scope: 'Namespaced',
    names: { plural: 'hosts', singular: 'host', kind: 'Host', listKind: 'HostList' },
    versions: versionsOf(stored),
    conversion: {
      strategy: 'Webhook',
      webhook: { conversionReviewVersions: ['v1'], clientConfig: { url: 'https://convert.example.com/' } },
    },
  },
});

/** `hostPort` of v1 is `host` and `port` of v2. */
function convert({ request: { uid, desiredAPIVersion, objects } }: TestJson): TestJson {
  const convertedObjects = objects.map((object: TestJson) => {
    const { hostPort, host, port, ...rest } = object;
    const out = { ...rest, apiVersion: desiredAPIVersion };
    if (desiredAPIVersion === 'example.com/v1')
      return host === undefined ? out : { ...out, hostPort: `${host}:${port}` };
    if (hostPort === undefined) return out;
    const [first, second] = hostPort.split(':');
    return { ...out, host: first, port: second };
  });
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'ConversionReview',
    response: { uid, result: { status: 'Success' }, convertedObjects },
  };
}

const host = (version: string, name: string, fields: TestJson): TestJson => ({
  apiVersion: `example.com/${version}`,
  kind: 'Host',
  metadata: { name },
  ...fields,
});

/** With a webhook that answers by `answer`; says how many objects it was given. */
async function serve(t: TestApi, answer: (review: TestJson) => TestJson = convert): Promise<{ objects: number }> {
  const asked = { objects: 0 };
  t.api.server.callWebhook = (_config, review: TestJson) => {
    asked.objects += review.request.objects.length;
    return Promise.resolve(answer(review));
  };
  await t.make(definitions, definition('v1'));
  await until(() => t.api.server.kinds.find('example.com', 'v2', 'hosts') !== undefined);
  return asked;
}

async function until(isDone: () => boolean): Promise<void> {
  for (let i = 0; i < 1_000 && !isDone(); i++) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(isDone());
}

const merge = { headers: { 'content-type': 'application/merge-patch+json' } };

describe('conversion webhooks', () => {
  it('convert what is written and read', async () => {
    await using t = await createTestApi();
    const asked = await serve(t);
    await t.make(pathOf('v1'), host('v1', 'a', { hostPort: 'localhost:8080' }));
    assert.equal(asked.objects, 0);
    const read = (await t.call('GET', `${pathOf('v2')}/a`)).body;
    assert.deepEqual(
      [read.apiVersion, read.host, read.port, read.hostPort],
      ['example.com/v2', 'localhost', '8080', undefined],
    );
    assert.equal(read.scheme, 'http');
    assert.equal(asked.objects, 1);
    await t.call('GET', `${pathOf('v2')}/a`);
    assert.equal(asked.objects, 1, 'what was converted is known');
    const made = await t.make(pathOf('v2'), host('v2', 'b', { host: 'example.com', port: '1' }));
    assert.deepEqual([made.apiVersion, made.host], ['example.com/v2', 'example.com']);
    assert.equal((await t.call('GET', `${pathOf('v1')}/b`)).body.hostPort, 'example.com:1');
    const patched = await t.call(
      'PATCH',
      `${pathOf('v2')}/a`,
      { port: '9' },
      {
        headers: { 'content-type': 'application/merge-patch+json' },
      },
    );
    assert.equal(patched.body.port, '9');
    assert.equal((await t.call('GET', `${pathOf('v1')}/a`)).body.hostPort, 'localhost:9');
    const table = await t.call('GET', pathOf('v2'), undefined, {
      headers: { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' },
    });
    assert.equal(table.body.rows.length, 2);
    assert.equal((await t.call('DELETE', `${pathOf('v2')}/a`)).status, 200);
  });

  it('convert lists of objects that were stored in different versions', async () => {
    await using t = await createTestApi();
    await serve(t);
    await t.make(pathOf('v1'), host('v1', 'a', { hostPort: 'localhost:1' }));
    const { body } = await t.call('GET', `${definitions}/hosts.example.com`);
    body.spec.versions = versionsOf('v2');
    assert.equal((await t.call('PATCH', `${definitions}/hosts.example.com`, { spec: body.spec }, merge)).status, 200);
    await until(() => t.api.server.kinds.find('example.com', 'v1', 'hosts')?.storage.version === 'v2');
    await t.make(pathOf('v1'), host('v1', 'b', { hostPort: 'localhost:2' }));
    const list = async (version: string): Promise<TestJson[]> => (await t.call('GET', pathOf(version))).body.items;
    assert.deepEqual(
      (await list('v1')).map(({ apiVersion, hostPort, host: other }) => [apiVersion, hostPort, other]),
      [
        ['example.com/v1', 'localhost:1', undefined],
        ['example.com/v1', 'localhost:2', undefined],
      ],
    );
    assert.deepEqual(
      (await list('v2')).map(({ apiVersion, host: name, port }) => [apiVersion, name, port]),
      [
        ['example.com/v2', 'localhost', '1'],
        ['example.com/v2', 'localhost', '2'],
      ],
    );
    // Written again as it is, an object is stored in the new version.
    const [first] = await list('v1');
    assert.equal((await t.call('PUT', `${pathOf('v1')}/a`, first)).status, 200);
    const stored = await t.api.server.store.get('/registry/example.com/hosts/default/a');
    assert.ok(stored);
    assert.equal(t.api.server.objects.view(stored).apiVersion, 'example.com/v2');
  });

  it('convert before fields are selected by, in lists and watches', async () => {
    await using t = await createTestApi();
    await serve(t);
    const stop = new AbortController();
    const answer = await t.raw('GET', `${pathOf('v2')}?watch=true&fieldSelector=host%3Dhost1`, {
      wantsObject: true,
      signal: stop.signal,
    });
    await t.make(pathOf('v1'), host('v1', 'a', { hostPort: 'host1:80' }));
    await t.make(pathOf('v1'), host('v1', 'b', { hostPort: 'host2:80' }));
    await t.call(
      'PATCH',
      `${pathOf('v1')}/a`,
      { hostPort: 'host3:80' },
      {
        headers: { 'content-type': 'application/merge-patch+json' },
      },
    );
    const seen: TestJson[] = [];
    for await (const batch of answer.events ?? []) {
      for (const { type, object } of batch as TestJson[]) seen.push([type, object.apiVersion, object.host]);
      if (seen.length >= 2) break;
    }
    stop.abort();
    assert.deepEqual(seen, [
      ['ADDED', 'example.com/v2', 'host1'],
      ['DELETED', 'example.com/v2', 'host1'],
    ]);
    const names = async (version: string, selector: string): Promise<string[]> =>
      (await t.call('GET', `${pathOf(version)}?fieldSelector=${encodeURIComponent(selector)}`)).body.items.map(
        (item: TestJson) => item.metadata.name,
      );
    assert.deepEqual(await names('v2', 'host=host2,port=80'), ['b']);
    assert.deepEqual(await names('v1', 'hostPort=host3:80'), ['a']);
    await t.call('DELETE', `${pathOf('v2')}?fieldSelector=host%3Dhost2`);
    assert.deepEqual(await names('v1', ''), ['a']);
  });

  const faults: [string, (review: TestJson) => TestJson, RegExp][] = [
    [
      'a failure',
      (review) => ({
        ...convert(review),
        response: { uid: review.request.uid, result: { status: 'Failed', message: 'no way' } },
      }),
      /^conversion webhook for example\.com\/v1, Kind=Host failed: no way$/,
    ],
    [
      'another uid',
      (review) => ({ ...convert(review), response: { uid: 'x', result: { status: 'Success' } } }),
      /failed: expected response\.uid=".*", got "x"$/,
    ],
    [
      'too few objects',
      (review) => ({ ...convert(review), response: { uid: review.request.uid, result: { status: 'Success' } } }),
      /returned 0 objects, expected 1$/,
    ],
    [
      'another version',
      (review) => convert({ request: { ...review.request, desiredAPIVersion: 'example.com/v3' } }),
      /returned invalid converted object at index 0: invalid groupVersion \(expected example\.com\/v2, received example\.com\/v3\)$/,
    ],
    [
      'another name',
      (review) => {
        const answer = convert(review);
        answer.response.convertedObjects[0].metadata = { name: 'z' };
        return answer;
      },
      /must have the same name: a != z$/,
    ],
  ];
  for (const [what, answer, message] of faults)
    it(`refuse ${what}`, async () => {
      await using t = await createTestApi();
      await serve(t, answer);
      await t.make(pathOf('v1'), host('v1', 'a', { hostPort: 'localhost:8080' }));
      const read = await t.call('GET', `${pathOf('v2')}/a`);
      assert.equal(read.status, 500);
      assert.match(read.body.message, message);
      assert.equal((await t.call('GET', `${pathOf('v1')}/a`)).status, 200);
    });

  it('convert for a webhook of admission that knows another version, and back', async () => {
    await using t = await createTestApi();
    await serve(t);
    const seen: TestJson[] = [];
    t.api.server.callWebhook = async (_config, review: TestJson) => {
      if (review.kind === 'ConversionReview') return convert(review);
      const { uid, object } = review.request;
      seen.push(object);
      const patch = Buffer.from(JSON.stringify([{ op: 'replace', path: '/port', value: '443' }])).toString('base64');
      return { response: { uid, allowed: true, patchType: 'JSONPatch', patch } };
    };
    await t.make('/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations', {
      metadata: { name: 'w' },
      webhooks: [
        {
          name: 'hosts.example.com',
          sideEffects: 'None',
          admissionReviewVersions: ['v1'],
          clientConfig: { url: 'https://hook.example.com' },
          rules: [{ operations: ['CREATE'], apiGroups: ['example.com'], apiVersions: ['v2'], resources: ['hosts'] }],
        },
      ],
    });
    const made = await t.make(pathOf('v1'), host('v1', 'a', { hostPort: 'localhost:80' }));
    assert.deepEqual(
      seen.map(({ apiVersion, host: name, port }) => [apiVersion, name, port]),
      [['example.com/v2', 'localhost', '80']],
    );
    assert.deepEqual([made.apiVersion, made['hostPort']], ['example.com/v1', 'localhost:443']);
    assert.equal((await t.call('GET', `${pathOf('v2')}/a`)).body['port'], '443');
  });
});
