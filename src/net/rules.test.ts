import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '#observe/log.ts';
import type { PublishedPort } from './published-port.ts';
import { createRuleWriter, familyWords, planPorts, planTable, type NetworkRules } from './rules.ts';

const { IPv4: v4, IPv6: v6 } = familyWords;

test('ports for any address and for one go to different maps', () => {
  const text = planPorts(v4, 't', 'add', [
    { hostIp: '0.0.0.0', hostPort: 8080, protocol: 'tcp', ip: '10.0.0.2', port: 80 },
    { hostIp: '127.0.0.1', hostPort: 53, protocol: 'udp', ip: '10.0.0.3', port: 53 },
  ]);
  assert.match(text, /add element ip t published \{ tcp \. 8080 : 10\.0\.0\.2 \. 80 \}/);
  assert.match(text, /add element ip t published_at \{ 127\.0\.0\.1 \. udp \. 53 : 10\.0\.0\.3 \. 53 \}/);
});

test('a table made anew empties its maps before it fills them, in one transaction', () => {
  const text = planTable(v4, {
    table: 't',
    prefix: 'tph',
    ports: [{ hostIp: '0.0.0.0', hostPort: 1, protocol: 'tcp', ip: '10.0.0.2', port: 1 }],
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

test('each family has its own table; a port of version 6 that leads to an address of version 4 is no rule', () => {
  const ports: PublishedPort[] = [
    { hostIp: '0.0.0.0', hostPort: 80, protocol: 'tcp', ip: '10.0.0.2', port: 80 },
    { hostIp: '::', hostPort: 80, protocol: 'tcp', ip: 'fd00::2', port: 80 },
    { hostIp: '::', hostPort: 81, protocol: 'tcp', ip: '10.0.0.2', port: 81 },
    { hostIp: '::', hostPort: 0, protocol: 'udp', ip: 'fd00::3', port: 53 },
  ];
  assert.equal(
    planPorts(v6, 't', 'add', ports),
    'add element ip6 t published { tcp . 80 : fd00::2 . 80 }\nadd element ip6 t opened { fd00::2 . tcp . 80, fd00::3 . udp . 53 }\n',
  );
  assert.ok(!planPorts(v4, 't', 'add', ports).includes('81 :'));
  const network: NetworkRules = {
    link: 'br',
    subnets: [
      { subnet: '10.0.0.0/24', masquerade: true },
      { subnet: 'fd00::/64', masquerade: false },
    ],
    internal: false,
    together: true,
    guarded: ['IPv6'],
    routed: ['IPv6'],
    trusted: ['eth9'],
  };
  const plan = { table: 't', prefix: 'tph', ports: [], networks: [network], unmasqueraded: ['10.0.0.0/8'] };
  const [text4, text6] = [planTable(v4, plan), planTable(v6, plan)];
  assert.match(text4, /element ip t masqueraded \{ 10\.0\.0\.0\/24 \}/);
  assert.doesNotMatch(text4, /fd00|element ip t (guarded|routed)/);
  assert.match(text6, /element ip6 t routed_bridges \{ br \}/);
  assert.match(text6, /element ip6 t trusted \{ eth9 \. br \}/);
  assert.doesNotMatch(text6, /10\.0|ip6 t masqueraded \{ fd/);
});
