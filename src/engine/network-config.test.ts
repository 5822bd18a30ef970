import assert from 'node:assert/strict';
import { test } from 'node:test';
import { applyConfig, checkConfigUnused, checkConfigUse } from './network-config.ts';
import type { NetworkRecord } from './network-record.ts';

const config: NetworkRecord = {
  format: 2,
  id: 'c'.repeat(64),
  name: 'cfg',
  driver: 'null',
  createdAtMs: 0,
  internal: false,
  attachable: false,
  ingress: false,
  enableIpv4: true,
  enableIpv6: true,
  labels: { a: '1' },
  options: { 'com.docker.network.driver.mtu': '1300' },
  blocks: [],
  configOnly: true,
  configured: [{ subnet: '10.88.0.0/24' }],
};

test('a network takes the settings of the one that it names, by name or id', () => {
  for (const configFrom of ['cfg', config.id]) {
    const made = applyConfig({ name: 'n', driver: 'macvlan', internal: true, configFrom }, [config]);
    assert.deepEqual(made, {
      name: 'n',
      driver: 'macvlan',
      internal: true,
      configFrom: 'cfg',
      enableIpv4: true,
      enableIpv6: true,
      labels: { a: '1' },
      options: { 'com.docker.network.driver.mtu': '1300' },
      addresses: [{ subnet: '10.88.0.0/24' }],
    });
  }
  const { configOnly: _, ...plain } = config;
  assert.throws(() => applyConfig({ name: 'n', configFrom: 'cfg' }, [plain]), /"cfg" does not exist/);
});

test('what belongs to the other kind of network is refused, and so is a removal while it is used', () => {
  const network = { name: 'n' };
  assert.throws(
    () => checkConfigUse({ ...network, configOnly: true, internal: true }),
    /can only contain network specific/,
  );
  assert.throws(() => checkConfigUse({ ...network, configOnly: true, configFrom: 'cfg' }), /cannot depend on another/);
  assert.throws(
    () => checkConfigUse({ ...network, configFrom: 'cfg', labels: { a: '' } }),
    /user specified configurations/,
  );
  assert.throws(() => checkConfigUse({ ...network, configFrom: 'cfg', options: { a: '' } }), /driver options are not/);
  checkConfigUse({ ...network, configFrom: 'cfg', labels: {}, options: {}, addresses: [], internal: true });
  const { configOnly: _, ...plain } = config;
  assert.throws(() => checkConfigUnused(config, [{ ...plain, configFrom: 'cfg' }]), /"cfg" is in use/);
  checkConfigUnused(config, [plain]);
});
