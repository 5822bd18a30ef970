/**
 * Takes away what a peer leaves in iptables: chains that were not there before, the rules that lead into them, and a
 * changed FORWARD policy.
 */
import { command } from './harness.ts';

const tables = ['filter', 'nat', 'mangle'];

async function rulesOf(table: string): Promise<string[]> {
  return (await command(['iptables', '-t', table, '-S'], { allowFailure: true })).stdout
    .split('\n')
    .filter((line) => line !== '');
}

/**
 * Remembers what is there; the function that comes back restores it. Rules that others add meanwhile stay, unless they
 * lead into a chain of the peer's.
 */
export async function rememberIptables(ownRule: RegExp): Promise<() => Promise<void>> {
  const before = new Map<string, Set<string>>();
  for (const table of tables) before.set(table, new Set(await rulesOf(table)));
  const policy = [...before.get('filter')!].find((rule) => rule.startsWith('-P FORWARD'));
  return async () => {
    for (const table of tables) {
      const known = before.get(table)!;
      const now = await rulesOf(table);
      const chains = now.filter((rule) => rule.startsWith('-N ') && !known.has(rule)).map((rule) => rule.slice(3));
      const run = (...words: string[]): Promise<unknown> =>
        command(['iptables', '-t', table, ...words], { allowFailure: true });
      for (const rule of now) {
        const words = (rule.match(/"[^"]*"|\S+/g) ?? []).map((word) => word.replaceAll('"', ''));
        if (
          words[0] === '-A' &&
          !known.has(rule) &&
          (ownRule.test(rule) || chains.some((chain) => words[1] !== chain && words.includes(chain)))
        )
          await run('-D', ...words.slice(1));
      }
      for (const chain of chains) await run('-F', chain);
      for (const chain of chains) await run('-X', chain);
    }
    if (policy !== undefined) await command(['iptables', ...policy.split(' ')], { allowFailure: true });
  };
}
