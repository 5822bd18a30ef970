/** What the API server tells of its requests. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
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

test('watches count while they go on', async () => {
  await using api = await createTestApi();
  const end = new AbortController();
  const watching = async (): Promise<string> =>
    /^apiserver_longrunning_requests\{verb="WATCH"[^}]*resource="pods".* (\d+)$/m.exec(
      (await api.call('GET', '/metrics')).text,
    )?.[1] ?? 'none';
  await api.raw('GET', `${pods}?watch=1`, { signal: end.signal });
  assert.equal(await watching(), '1');
  end.abort();
  assert.equal(await watching(), '0');
  await api.raw('GET', `${pods}?watch=1&resourceVersion=nonsense`, { signal: new AbortController().signal });
  assert.equal(await watching(), '0', 'what was refused does not go on');
});
