/**
 * Source policies: which sources a build may take, and what it takes in their place. Clients read them from the
 * file that `EXPERIMENTAL_BUILDKIT_SOURCE_POLICY` names. Rules are tried in their order. The last of those that
 * match and allow or deny decides; one that converts ends the round, and what it made is looked at again.
 *
 * Source: BuildKit, "sourcepolicy": policy.proto, and how its engine evaluates it.
 */
import { ApiError } from '#base/errors.ts';
import { compilePattern, PatternBudget, PatternError } from '#base/pattern.ts';
import type { Pattern } from '#base/pattern.ts';
import { messageIn, messagesIn, numberIn, textIn, textMapIn } from '#grpc/fields.ts';
import type { Message } from '#grpc/fields.ts';
import type { SourceOp } from '../llb/vertex.ts';
import { sourcePolicyRoundsMax, sourcePolicyRulesMax } from './limits.ts';

export type SourcePolicy = (op: SourceOp) => SourceOp;

const action = { allow: 0, deny: 1, convert: 2 };
const matchType = { wildcard: 0, exact: 1, regex: 2 };
const condition = { equal: 0, notEqual: 1, matches: 2 };

function refuse(message: string): never {
  throw new ApiError('BadRequest', message);
}

/** `*` stands for anything, and is a group of the pattern. */
function wildcardPattern(text: string): string {
  if (text.includes('**'))
    refuse(`failed to translate wildcard ${JSON.stringify(text)} to regexp: invalid wildcard: "**"`);
  return `^${text.replace(/[\\.+*?()|[\]{}^$]/g, String.raw`\$&`).replaceAll(String.raw`\*`, '(.*)')}$`;
}

class Rule {
  readonly action: number;
  readonly #selector: string;
  readonly #pattern: Pattern | undefined;
  readonly #constraints: readonly Message[];
  readonly #updates: Message | undefined;

  constructor(rule: Message) {
    const selector = messageIn(rule, 'selector');
    const type = numberIn(selector, 'match_type');
    this.action = numberIn(rule, 'action');
    this.#selector = textIn(selector, 'identifier');
    this.#constraints = messagesIn(selector, 'constraints');
    this.#updates = rule['updates'] === null ? undefined : messageIn(rule, 'updates');
    if (!Object.values(matchType).includes(type)) refuse(`unknown match type: ${type}`);
    if (!Object.values(action).includes(this.action)) refuse(`source policy: unknown type ${this.action}`);
    if (type === matchType.regex) this.#pattern = compilePattern(this.#selector);
    else if (type === matchType.wildcard) this.#pattern = compilePattern(wildcardPattern(this.#selector));
  }

  matches({ identifier, attributes }: SourceOp, budget: PatternBudget): boolean {
    for (const constraint of this.#constraints) {
      const found = attributes[textIn(constraint, 'key')] ?? '';
      const value = textIn(constraint, 'value');
      const kind = numberIn(constraint, 'condition');
      if (!Object.values(condition).includes(kind)) refuse(`unknown attr condition: ${kind}`);
      const holds = kind === condition.matches ? budget.test(compilePattern(value), found) : found === value;
      if (holds === (kind === condition.notEqual)) return false;
    }
    if (this.#selector === identifier) return true;
    return this.#pattern !== undefined && budget.test(this.#pattern, identifier);
  }

  /** The same operation where nothing changes. */
  convert(op: SourceOp): SourceOp {
    if (this.#updates === undefined) refuse('missing destination for convert rule');
    const wanted = textIn(this.#updates, 'identifier') || this.#selector;
    const identifier =
      (this.#pattern === undefined ? wanted : this.#pattern.replace(op.identifier, wanted)) || op.identifier;
    const attributes = Object.entries(textMapIn(this.#updates, 'attrs'));
    if (identifier === op.identifier && attributes.every(([name, value]) => op.attributes[name] === value)) return op;
    return { ...op, identifier, attributes: { ...op.attributes, ...Object.fromEntries(attributes) } };
  }
}

/** Denied, or what a rule makes of it. */
function tryRules(rules: readonly Rule[], op: SourceOp, budget: PatternBudget): SourceOp {
  let isDenied = false;
  for (const rule of rules) {
    if (!rule.matches(op, budget)) continue;
    if (rule.action !== action.convert) {
      isDenied = rule.action === action.deny;
      continue;
    }
    const converted = rule.convert(op);
    if (converted !== op) return converted;
  }
  if (isDenied) refuse(`source ${JSON.stringify(op.identifier)} denied by policy`);
  return op;
}

/** Throws BadRequest for a policy that is none; what it returns throws it for what is denied. */
export function readSourcePolicy(policy: Message): SourcePolicy | undefined {
  const messages = messagesIn(policy, 'rules');
  if (messages.length === 0) return undefined;
  if (messages.length > sourcePolicyRulesMax) refuse(`a source policy has more than ${sourcePolicyRulesMax} rules`);
  const told = <T>(work: () => T): T => {
    try {
      return work();
    } catch (error) {
      if (error instanceof PatternError) refuse(`error matching source policy: ${error.message}`);
      throw error;
    }
  };
  const rules = told(() => messages.map((message) => new Rule(message)));
  return (given) =>
    told(() => {
      const budget = new PatternBudget();
      let op = given;
      for (let round = 0; round <= sourcePolicyRoundsMax; round++) {
        const next = tryRules(rules, op, budget);
        if (next === op) return op;
        op = next;
      }
      return refuse('too many mutations on a single source: too many operations');
    });
}
