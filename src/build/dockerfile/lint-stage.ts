/** Checks of the instructions of a stage that is built, one after the other, on what the stage is before each. */
import type { RunConfig } from '#content/image-file.ts';
import { posix } from 'node:path';
import type { IgnoreRules } from '../patterns.ts';
import { splitWords } from './config.ts';
import type { Lint } from './lint.ts';
import { nearest } from './nearest.ts';
import type { Instruction } from './parser.ts';

const secretName = /(?:_|^)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:_|$)/i;
const publicName = /(?:_|^)(?:public|file|version)(?:_|$)/i;

export class StageLint {
  readonly #lint: Lint;
  readonly #escape: string;
  readonly #last = new Map<string, Instruction>();
  #hasWorkingDir = false;

  /** `hasWorkingDir`: the stage that it stands on has set one. */
  constructor(lint: Lint, escape: string, hasWorkingDir: boolean) {
    this.#hasWorkingDir = hasWorkingDir;
    this.#lint = lint;
    this.#escape = escape;
  }

  get hasWorkingDir(): boolean {
    return this.#hasWorkingDir;
  }

  take(instruction: Instruction, { Shell: shell }: RunConfig): void {
    const { keyword, json, rest } = instruction;
    this.#secrets(instruction);
    switch (keyword) {
      case 'ENV':
      case 'LABEL':
        if (splitWords(rest, this.#escape)[0]?.includes('=') === false)
          this.#lint.warn(
            'LegacyKeyValueFormat',
            `"${keyword} key=value" should be used instead of legacy "${keyword} key value" format`,
            instruction,
          );
        break;
      case 'WORKDIR':
        this.#workdir(instruction);
        break;
      case 'EXPOSE':
        for (const port of rest.split(/\s+/)) this.#port(instruction, port);
        break;
      case 'CMD':
      case 'ENTRYPOINT':
        if (json === undefined && (shell ?? []).length === 0)
          this.#lint.warn(
            'JSONArgsRecommended',
            `JSON arguments recommended for ${keyword} to prevent unintended behavior related to OS signals`,
            instruction,
          );
        this.#once(instruction);
        break;
      case 'HEALTHCHECK':
        this.#once(instruction);
        break;
      default:
    }
  }

  #secrets(instruction: Instruction): void {
    const { keyword, rest } = instruction;
    if (keyword !== 'ARG' && keyword !== 'ENV') return;
    const words = splitWords(rest, this.#escape);
    const isPairs = words[0]?.includes('=') === true || keyword === 'ARG';
    const names = isPairs ? words.map((word) => word.replace(/=.*$/s, '')) : words.slice(0, 1);
    for (const name of names)
      if (secretName.test(name) && !publicName.test(name))
        this.#lint.warn(
          'SecretsUsedInArgOrEnv',
          `Do not use ARG or ENV instructions for sensitive data (${keyword} ${JSON.stringify(name)})`,
          instruction,
        );
  }

  /** A relative one after another stands on what this file says. */
  #workdir(instruction: Instruction): void {
    const path = instruction.rest.trim().replace(/^["']|["']$/g, '');
    if (!this.#hasWorkingDir && !/^(?:\/|\$|[A-Za-z]:)/.test(path))
      this.#lint.warn(
        'WorkdirRelativePath',
        `Relative workdir ${JSON.stringify(path)} can have unexpected results if the base image changes`,
        instruction,
      );
    this.#hasWorkingDir = true;
  }

  #port(instruction: Instruction, port: string): void {
    const protocol = /\/(.*)$/.exec(port)?.[1] ?? '';
    if (protocol !== protocol.toLowerCase() && !protocol.includes('$'))
      this.#lint.warn(
        'ExposeProtoCasing',
        `Defined protocol '${port}' in EXPOSE instruction should be lowercase`,
        instruction,
      );
    if (/:/.test(port.replace(/\$\{[^}]*\}/g, '')))
      this.#lint.warn(
        'ExposeInvalidFormat',
        `EXPOSE instruction should not define an IP address or host-port mapping, found '${port}'`,
        instruction,
      );
  }

  #once(instruction: Instruction): void {
    const { keyword } = instruction;
    const before = this.#last.get(keyword);
    // The one before is that which is lost.
    if (before !== undefined)
      this.#lint.warn(
        'MultipleInstructionsDisallowed',
        `Multiple ${keyword} instructions should not be used in the same stage because only the last one will be used`,
        before,
      );
    this.#last.set(keyword, instruction);
  }

  /** `known`: variables that there are. */
  undefinedVariable(instruction: Instruction, name: string, known: readonly string[]): void {
    const near = nearest(name, known);
    const hint = near === undefined ? '' : ` (did you mean $${near}?)`;
    this.#lint.warn('UndefinedVar', `Usage of undefined variable '$${name}'${hint}`, instruction);
  }

  /** A source of the build context, where its ignore file takes nothing back. */
  copySource(instruction: Instruction, source: string, ignore: IgnoreRules, patterns: readonly string[]): void {
    const path = posix.normalize(source).replace(/(.)\/$/, '$1');
    const isRoot = path === '.' || path === '/';
    const isIgnored = isRoot
      ? patterns.some((pattern) => ['*', '**', '**/*'].includes(pattern))
      : ignore.ignores(path.replace(/^\/+/, ''));
    const verb = instruction.keyword === 'ADD' ? 'Add' : 'Copy';
    if (isIgnored)
      this.#lint.warn(
        'CopyIgnoredFile',
        `Attempting to ${verb} file ${JSON.stringify(path)} that is excluded by .dockerignore`,
        instruction,
      );
  }
}
