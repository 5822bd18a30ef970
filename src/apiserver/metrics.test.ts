/** What the API server tells of its requests, and whom it tells of each. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AuditEvent } from './audit.ts';
import { createTestApi, podBody, pods } from './fixture.ts';

test('requests are counted and timed by verb, resource, scope and code; strangers make no series of their own', async () => {
  await using api = await createTestApi();
  await api.make(pods, podBody('a'));
  await api.call('GET', `${pods}/a`);
  await api.call('GET', `${pods}/missing`);
  await api.call('GET', pods);
  await api.call('GET', '/api/v1/pods');
  await api.call('GET', '/apis/stranger.example.com/v1/whatever');
  await api.call('BREW', '/api/v1/whatever');
  const { text, headers } = await api.call('GET', '/metrics');
  assert.match(headers['content-type'] ?? '', /^text\/plain; version=0\.0\.4/);
  const count = (...labels: string[]): number => {
    const line = text
      .split('\n')
      .find((each) => each.startsWith('apiserver_request_total') && labels.every((label) => each.includes(label)));
    return Number(line?.split(' ').at(-1) ?? 0);
  };
  assert.equal(count('verb="POST"', 'resource="pods"', 'scope="namespace"', 'code="201"'), 1);
  assert.equal(count('verb="GET"', 'resource="pods"', 'scope="resource"', 'code="200"'), 1);
  assert.equal(count('verb="GET"', 'resource="pods"', 'scope="resource"', 'code="404"'), 1);
  assert.equal(count('verb="LIST"', 'resource="pods"', 'scope="namespace"', 'code="200"'), 1);
  assert.equal(count('verb="LIST"', 'resource="pods"', 'scope="cluster"', 'code="200"'), 1);
  assert.match(text, /apiserver_request_duration_seconds_bucket\{[^}]*resource="pods"[^}]*le="\+Inf"\} 1/);
  assert.match(text, /apiserver_current_inflight_requests\{request_kind="mutating"\} 0/);
  assert.match(text, /apiserver_current_inflight_requests\{request_kind="readOnly"\} 1/);
  assert.doesNotMatch(text, /stranger|whatever|BREW/i);
});

test('an auditor is told of each request, who asked, as whom, and what came of it', async () => {
  const told: string[] = [];
  const show = (stage: string, { info, user, impersonated, code }: AuditEvent): void => {
    told.push([stage, info.verb, user?.name ?? '-', impersonated?.name ?? '-', code].join(' '));
  };
  const audit = {
    received: (event: AuditEvent) => show('received', event),
    complete: (event: AuditEvent) => show('complete', event),
  };
  await using api = await createTestApi({ audit });
  const ask = async (headers: Record<string, string>, user?: null): Promise<string[]> => {
    told.length = 0;
    await api.call('GET', pods, undefined, { headers, ...(user === undefined ? {} : { user }) });
    return told;
  };
  assert.deepEqual(await ask({}), ['received list admin - 0', 'complete list admin - 200']);
  assert.deepEqual(await ask({ 'impersonate-user': 'jane' }), [
    'received list admin jane 0',
    'complete list admin jane 403',
  ]);
  assert.deepEqual(await ask({ authorization: 'Bearer x' }, null), ['received list - - 0', 'complete list - - 401']);
});
