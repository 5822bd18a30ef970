/**
 * `--change` of `docker commit` and `docker import`: the instructions of a Dockerfile that change nothing but the
 * configuration, applied in order. Variables are those of the configuration's own environment.
 * Source: the Engine API, parameter `changes` of ContainerCommit and ImageCreate; moby's list of what it allows.
 */
import { ApiError } from '#base/errors.ts';
import type { RunConfig } from '#content/image-file.ts';
import { applyConfig, resolveWorkingDir } from './config.ts';
import { lexDockerfile } from './lexer.ts';
import { parseInstruction } from './parser.ts';
import { getEnv } from './variables.ts';
import { expandWord } from './words.ts';

const allowed = [
  'CMD',
  'ENTRYPOINT',
  'HEALTHCHECK',
  'ENV',
  'EXPOSE',
  'LABEL',
  'ONBUILD',
  'STOPSIGNAL',
  'USER',
  'VOLUME',
  'WORKDIR',
];

/** Each change may hold several lines. Throws BadRequest as a build would, and for instructions that need a build. */
export function applyChanges(config: RunConfig, changes: string[]): RunConfig {
  let out = config;
  let hasCommand = false;
  const { lines, escape } = lexDockerfile(changes.join('\n'));
  for (const line of lines) {
    const instruction = parseInstruction(line);
    const { keyword } = instruction;
    if (!allowed.includes(keyword))
      throw new ApiError('BadRequest', `${keyword.toLowerCase()} is not a valid change command`);
    const scope = { variables: (name: string) => getEnv(out.Env ?? [], name), escape };
    if (keyword === 'WORKDIR') {
      const path = expandWord(instruction.rest.trim(), scope.variables, escape);
      out = { ...out, WorkingDir: resolveWorkingDir(out.WorkingDir, path) };
      continue;
    }
    const applied = applyConfig(out, instruction, scope)!;
    if (keyword === 'CMD') hasCommand = true;
    // As in a build: a new entrypoint makes a command that was there before meaningless.
    if (keyword === 'ENTRYPOINT' && !hasCommand) applied.Cmd = null;
    out = applied;
  }
  return out;
}
