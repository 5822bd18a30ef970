import assert from 'node:assert/strict';
import { test } from 'node:test';
import { specFromRequest } from './create-request.ts';

test('a command without words is the image’s, as dockerd has it; with an entrypoint of one empty word it is none', () => {
  const planned = (body: object): unknown[] => {
    const { command, entrypoint } = specFromRequest({ Image: 'x', Cmd: [], ...body }, 'a', 'sha256:x');
    return [entrypoint, command];
  };
  assert.deepEqual(planned({}), [undefined, undefined]);
  assert.deepEqual(planned({ Entrypoint: [] }), [[], undefined]);
  assert.deepEqual(planned({ Entrypoint: [''] }), [[], []]);
  assert.deepEqual(planned({ Entrypoint: [''], Cmd: ['a'] }), [[], ['a']]);
  assert.deepEqual(specFromRequest({ Image: 'x', Cmd: ['a'] }, 'a', 'sha256:x').command, ['a']);
});

test('who has the machine’s host name cannot have one of its own', () => {
  const body = { Image: 'x', Hostname: 'h', HostConfig: { UTSMode: 'host' } };
  assert.throws(() => specFromRequest(body, 'a', 'sha256:x'), /conflicting options: hostname and the UTS mode/);
});
