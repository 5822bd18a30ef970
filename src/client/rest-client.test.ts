import { test } from 'node:test';
import assert from 'node:assert/strict';
import { kinds } from '#base/kinds.ts';
import type { Patch } from './client.ts';
import { createClient } from './rest-client.ts';
import type { TransportRequest } from './transport.ts';

test('a patch names its object, and its media type is that of its form', async () => {
  const sent: TransportRequest[] = [];
  const client = createClient({
    send: async (request) => {
      sent.push(request);
      return {};
    },
    watch: () => {
      throw new Error('nobody watches');
    },
    async [Symbol.asyncDispose]() {},
  });
  await client.patch(kinds.Pod, { name: 'p', namespace: 'd' }, { json: [{ op: 'remove', path: '/x' }] });
  await client.patch(kinds.Pod, { name: 'p', namespace: 'd' }, { merge: { a: 1 } }, { subresource: 'status' });
  await client.patch(kinds.Node, { name: 'n' }, { strategic: { b: 2 } });
  await client.patch(kinds.Node, { name: 'n' }, { apply: { c: 3 } }, { fieldManager: 'm', force: true });
  assert.deepEqual(
    sent.map(({ method, path, contentType, body }) => [method, path, contentType, body]),
    [
      ['PATCH', '/api/v1/namespaces/d/pods/p', 'application/json-patch+json', [{ op: 'remove', path: '/x' }]],
      ['PATCH', '/api/v1/namespaces/d/pods/p/status', 'application/merge-patch+json', { a: 1 }],
      ['PATCH', '/api/v1/nodes/n', 'application/strategic-merge-patch+json', { b: 2 }],
      ['PATCH', '/api/v1/nodes/n', 'application/apply-patch+yaml', { c: 3 }],
    ],
  );
  assert.equal(String(sent[3]?.query), 'fieldManager=m&force=true');
  // @ts-expect-error A patch has one form.
  const two: Patch = { merge: {}, json: [] };
  assert.ok(two);
});
