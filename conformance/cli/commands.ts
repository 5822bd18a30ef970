/**
 * The commands and flags of a docker client, read from the client itself: `--help` of each command, down the tree.
 * A command that goes by several names (`docker ps`, `docker container ls`) is listed once, by the first of its
 * aliases.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const execute = promisify(execFile);

/** Flags of each command: `container run` → `--memory`, `--rm`, …; the global ones under the empty name. */
export type CommandFlags = Map<string, Set<string>>;

/** Reads them; `client` is the program's path. Plugins that are installed beside it are not its own and left out. */
export async function readCommands(client: string): Promise<CommandFlags> {
  const found: CommandFlags = new Map();
  const visit = async (words: string[]): Promise<void> => {
    const { stdout } = await execute(client, [...words, '--help'], {
      env: { ...process.env, COLUMNS: '400', DOCKER_CONFIG: '/nonexistent', DOCKER_CLI_PLUGIN_EXTRA_DIRS: '' },
    });
    const subcommands = listSubcommands(stdout);
    const flags = listFlags(stdout);
    if (subcommands.length === 0 || words.length === 0) found.set(nameOf(words, stdout), flags);
    await Promise.all(subcommands.map((name) => visit([...words, name])));
  };
  await visit([]);
  return found;
}

function nameOf(words: string[], help: string): string {
  const aliases = /\nAliases:\n\s+(.+)\n/.exec(help)?.[1];
  const first = aliases
    ?.split(',')[0]!
    .trim()
    .replace(/^docker /, '');
  return first ?? words.join(' ');
}

/** The first column of each `… Commands:` section; those of plugins carry a star. */
function listSubcommands(help: string): string[] {
  const names: string[] = [];
  for (const [, section] of help.matchAll(/\n[A-Za-z ]*Commands:\n((?: {2}.+\n)+)/g))
    for (const [, name] of section!.matchAll(/^ {2}([a-z][a-z-]*) /gm)) names.push(name!);
  return [...new Set(names)];
}

function listFlags(help: string): Set<string> {
  const flags = new Set<string>();
  for (const [, flag] of help.matchAll(/^ {2}(?: {4}|-\w, )(--[a-z0-9-]+)/gm)) if (flag !== '--help') flags.add(flag!);
  return flags;
}
