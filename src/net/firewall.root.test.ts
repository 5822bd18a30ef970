import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { silentLogger } from '#observe/log.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import type { Processes } from '#os/processes.ts';
import { coverForward, coverInput, uncoverForward, type FirewallOptions } from './firewall.ts';

describe(
  "the host's firewall, in a network namespace of the test's own",
  { skip: process.getuid?.() !== 0 ? 'needs root' : linuxProcesses.find('ip') === undefined && 'needs iproute2' },
  () => {
    const namespace = `tiphys-firewall-${process.pid}`;
    // The older kind and firewalld are the whole machine's.
    const processes: Processes = {
      ...linuxProcesses,
      find: (program) =>
        ['iptables-legacy', 'ip6tables-legacy', 'firewall-cmd'].includes(program)
          ? undefined
          : linuxProcesses.find(program),
      run: (file, args, more) => linuxProcesses.run('ip', ['netns', 'exec', namespace, file, ...args], more),
    };
    const options = (instanceId: string, links: string[] = []): FirewallOptions => ({
      processes,
      instanceId,
      log: silentLogger,
      links,
      listLinks: () => [`tph${instanceId}h`],
    });
    const rules = async (chain: string): Promise<string[]> =>
      (await processes.run('iptables-nft', ['-S', chain])).stdout.trim().split('\n');
    const iptables = (...args: string[]): Promise<unknown> => processes.run('iptables-nft', args);
    const accept = (side: string, link: string): string =>
      `-A FORWARD ${side} ${link} -m comment --comment tiphys_ab12 -j ACCEPT`;

    before(async () => {
      assert.equal((await linuxProcesses.run('ip', ['netns', 'add', namespace])).code, 0);
    });
    after(async () => {
      await linuxProcesses.run('ip', ['netns', 'del', namespace]);
    });

    test('where nothing drops, there is DOCKER-USER and nothing else, and it goes again with the table', async () => {
      await coverForward(options('ab12'));
      assert.deepEqual(await rules('FORWARD'), [
        '-P FORWARD ACCEPT',
        '-A FORWARD -m comment --comment tiphys -j DOCKER-USER',
      ]);
      await uncoverForward(options('ab12'));
      assert.equal((await processes.run('nft', ['list', 'tables'])).stdout.trim(), '');
    });

    test("a chain with rules of the user's stays", async () => {
      await coverForward(options('ab12'));
      await iptables('-I', 'DOCKER-USER', '-s', '9.9.9.9', '-j', 'DROP');
      await uncoverForward(options('ab12'));
      assert.deepEqual(await rules('DOCKER-USER'), ['-N DOCKER-USER', '-A DOCKER-USER -s 9.9.9.9/32 -j DROP']);
      assert.equal((await rules('FORWARD')).length, 2);
      await iptables('-F', 'FORWARD');
      await iptables('-F', 'DOCKER-USER');
      await iptables('-X', 'DOCKER-USER');
    });

    test("with a policy of DROP accepts stand behind the user's rules, again after he has added one, and go without a trace", async () => {
      await iptables('-P', 'FORWARD', 'DROP');
      await iptables('-P', 'INPUT', 'DROP');
      await iptables('-A', 'FORWARD', '-s', '9.9.9.9', '-j', 'DROP');
      const services = {
        addresses: ['10.0.0.1'],
        tcpPorts: [53, 6443],
        udpPorts: [53],
        fromMachines: { podRange: '10.244.0.0/16', tcpPorts: [6443] },
      };
      const cover = async (): Promise<void> => {
        await coverForward(options('ab12', ['mybridge']));
        await coverInput(options('ab12'), services);
      };
      await cover();
      await iptables('-A', 'FORWARD', '-s', '8.8.8.8', '-j', 'DROP');
      await cover();
      assert.deepEqual((await rules('FORWARD')).slice(2), [
        '-A FORWARD -s 9.9.9.9/32 -j DROP',
        '-A FORWARD -s 8.8.8.8/32 -j DROP',
        accept('-i', 'tphab12+'),
        accept('-o', 'tphab12+'),
        accept('-i', 'mybridge'),
        accept('-o', 'mybridge'),
      ]);
      assert.equal((await rules('INPUT')).length, 4);
      await cover();
      assert.equal((await rules('INPUT')).length, 4, 'twice is as once');
      await uncoverForward({ ...options('ab12', ['mybridge']), onlyLinks: true });
      assert.deepEqual((await rules('FORWARD')).slice(4), [accept('-i', 'tphab12+'), accept('-o', 'tphab12+')]);
      await uncoverForward(options('ab12'));
      assert.deepEqual(await rules('FORWARD'), [
        '-P FORWARD DROP',
        '-A FORWARD -s 9.9.9.9/32 -j DROP',
        '-A FORWARD -s 8.8.8.8/32 -j DROP',
      ]);
      assert.deepEqual(await rules('INPUT'), ['-P INPUT DROP']);
    });

    test('version 6 has its own chains: the same holds there, with the user rules of DOCKER-USER first', async () => {
      const rules6 = async (): Promise<string[]> =>
        (await processes.run('ip6tables-nft', ['-S', 'FORWARD'])).stdout.trim().split('\n');
      await processes.run('ip6tables-nft', ['-P', 'FORWARD', 'DROP']);
      await processes.run('ip6tables-nft', ['-A', 'FORWARD', '-s', '2001:db8::/32', '-j', 'DROP']);
      await coverForward(options('ab12', ['mybridge']));
      assert.deepEqual(await rules6(), [
        '-P FORWARD DROP',
        '-A FORWARD -m comment --comment tiphys -j DOCKER-USER',
        '-A FORWARD -s 2001:db8::/32 -j DROP',
        ...['tphab12+', 'mybridge'].flatMap((link) => ['-i', '-o'].map((side) => accept(side, link))),
      ]);
      // The network of `mybridge` has gone, and a death kept its rules.
      await coverForward(options('ab12'));
      assert.deepEqual((await rules6()).slice(3), [accept('-i', 'tphab12+'), accept('-o', 'tphab12+')]);
      await uncoverForward(options('ab12'));
      assert.deepEqual(await rules6(), ['-P FORWARD DROP', '-A FORWARD -s 2001:db8::/32 -j DROP']);
    });
  },
);
