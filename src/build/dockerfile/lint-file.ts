/** Checks that need nothing but the file: how it is written, its stages' names, and what its FROMs stand on. */
import { parseReference } from '#base/reference.ts';
import { parsePlatform } from '#base/platform.ts';
import { splitWords } from './config.ts';
import type { Lint } from './lint.ts';
import type { Dockerfile, Instruction, Stage } from './parser.ts';
import { nearest } from './nearest.ts';
import { expandWord } from './words.ts';

const isLower = (word: string): boolean => word === word.toLowerCase();
const isUpper = (word: string): boolean => word === word.toUpperCase();

/** One instruction as it is written, whatever becomes of the file. */
export function lintInstruction(lint: Lint, instruction: Instruction): void {
  const { keyword, word, rest, emptyLine, comments } = instruction;
  if (emptyLine !== undefined)
    lint.warn('NoEmptyContinuation', 'Empty continuation line', { line: emptyLine, endLine: emptyLine, comments });
  if (keyword === 'MAINTAINER')
    lint.warn('MaintainerDeprecated', 'Maintainer instruction is deprecated in favor of using label', instruction);
  if (keyword === 'FROM') {
    const [, as, name] = rest.trim().split(/\s+/);
    if (name !== undefined && !isLower(name))
      lint.warn('StageNameCasing', `Stage name '${name}' should be lowercase`, instruction);
    const isMismatch = isLower(word) ? !isLower(as ?? '') : isUpper(word) && !isUpper(as ?? '');
    if (as !== undefined && isMismatch)
      lint.warn('FromAsCasing', `'${as}' and '${word}' keywords' casing do not match`, instruction);
    describes(lint, instruction, name === undefined ? [] : [name.toLowerCase()]);
  }
  if (keyword === 'ARG')
    describes(
      lint,
      instruction,
      splitWords(rest, '\\').map((each) => each.replace(/=.*$/s, '')),
    );
}

/** The comment before a stage or an argument begins with its name. */
function describes(lint: Lint, instruction: Instruction, names: readonly string[]): void {
  const last = instruction.comments.at(-1);
  if (last === undefined || names.length === 0 || names.includes(last.split(' ')[0]!)) return;
  const [first = ''] = names;
  const example = names.length > 1 ? '<arg_key>' : first;
  lint.warn(
    'InvalidDefinitionDescription',
    `Comment for ${instruction.keyword} should follow the format: \`# ${example} <description>\``,
    instruction,
  );
}

function casing(lint: Lint, file: Dockerfile): void {
  const all = file.stages.flatMap((stage) => [stage.from, ...stage.instructions]);
  const lower = all.filter(({ word }) => isLower(word)).length;
  const upper = all.filter(({ word }) => isUpper(word)).length;
  const isMajorityLower = lower > upper;
  for (const instruction of all) {
    const { word } = instruction;
    if (isMajorityLower ? isLower(word) : isUpper(word)) continue;
    const majority = isMajorityLower ? 'lowercase' : 'uppercase';
    lint.warn(
      'ConsistentInstructionCasing',
      `Command '${word}' should match the case of the command majority (${majority})`,
      instruction,
    );
  }
}

const reservedNames = ['context', 'scratch'];

function stageNames(lint: Lint, file: Dockerfile): void {
  const seen = new Set<string>();
  for (const { name, from } of file.stages) {
    if (name === undefined) continue;
    const quoted = JSON.stringify(name);
    if (reservedNames.includes(name))
      lint.warn('ReservedStageName', `Stage name should not use the same name as reserved stage ${quoted}`, from);
    if (seen.has(name))
      lint.warn('DuplicateStageName', `Duplicate stage name ${quoted}, stage names should be unique`, from);
    seen.add(name);
  }
}

/** Global arguments, by name. */
type Args = Readonly<Record<string, string>>;

/** `defaults`: what arguments are where the client gives none; undefined: they cannot be told. */
export function lintFile(lint: Lint, file: Dockerfile, defaults: Args | undefined): void {
  stageNames(lint, file);
  casing(lint, file);
  for (const { base, from } of defaults === undefined ? [] : file.stages) {
    try {
      parseReference(expandWord(base, (name) => defaults?.[name], file.escape));
    } catch {
      lint.warn(
        'InvalidDefaultArgInFrom',
        `Default value for ARG ${base} results in empty or invalid base image name`,
        from,
      );
    }
  }
}

export interface FromScope {
  lookUp: (name: string) => string | undefined;
  /** Names that a FROM may use. */
  names: readonly string[];
  escape: string;
}

/** Variables of a FROM. */
export function lintFrom(lint: Lint, { base, platform, name = '', from }: Stage, scope: FromScope): void {
  const expand = (text: string): { used: string[]; unknown: string[]; result: string } => {
    const [used, unknown]: [string[], string[]] = [[], []];
    const result = expandWord(
      text,
      (variable) => {
        const value = scope.lookUp(variable);
        (value === undefined ? unknown : used).push(variable);
        return value;
      },
      scope.escape,
    );
    for (const variable of unknown.filter((each) => !scope.names.includes(each))) {
      const near = nearest(variable, scope.names);
      const hint = near === undefined ? '' : ` (did you mean ${near}?)`;
      lint.warn('UndefinedArgInFrom', `FROM argument '${variable}' is not declared${hint}`, from);
    }
    return { used, unknown, result };
  };
  expand(base);
  if (platform === undefined) return;
  const { used, unknown, result } = expand(platform);
  if (unknown.length === 0 && used.length > 0) {
    const isTarget = used.every((each) => each === 'TARGETPLATFORM') && result === scope.lookUp('TARGETPLATFORM');
    if (isTarget)
      lint.warn(
        'RedundantTargetPlatform',
        `Setting platform to predefined ${platform} in FROM is redundant as this is the default behavior`,
        from,
      );
  }
  if (used.length > 0 || unknown.length > 0) return;
  try {
    const { os, architecture } = parsePlatform(result);
    // A stage that is called after its platform means it.
    if (name.includes(os) || name.includes(architecture)) return;
  } catch {
    // Told when the stage is built.
    return;
  }
  lint.warn(
    'FromPlatformFlagConstDisallowed',
    `FROM --platform flag should not use constant value ${JSON.stringify(result)}`,
    from,
  );
}
