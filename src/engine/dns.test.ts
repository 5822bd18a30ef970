import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { NameServer } from './dns.ts';

test('a container on two networks is answered for both, by its own links too, and others only for theirs', () => {
  const names = new NameServer({ clock: realClock, log: silentLogger, random: realRandom });
  names.add({ containerId: 'api', networkId: 'back', ip: '10.0.0.2', names: ['api'] });
  names.add({ containerId: 'api', networkId: 'front', ip: '10.1.0.2', names: ['api'], links: ['web:site'] });
  names.add({ containerId: 'web', networkId: 'front', ip: '10.1.0.3', names: ['web'] });
  names.add({ containerId: 'db', networkId: 'back', ip: '10.0.0.3', names: ['db'] });
  assert.deepEqual(names.lookupFor('back', '10.0.0.2', 'web'), ['10.1.0.3']);
  assert.deepEqual(names.lookupFor('back', '10.0.0.2', 'SITE.'), ['10.1.0.3']);
  assert.deepEqual(names.lookupFor('back', '10.0.0.2', 'api'), ['10.0.0.2']);
  assert.deepEqual(names.lookupFor('back', '10.0.0.3', 'web'), []);
  assert.deepEqual(names.lookupFor('front', '10.1.0.3', 'site'), []);
  names.forget('web');
  assert.deepEqual(names.lookupFor('back', '10.0.0.2', 'web'), []);
});
