/**
 * A dockerd beside us, now or earlier, leaves iptables' FORWARD policy at DROP; an accept in a table of our own does not override that. So
 * two rules go to the top of FORWARD for our prefix, and two for each bridge that a user named: accept what comes from it and what goes to it.
 * They are found again by their links' name.
 */
import type { Logger } from '#observe/log.ts';
import { readIfExists } from '#os/files.ts';
import type { Processes } from '#os/processes.ts';
import { linkPrefix } from './names.ts';

const variants = ['iptables-nft', 'iptables-legacy'];

interface ForwardOptions {
  processes: Processes; instanceId: string; log: Logger;
  /** Bridges that a user named. */
  links: string[];
  /** Leaves the prefix's own rules alone. */
  onlyLinks?: boolean;
}

function rulesOf(options: ForwardOptions): string[][] {
  const prefix = linkPrefix(options.instanceId);
  return [...(options.onlyLinks === true ? [] : [`${prefix}+`]), ...options.links.filter((link) => !link.startsWith(prefix))].flatMap((link) => [['-i', link, '-j', 'ACCEPT'], ['-o', link, '-j', 'ACCEPT']]);
}

/** Does nothing where the policy is ACCEPT and no iptables rules are. */
export async function coverForward(options: ForwardOptions): Promise<void> {
  for (const program of variants) {
    const path = options.processes.find(program);
    // Asking the older kind loads its modules: only where it is in use already.
    if (path === undefined || (program === 'iptables-legacy' && !(readIfExists('/proc/net/ip_tables_names') ?? '').includes('filter'))) continue;
    const listed = await options.processes.run(path, ['-w', '-S', 'FORWARD']);
    if (listed.code !== 0 || !needsCover(listed.stdout)) continue;
    for (const rule of rulesOf(options)) {
      if ((await options.processes.run(path, ['-w', '-C', 'FORWARD', ...rule])).code === 0) continue;
      const added = await options.processes.run(path, ['-w', '-I', 'FORWARD', '1', ...rule]);
      if (added.code !== 0) options.log.warn('the host\'s firewall may drop packets of containers', { program, error: added.stderr.trim() });
    }
  }
}

/** `iptables -S FORWARD` of a chain that may drop: its policy, or a rule beyond it. */
export function needsCover(listing: string): boolean {
  const lines = listing.split('\n').filter(Boolean);
  return lines.some((line) => line === '-P FORWARD DROP') || lines.some((line) => line.startsWith('-A '));
}

export async function uncoverForward(options: ForwardOptions): Promise<void> {
  for (const program of variants) {
    const path = options.processes.find(program);
    if (path === undefined || (program === 'iptables-legacy' && !(readIfExists('/proc/net/ip_tables_names') ?? '').includes('filter'))) continue;
    const listed = await options.processes.run(path, ['-w', '-S', 'FORWARD']);
    if (!rulesOf(options).some((rule) => listed.stdout.includes(` ${rule[1]} `))) continue;
    for (const rule of rulesOf(options)) {
      while ((await options.processes.run(path, ['-w', '-D', 'FORWARD', ...rule])).code === 0) { /* until none is left */ }
    }
  }
}
