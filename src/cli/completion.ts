/** Shell completion, made from the same table of commands as the help. */
import type { Command } from 'commander';
import { UsageError } from './output.ts';

interface Entry {
  name: string;
  description: string;
  options: string[];
}

function entries(program: Command): Entry[] {
  return program.commands
    .filter((command) => !('_hidden' in command && command._hidden === true))
    .map((command) => ({
      name: command.name(),
      description: command.description(),
      options: command.options.map((option) => option.long ?? option.short ?? '').filter((text) => text !== ''),
    }));
}

export function completionScript(program: Command, shell: string): string {
  const list = entries(program);
  const names = list.map((entry) => entry.name).join(' ');
  switch (shell) {
    case 'bash': {
      const cases = list.map((entry) => `    ${entry.name}) words="${entry.options.join(' ')}" ;;`).join('\n');
      return `_tiphys() {\n  local words="${names}" current="\${COMP_WORDS[COMP_CWORD]}"\n  [ "$COMP_CWORD" -gt 1 ] && case "\${COMP_WORDS[1]}" in\n${cases}\n  esac\n  COMPREPLY=($(compgen -W "$words" -- "$current"))\n}\ncomplete -o default -F _tiphys tiphys ./tiphys\n`;
    }
    case 'zsh': {
      const commands = list.map((entry) => `    '${entry.name}:${entry.description.replaceAll("'", '')}'`).join('\n');
      const cases = list.map((entry) => `    ${entry.name}) compadd -- ${entry.options.join(' ')} ;;`).join('\n');
      return `#compdef tiphys\n_tiphys() {\n  local -a commands=(\n${commands}\n  )\n  if (( CURRENT == 2 )); then _describe command commands; return; fi\n  case $words[2] in\n${cases}\n  esac\n}\ncompdef _tiphys tiphys\n`;
    }
    case 'fish':
      return `${list.map((entry) => `complete -c tiphys -n __fish_use_subcommand -f -a ${entry.name} -d '${entry.description.replaceAll("'", '')}'`).join('\n')}\n${list.flatMap((entry) => entry.options.filter((option) => option.startsWith('--')).map((option) => `complete -c tiphys -n '__fish_seen_subcommand_from ${entry.name}' -l ${option.slice(2)}`)).join('\n')}\n`;
    default:
      throw new UsageError(`unknown shell ${JSON.stringify(shell)}; bash, zsh and fish are supported`);
  }
}
