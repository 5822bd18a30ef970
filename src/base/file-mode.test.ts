import assert from 'node:assert/strict';
import { test } from 'node:test';
import { changeMode, isModeText } from './file-mode.ts';

test('changes of a mode are those of chmod', () => {
  for (const [mode, text, isDirectory, expected] of [
    [0o644, 'u+x', false, 0o744],
    [0o777, 'go-w', false, 0o755],
    [0o600, 'a=r', false, 0o444],
    [0o640, 'u=rwX,go=rX', true, 0o755],
    [0o640, 'u=rwX,go=rX', false, 0o644],
    [0o740, 'g+X', false, 0o750],
    [0o755, 'u+s,g+s,+t', false, 0o7755],
    [0o644, '+x-r', false, 0o311],
  ] as const)
    assert.equal(changeMode(mode, text, isDirectory).toString(8), expected.toString(8), text);
});

test('what is no change of a mode is none', () => {
  assert.deepEqual(['u+x', 'a=', '+t', '755', 'u', 'z+x', '', 'u+x,'].map(isModeText), [
    true,
    true,
    true,
    false,
    false,
    false,
    false,
    false,
  ]);
});
