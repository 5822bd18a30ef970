/** `tiphys engine`: the words are dockerd's, and read as dockerd reads them. */
import { loadConfig } from '#platform/daemon/config.ts';
import { flagsHelp, parseFlags } from '#platform/daemon/flags.ts';
import { tiphysVersion } from '#platform/version.ts';
import { print, UsageError } from '../output.ts';

export async function engine(words: readonly string[]): Promise<void> {
  if (words[0] === 'units') {
    const { engineUnits, userUnits } = await import('#platform/daemon/units.ts');
    print((process.getuid?.() === 0 ? engineUnits : userUnits)(words.slice(1)));
    return;
  }
  if (words[0] === 'import-docker') return importDocker(words.slice(1));
  const flags = parseFlags(words);
  if (flags.get('help') === true) return print(help());
  if (flags.get('version') === true) return print(`Tiphys version ${tiphysVersion()}`);
  const config = loadConfig(flags);
  const isRoot = process.getuid?.() === 0;
  if (flags.get('validate') === true) {
    if (!isRoot) (await import('#platform/rootless/enter.ts')).checkReachable(config);
    process.stderr.write('configuration OK\n');
    return;
  }
  if (!isRoot) await (await import('#platform/rootless/enter.ts')).enterRootless(words, config);
  const { runEngine } = await import('#platform/daemon/engine.ts');
  await runEngine(flags);
}

async function importDocker(words: readonly string[]): Promise<void> {
  const [directory, ...options] = words;
  if (directory === undefined || directory.startsWith('-'))
    throw new UsageError('which directory? tiphys engine import-docker /var/lib/docker [OPTIONS]');
  const { runImport } = await import('#platform/daemon/engine.ts');
  if (!(await runImport(directory, parseFlags(options), print))) process.exitCode = 1;
}

function help(): string {
  return `Usage: tiphys engine [OPTIONS]
       tiphys engine units [OPTIONS]   print units of systemd that start it so: root's, or the user's
       tiphys engine import-docker DIR [OPTIONS]   take over what a dockerd that is stopped kept in DIR

The engine without a cluster. Its options are dockerd's, also in /etc/docker/daemon.json; one that it
cannot honour is refused with the reason.

${flagsHelp()}`;
}
