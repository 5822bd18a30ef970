import assert from 'node:assert/strict';
import { test } from 'node:test';
import { specFromRequest } from './create-request.ts';

test('a command without words is the image’s, as dockerd has it; an entrypoint without words is none', () => {
  const spec = specFromRequest({ Image: 'x', Cmd: [], Entrypoint: [''] }, 'a', 'sha256:x');
  assert.equal(spec.command, undefined);
  assert.deepEqual(spec.entrypoint, []);
  assert.deepEqual(specFromRequest({ Image: 'x', Cmd: ['a'] }, 'a', 'sha256:x').command, ['a']);
});

test('who has the machine’s host name cannot have one of its own', () => {
  const body = { Image: 'x', Hostname: 'h', HostConfig: { UTSMode: 'host' } };
  assert.throws(() => specFromRequest(body, 'a', 'sha256:x'), /conflicting options: hostname and the UTS mode/);
});
