/**
 * What is allowed in a Dockerfile and likely not meant: the rules of BuildKit's checks. Here are the rules and what is
 * found; `lint-file.ts` looks at the file, `lint-stage.ts` at the stages that are built, `stage.ts` tells which
 * variables were undefined. `# check=skip=RULE,…;error=true` of the file leaves rules out, or makes an error of what is
 * found; before an instruction, `# check=skip=RULE` holds for that alone.
 *
 * Source: Docker's documentation, "Build checks": names, words and links of the rules.
 */
import { ApiError } from '#base/errors.ts';
import type { Instruction } from './parser.ts';

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
  UndefinedVar: 'Variables should be defined before their use',
  InvalidBaseImagePlatform: 'Base image platform does not match expected target platform',
  InvalidDefaultArgInFrom: 'Default value for global ARG results in an empty or invalid base image name',
  CopyIgnoredFile: 'Attempting to Copy file that is excluded by .dockerignore',
  InvalidDefinitionDescription:
    'Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. ' +
    'If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.',
  ExposeInvalidFormat:
    'IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release',
} as const;

export type Rule = keyof typeof rules;

export function descriptionOf(rule: Rule): string {
  return rules[rule];
}

/** '' for the rule that has no page. */
export function urlOf(rule: Rule): string {
  if (rule === 'InvalidBaseImagePlatform') return '';
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
  /** Rules that hold only where they are asked for. */
  experimental: ReadonlySet<string>;
  isError: boolean;
}

const experimentalRules: ReadonlySet<string> = new Set<Rule>(['InvalidDefinitionDescription']);

/** `skip=A,B;error=true`. Throws BadRequest. */
export function parseLintSettings(text: string): LintSettings {
  const skip = new Set<string>();
  const experimental = new Set<string>();
  let isError = false;
  for (const part of text.split(';').filter((each) => each.trim() !== '')) {
    const [key = '', value = ''] = part.trim().split('=', 2);
    const names = value.split(',').map((each) => each.trim().toLowerCase());
    if (key === 'skip') for (const name of names) skip.add(name);
    else if (key === 'experimental') for (const name of names) experimental.add(name);
    else if (key === 'error') isError = /^(?:1|t|true)$/i.test(value);
    else throw new ApiError('BadRequest', `invalid check option ${JSON.stringify(key.slice(0, 100))}`);
  }
  return { skip, skipsAll: skip.has('all'), experimental, isError };
}

/** What a comment before an instruction says of it alone. */
function ownSettings(comments: readonly string[]): LintSettings | undefined {
  for (const comment of comments) {
    const text = /^check\s*=\s*(\S+)/i.exec(comment)?.[1];
    if (text === undefined) continue;
    try {
      return parseLintSettings(text);
    } catch {
      // A comment that only looks so.
      return undefined;
    }
  }
  return undefined;
}

/** Where a warning stands: an instruction, or lines of it. */
export type LintPlace = Pick<Instruction, 'line' | 'endLine' | 'comments'>;

export class Lint {
  readonly #settings: LintSettings;
  readonly #found: LintWarning[] = [];

  constructor(settings: LintSettings) {
    this.#settings = settings;
  }

  #allows(rule: Rule, settings: LintSettings): boolean {
    const name = rule.toLowerCase();
    if (experimentalRules.has(rule)) return settings.experimental.has(name) || settings.experimental.has('all');
    return !settings.skipsAll && !settings.skip.has(name);
  }

  warn(rule: Rule, detail: string, { line, endLine, comments }: LintPlace): void {
    const own = ownSettings(comments);
    const isAllowed = experimentalRules.has(rule)
      ? this.#allows(rule, this.#settings) || (own !== undefined && this.#allows(rule, own))
      : this.#allows(rule, this.#settings) && (own === undefined || this.#allows(rule, own));
    // A file that is converted for several platforms says everything as often.
    const isKnown = this.#found.some((each) => each.rule === rule && each.detail === detail && each.start === line);
    if (isAllowed && !isKnown) this.#found.push({ rule, detail, start: line, end: endLine });
  }

  /** In the order of the lines. */
  get found(): readonly LintWarning[] {
    return [...this.#found].sort((a, b) => a.start - b.start);
  }

  /** Throws BadRequest where the file wants that what is found is an error. */
  check(): void {
    if (!this.#settings.isError || this.#found.length === 0) return;
    const names = [...new Set(this.#found.map(({ rule }) => rule))];
    throw new ApiError('BadRequest', `lint violation found for rules: ${names.join(', ')}`);
  }
}
