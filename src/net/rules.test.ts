import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '#observe/log.ts';
import { createRuleWriter, planPorts, planTable } from './rules.ts';

test('ports for any address and for one go to different maps', () => {
  const text = planPorts('t', 'add', [
    { hostIp: '0.0.0.0', hostPort: 8080, protocol: 'tcp', ip: '10.0.0.2', port: 80 },
    { hostIp: '127.0.0.1', hostPort: 53, protocol: 'udp', ip: '10.0.0.3', port: 53 },
  ]);
  assert.match(text, /add element ip t published \{ tcp \. 8080 : 10\.0\.0\.2 \. 80 \}/);
  assert.match(text, /add element ip t published_at \{ 127\.0\.0\.1 \. udp \. 53 : 10\.0\.0\.3 \. 53 \}/);
});

test('a table made anew empties its maps before it fills them, in one transaction', () => {
  const text = planTable({
    table: 't',
    prefix: 'tph',
    ports: [{ hostIp: '', hostPort: 1, protocol: 'tcp', ip: '10.0.0.2', port: 1 }],
    networks: [],
    unmasqueraded: [],
  });
  assert.ok(text.indexOf('flush map ip t published') < text.indexOf('add element ip t published'));
});

test('changes that come while the kernel is busy go in one transaction, and a bad one fails alone', async () => {
  const texts: string[] = [];
  const rules = createRuleWriter({
    instanceId: 'ab12',
    log: silentLogger,
    nft: {
      run: async (text) => {
        texts.push(text);
        await Promise.resolve();
        if (text.includes('bad')) throw new Error('no');
      },
      list: async () => '',
    },
  });
  const first = rules.run('one');
  const results = await Promise.allSettled([first, rules.run('two'), rules.run('bad'), rules.run('three')]);
  assert.deepEqual(
    results.map((result) => result.status),
    ['fulfilled', 'fulfilled', 'rejected', 'fulfilled'],
  );
  assert.equal(texts[1], 'two\nbad\nthree');
});
