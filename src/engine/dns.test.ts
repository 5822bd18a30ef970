import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { NameServer } from './dns.ts';

const nameServer = (): NameServer =>
  new NameServer({
    clock: realClock,
    log: silentLogger,
    random: realRandom,
    nft: { run: async () => undefined, list: async () => '' },
  });

test('a container on two networks is answered for both, by its own links too, and others only for theirs', () => {
  const names = nameServer();
  names.add({ containerId: 'api', networkId: 'b1', networkName: 'back', addresses: ['10.0.0.2'], names: ['api'] });
  names.add({
    containerId: 'api',
    networkId: 'f1',
    networkName: 'front',
    addresses: ['10.1.0.2'],
    names: ['api'],
    links: ['web:site'],
  });
  names.add({ containerId: 'web', networkId: 'f1', networkName: 'front', addresses: ['10.1.0.3'], names: ['web'] });
  names.add({ containerId: 'db', networkId: 'b1', networkName: 'back', addresses: ['10.0.0.3'], names: ['db'] });
  assert.deepEqual(names.lookupFor('api', 'web'), ['10.1.0.3']);
  assert.deepEqual(names.lookupFor('api', 'SITE.'), ['10.1.0.3']);
  assert.deepEqual(names.lookupFor('api', 'api'), ['10.0.0.2']);
  assert.deepEqual(names.lookupFor('db', 'web'), []);
  assert.deepEqual(names.lookupFor('web', 'site'), []);
  assert.deepEqual(names.lookupFor('stranger', 'web'), []);
  names.forget('web');
  assert.deepEqual(names.lookupFor('api', 'web'), []);
});

test('a name may say its network, and an address has the first name with its network', () => {
  const names = nameServer();
  names.add({ containerId: 'a', networkId: '1', networkName: 'my.net', addresses: ['10.0.0.2'], names: ['a'] });
  names.add({
    containerId: 'b',
    networkId: '1',
    networkName: 'my.net',
    addresses: ['10.0.0.3'],
    names: ['b.c', 'alias', 'webhost'],
  });
  assert.deepEqual(
    ['b.c', 'b.c.my.net', 'ALIAS.my.net.', 'webhost', 'b.c.other', 'my.net', '.my.net'].map((name) =>
      names.lookupFor('a', name),
    ),
    [['10.0.0.3'], ['10.0.0.3'], ['10.0.0.3'], ['10.0.0.3'], [], [], []],
  );
  assert.equal(names.reverseFor('a', '10.0.0.3'), 'b.c.my.net');
  assert.equal(names.reverseFor('stranger', '10.0.0.3'), undefined);
});
