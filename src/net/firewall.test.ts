import { test } from 'node:test';
import assert from 'node:assert/strict';
import { planCover } from './firewall.ts';

const own = '-m comment --comment tiphys_1a2b -j ACCEPT';
const rules = [`-i tph1a2b+ ${own}`, `-o tph1a2b+ ${own}`].map((rule) => rule.split(' '));
const plan = (lines: string[]): string[] =>
  planCover(lines.join('\n'), 'FORWARD', rules, '1a2b').map((command) => command.join(' '));

test('where nothing is dropped, nothing is added', () => {
  assert.deepEqual(plan(['-P FORWARD ACCEPT']), []);
  assert.deepEqual(
    plan(['-P FORWARD ACCEPT', '-A FORWARD -s 10.0.0.1/32 -j DROP']),
    [],
    "a rule of the user's is meant",
  );
});

test("where the policy drops, accepts stand behind every rule of the user's", () => {
  assert.deepEqual(
    plan(['-P FORWARD DROP', '-N DOCKER-USER', '-A FORWARD -j DOCKER-USER', '-A DOCKER-USER -s 1.2.3.4/32 -j DROP']),
    [`-A FORWARD -i tph1a2b+ ${own}`, `-A FORWARD -o tph1a2b+ ${own}`],
  );
});

test('a rule that drops all the rest is a policy: accepts stand before it', () => {
  const commands = plan([
    '-P FORWARD ACCEPT',
    '-A FORWARD -s 1.2.3.4/32 -j DROP',
    '-A FORWARD -j REJECT --reject-with icmp-host-prohibited',
  ]);
  assert.deepEqual(commands, [`-I FORWARD 2 -i tph1a2b+ ${own}`, `-I FORWARD 2 -o tph1a2b+ ${own}`]);
});

test('a chain that ends in such a rule is one too', () => {
  const commands = plan([
    '-P FORWARD ACCEPT',
    '-N ufw-reject-forward',
    '-A FORWARD -j ufw-reject-forward',
    '-A ufw-reject-forward -j REJECT --reject-with icmp-port-unreachable',
  ]);
  assert.equal(commands[0], `-I FORWARD 1 -i tph1a2b+ ${own}`);
});

test('what stands right is left', () => {
  assert.deepEqual(
    plan([
      '-P FORWARD DROP',
      '-A FORWARD -s 1.2.3.4/32 -j DROP',
      `-A FORWARD -i tph1a2b+ ${own}`,
      `-A FORWARD -o tph1a2b+ ${own}`,
    ]),
    [],
  );
  assert.deepEqual(
    plan(['-P FORWARD ACCEPT', `-A FORWARD -i tph1a2b+ ${own}`, `-A FORWARD -o tph1a2b+ ${own}`, '-A FORWARD -j DROP']),
    [],
  );
});

test('rules that the user has added behind ours come before them again, without a gap', () => {
  const commands = plan([
    '-P FORWARD DROP',
    `-A FORWARD -i tph1a2b+ ${own}`,
    `-A FORWARD -o tph1a2b+ ${own}`,
    '-A FORWARD -d 10.1.2.3/32 -j DROP',
  ]);
  assert.deepEqual(commands, [
    `-A FORWARD -i tph1a2b+ ${own}`,
    `-A FORWARD -o tph1a2b+ ${own}`,
    `-D FORWARD -i tph1a2b+ ${own}`,
    `-D FORWARD -o tph1a2b+ ${own}`,
  ]);
});

test("rules of another instance are as the user's", () => {
  const other = own.replace('1a2b', '9f9f');
  assert.equal(plan(['-P FORWARD DROP', `-A FORWARD -i tph9f9f+ ${other}`]).length, 2);
});
