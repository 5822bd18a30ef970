/**
 * What is allowed in a Dockerfile and likely not meant: the rules of BuildKit's checks that need nothing but the file.
 * `# check=skip=RULE,…;error=true` of the file leaves rules out, or makes an error of what is found.
 *
 * Source: Docker's documentation, "Build checks": names, words and links of the rules.
 */
import { ApiError } from '#base/errors.ts';
import { hostPlatform } from '#base/platform.ts';
import { splitWords } from './config.ts';
import type { Dockerfile, Instruction, Stage } from './parser.ts';
import { platformArgs } from './variables.ts';

export interface LintWarning {
  rule: Rule;
  /** What of this file it is about. */
  detail: string;
  start: number;
  end: number;
}

const rules = {
  StageNameCasing: 'Stage names should be lowercase',
  FromAsCasing: "The 'as' keyword should match the case of the 'from' keyword",
  NoEmptyContinuation: 'Empty continuation lines will become errors in a future release',
  ConsistentInstructionCasing: 'All commands within the Dockerfile should use the same casing (either upper or lower)',
  DuplicateStageName: 'Stage names should be unique',
  ReservedStageName: 'Reserved words should not be used as stage names',
  JSONArgsRecommended:
    'JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals',
  MaintainerDeprecated: 'The MAINTAINER instruction is deprecated, use a label instead to define an image author',
  UndefinedArgInFrom: 'FROM command must use declared ARGs',
  WorkdirRelativePath:
    'Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes',
  MultipleInstructionsDisallowed: 'Multiple instructions of the same type should not be used in the same stage',
  LegacyKeyValueFormat: 'Legacy key/value format with whitespace separator should not be used',
  RedundantTargetPlatform:
    'Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior',
  SecretsUsedInArgOrEnv: 'Sensitive data should not be used in the ARG or ENV commands',
  FromPlatformFlagConstDisallowed: 'FROM --platform flag should not use a constant value',
  ExposeProtoCasing: 'Protocol in EXPOSE instruction should be lowercase',
} as const;

export type Rule = keyof typeof rules;

export function descriptionOf(rule: Rule): string {
  return rules[rule];
}

export function urlOf(rule: Rule): string {
  const words = rule.replace('JSON', 'Json').replace(/(?!^)([A-Z])/g, '-$1');
  return `https://docs.docker.com/go/dockerfile/rule/${words.toLowerCase()}/`;
}

/** As one line. */
export function shortText({ rule, detail, start }: LintWarning): string {
  return `${rule}: ${detail} (line ${start})`;
}

export interface LintSettings {
  skip: ReadonlySet<string>;
  skipsAll: boolean;
  isError: boolean;
}

/** `skip=A,B;error=true`. Throws BadRequest. */
export function parseLintSettings(text: string): LintSettings {
  const skip = new Set<string>();
  let isError = false;
  for (const part of text.split(';').filter((each) => each.trim() !== '')) {
    const [key = '', value = ''] = part.trim().split('=', 2);
    if (key === 'skip') for (const rule of value.split(',')) skip.add(rule.trim().toLowerCase());
    else if (key === 'error') isError = /^(?:1|t|true)$/i.test(value);
    else if (key !== 'experimental')
      throw new ApiError('BadRequest', `invalid check option ${JSON.stringify(key.slice(0, 100))}`);
  }
  return { skip, skipsAll: skip.has('all'), isError };
}

const secretName = /(?:_|^)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:_|$)/i;
const publicName = /(?:_|^)public(?:_|$)/i;
const reservedNames = ['context', 'scratch'];

class Linter {
  readonly found: LintWarning[] = [];
  readonly #file: Dockerfile;
  readonly #settings: LintSettings;

  constructor(file: Dockerfile, settings: LintSettings) {
    this.#file = file;
    this.#settings = settings;
  }

  warn(rule: Rule, detail: string, at: { line: number; endLine: number }): void {
    if (this.#settings.skipsAll || this.#settings.skip.has(rule.toLowerCase())) return;
    this.found.push({ rule, detail, start: at.line, end: at.endLine });
  }

  get #all(): Instruction[] {
    const { globalArgs, stages } = this.#file;
    return [...globalArgs, ...stages.flatMap((stage) => [stage.from, ...stage.instructions])];
  }

  casing(): void {
    const all = this.#all;
    const isLower = (word: string): boolean => word === word.toLowerCase();
    const isUpper = (word: string): boolean => word === word.toUpperCase();
    const lower = all.filter(({ word }) => isLower(word)).length;
    const upper = all.filter(({ word }) => isUpper(word)).length;
    const isMajorityLower = lower > upper;
    for (const instruction of all) {
      const { word } = instruction;
      if (isMajorityLower ? isLower(word) : isUpper(word)) continue;
      const majority = isMajorityLower ? 'lowercase' : 'uppercase';
      this.warn(
        'ConsistentInstructionCasing',
        `Command '${word}' should match the case of the command majority (${majority})`,
        instruction,
      );
    }
  }

  stageNames(): void {
    const seen = new Set<string>();
    for (const { from } of this.#file.stages) {
      const [, as, name] = from.rest.trim().split(/\s+/);
      if (as === undefined || name === undefined) continue;
      const { word } = from;
      const isSame = (word === word.toLowerCase()) === (as === as.toLowerCase());
      if (!isSame) this.warn('FromAsCasing', `'${as}' and '${word}' keywords' casing do not match`, from);
      if (name !== name.toLowerCase()) this.warn('StageNameCasing', `Stage name '${name}' should be lowercase`, from);
      const low = name.toLowerCase();
      if (reservedNames.includes(low))
        this.warn(
          'ReservedStageName',
          `Stage name should not use the same name as reserved stage ${JSON.stringify(name)}`,
          from,
        );
      if (seen.has(low))
        this.warn(
          'DuplicateStageName',
          `Duplicate stage name ${JSON.stringify(name)}, stage names should be unique`,
          from,
        );
      seen.add(low);
    }
  }

  platforms(): void {
    for (const { platform, from } of this.#file.stages) {
      if (platform === undefined) continue;
      if (/^\$(?:TARGETPLATFORM|\{TARGETPLATFORM\})$/.test(platform))
        this.warn(
          'RedundantTargetPlatform',
          `Setting platform to predefined ${platform} in FROM is redundant as this is the default behavior`,
          from,
        );
      if (!platform.includes('$'))
        this.warn(
          'FromPlatformFlagConstDisallowed',
          `FROM --platform flag should not use constant value ${JSON.stringify(platform)}`,
          from,
        );
    }
  }

  argsOfFrom(): void {
    const declared = new Set(Object.keys(platformArgs(hostPlatform(), hostPlatform())));
    for (const { rest } of this.#file.globalArgs)
      for (const word of splitWords(rest, this.#file.escape)) declared.add(word.replace(/=.*$/s, ''));
    for (const { base, from } of this.#file.stages)
      // One with a default may be without a value.
      for (const [, name = ''] of base.matchAll(/\$(?:\{)?([A-Za-z_][A-Za-z0-9_]*)(?!.*:-)/g))
        if (!declared.has(name)) this.warn('UndefinedArgInFrom', `FROM argument '${name}' is not declared`, from);
  }

  secrets({ keyword, rest, ...at }: Instruction): void {
    if (keyword !== 'ARG' && keyword !== 'ENV') return;
    const words = splitWords(rest, this.#file.escape);
    const names =
      words[0]?.includes('=') === true || keyword === 'ARG'
        ? words.map((word) => word.replace(/=.*$/s, ''))
        : words.slice(0, 1);
    for (const name of names)
      if (secretName.test(name) && !publicName.test(name))
        this.warn(
          'SecretsUsedInArgOrEnv',
          `Do not use ARG or ENV instructions for sensitive data (${keyword} ${JSON.stringify(name)})`,
          at,
        );
  }

  instruction(instruction: Instruction): void {
    const { keyword, rest } = instruction;
    this.secrets(instruction);
    if (keyword === 'MAINTAINER')
      this.warn('MaintainerDeprecated', 'Maintainer instruction is deprecated in favor of using label', instruction);
    if ((keyword === 'ENV' || keyword === 'LABEL') && splitWords(rest, this.#file.escape)[0]?.includes('=') === false)
      this.warn(
        'LegacyKeyValueFormat',
        `"${keyword} key=value" should be used instead of legacy "${keyword} key value" format`,
        instruction,
      );
    if (keyword === 'EXPOSE')
      for (const port of rest.split(/\s+/)) {
        const protocol = /\/(.*)$/.exec(port)?.[1];
        if (protocol !== undefined && protocol !== protocol.toLowerCase() && !protocol.includes('$'))
          this.warn(
            'ExposeProtoCasing',
            `Defined protocol '${port}' in EXPOSE instruction should be lowercase`,
            instruction,
          );
      }
  }

  stage(stage: Stage): void {
    const last = new Map<string, Instruction>();
    let hasShell = false;
    let hasAbsolute = !this.#startsFromImage(stage);
    for (const instruction of stage.instructions) {
      const { keyword, json, rest } = instruction;
      this.instruction(instruction);
      if (keyword === 'SHELL') hasShell = true;
      if ((keyword === 'CMD' || keyword === 'ENTRYPOINT') && json === undefined && !hasShell)
        this.warn(
          'JSONArgsRecommended',
          `JSON arguments recommended for ${keyword} to prevent unintended behavior related to OS signals`,
          instruction,
        );
      if (keyword === 'WORKDIR') {
        const path = rest.trim().replace(/^["']|["']$/g, '');
        if (/^(?:\/|\$|[A-Za-z]:)/.test(path)) hasAbsolute = true;
        else if (!hasAbsolute)
          this.warn(
            'WorkdirRelativePath',
            `Relative workdir ${JSON.stringify(path)} can have unexpected results if the base image changes`,
            instruction,
          );
      }
      if (!['CMD', 'ENTRYPOINT', 'HEALTHCHECK'].includes(keyword)) continue;
      const before = last.get(keyword);
      if (before !== undefined)
        this.warn(
          'MultipleInstructionsDisallowed',
          `Multiple ${keyword} instructions should not be used in the same stage because only the last one will be used`,
          before,
        );
      last.set(keyword, instruction);
    }
  }

  #startsFromImage({ base, index }: Stage): boolean {
    const name = base.toLowerCase();
    return name !== 'scratch' && !this.#file.stages.slice(0, index).some((each) => each.name === name);
  }

  emptyContinuations(): void {
    for (const { emptyLine } of this.#all)
      if (emptyLine !== undefined)
        this.warn('NoEmptyContinuation', 'Empty continuation line', { line: emptyLine, endLine: emptyLine });
  }
}

/** In the order of the lines. */
export function lintDockerfile(file: Dockerfile, settings: LintSettings): LintWarning[] {
  const linter = new Linter(file, settings);
  linter.casing();
  linter.stageNames();
  linter.platforms();
  linter.argsOfFrom();
  for (const instruction of file.globalArgs) linter.secrets(instruction);
  for (const stage of file.stages) linter.stage(stage);
  linter.emptyContinuations();
  return linter.found.sort((a, b) => a.start - b.start);
}
