import { test } from 'node:test';
import assert from 'node:assert/strict';
import { planApparmor } from './apparmor.ts';

test('where the host has AppArmor, containers have a profile unless they say otherwise', () => {
  assert.equal(planApparmor(undefined, false, 'd'), 'd');
  assert.equal(planApparmor(undefined, true, 'd'), undefined, 'privileged');
  assert.equal(planApparmor('unconfined', false, 'd'), undefined);
  assert.equal(planApparmor('mine', true, 'd'), 'mine', 'a name holds for privileged containers, too');
  assert.equal(planApparmor('docker-default', false, 'd'), 'd');
});

test('where it has none, nothing is asked of the runtime', () => {
  assert.equal(planApparmor('mine', false, undefined), undefined);
});
