/**
 * Validates an object by the rules of its schema. All of one request share a budget; a rule that an unchanged value
 * does not keep only warns (reference implementation, validation ratcheting).
 */
import type { StatusCause } from '#base/objects.ts';
import { equalJson } from '#base/json.ts';
import { fieldOf, isObject } from '#base/unknown.ts';
import { CostError, type Activation } from '#cel/compiler.ts';
import { fromJson } from '#cel/json-values.ts';
import type { Program } from '#cel/program.ts';
import { CelError, OptionalValue } from '#cel/values.ts';
import { FieldErrors, omitted } from './field-errors.ts';
import { ruleBudgetMax, ruleMessageBytesMax } from './limits.ts';
import type { CompiledRule, RuleNode } from './rules.ts';
import { formerItems } from './schema-items.ts';

export interface RuleRun {
  errors: FieldErrors;
  /** Told of rules that are not kept where nothing was changed. */
  warn(text: string): void;
  nextTurn(): Promise<void>;
}

const blocking = new Set([
  'FieldValueNotSupported',
  'FieldValueRequired',
  'FieldValueTooLong',
  'FieldValueTooMany',
  'FieldValueTypeInvalid',
]);

/** Causes are added to the run's errors. Rules are not looked at where the object is wrong otherwise. */
export async function runRules(node: RuleNode, object: unknown, old: unknown, run: RuleRun): Promise<void> {
  if (run.errors.causes.some(({ reason }) => blocking.has(reason ?? ''))) {
    run.errors.invalid(
      noField,
      null,
      'some validation rules were not checked because the object was invalid; correct the existing errors to complete validation',
    );
    return;
  }
  const now = old === undefined ? undefined : new Pair(object, old);
  await new Runner(run).run(node, { path: '', value: object, old }, { now, parent: undefined });
}

/** How an absent path is written. */
const noField = '<nil>';

/** A value and what it was before. */
class Pair {
  readonly value: unknown;
  readonly old: unknown;
  #same: boolean | undefined;

  constructor(value: unknown, old: unknown) {
    this.value = value;
    this.old = old;
  }
  get isSame(): boolean {
    return (this.#same ??= equalJson(this.value, this.old));
  }
}

/** What a place is compared with: what it was, or else what the nearest place above was that can be told. */
interface Ratchet {
  now: Pair | undefined;
  parent: Pair | undefined;
}

interface Place {
  path: string;
  value: unknown;
  /** Undefined where there was nothing that compares. */
  old: unknown;
}

/** The budget is used up. */
class Stop extends Error {}

const isAbsent = (value: unknown): boolean => value === undefined || value === null;

class Runner {
  readonly #run: RuleRun;
  #left = ruleBudgetMax;

  constructor(run: RuleRun) {
    this.#run = run;
  }

  async run(node: RuleNode, place: Place, ratchet: Ratchet): Promise<void> {
    try {
      await this.#node(node, place, ratchet);
    } catch (error) {
      if (!(error instanceof Stop)) throw error;
    }
  }

  async #node(node: RuleNode, place: Place, ratchet: Ratchet): Promise<void> {
    const { path, value } = place;
    if (isAbsent(value) || this.#run.errors.full) return;
    if (node.rules.length > 0) await this.#rules(node, place, ratchet);
    if (Array.isArray(value)) {
      if (node.items === undefined) return;
      const former = formerItems(node.schema, place.old);
      for (const [index, item] of value.entries()) {
        const old = former?.(item);
        await this.#node(node.items, { path: `${path}[${index}]`, value: item, old }, inside(ratchet, item, old));
      }
    } else if (isObject(value)) {
      for (const [key, item] of Object.entries(value)) {
        const property = node.properties.get(key);
        const old = fieldOf(place.old, key);
        const next = keyRatchet(ratchet, key, item);
        if (property !== undefined) {
          const at = path === '' ? key : `${path}.${key}`;
          await this.#node(property, { path: at, value: item, old }, next);
        } else if (node.values !== undefined && node.schema.properties?.[key] === undefined)
          await this.#node(node.values, { path: `${path}[${key}]`, value: item, old }, next);
      }
    }
  }

  async #rules({ rules, schema, type }: RuleNode, { path, value, old }: Place, ratchet: Ratchet): Promise<void> {
    const self = fromJson(value, type);
    const hasOld = !isAbsent(old);
    const oldSelf = hasOld ? fromJson(old, type) : undefined;
    const field = path === '' ? noField : path;
    const shown = schema.type === 'object' || schema.type === 'array' ? omitted : value;
    const typeName = schema.type ?? '';
    if (this.#left <= 0) this.#stop(field, typeName);
    for (const rule of rules) {
      const { program, usesOld, error } = rule;
      if (error !== undefined) this.#run.errors.invalid(field, typeName, `rule compile error: ${error}`);
      if (program === undefined || (usesOld && !hasOld && rule.rule.optionalOldSelf !== true)) continue;
      const optional = rule.rule.optionalOldSelf === true;
      const activation: Activation = {
        variables: {
          self,
          ...(optional ? { oldSelf: new OptionalValue(oldSelf) } : oldSelf === undefined ? {} : { oldSelf }),
        },
      };
      if (await this.#holds(rule, program, activation, { field, typeName })) continue;
      const at =
        rule.path === '' ? field : path === '' || rule.path.startsWith('[') ? path + rule.path : `${path}.${rule.path}`;
      const keep = !usesOld && (ratchet.now ?? ratchet.parent)?.isSame === true;
      await this.#report(rule, activation, { field: at, typeName, shown, keep });
    }
  }

  #stop(field: string, typeName: string): never {
    this.#run.errors.invalid(
      field,
      typeName,
      'validation failed due to running out of cost budget, no further validation rules will be run',
    );
    throw new Stop();
  }

  /** Whether a rule is kept, or could not be looked at, which is told. */
  async #holds(
    { rule }: CompiledRule,
    program: Program,
    activation: Activation,
    { field, typeName }: { field: string; typeName: string },
  ): Promise<boolean> {
    const { errors, nextTurn } = this.#run;
    const text = ruleText(rule);
    try {
      const { value, cost } = await program.evaluate(activation, nextTurn);
      if (cost > this.#left) this.#stop(field, typeName);
      this.#left -= cost;
      return value === true;
    } catch (error) {
      if (!(error instanceof CelError)) throw error;
      const why = error.message;
      if (error instanceof CostError) {
        errors.invalid(
          field,
          typeName,
          `'${why}': no further validation rules will be run due to call cost exceeds limit for rule: ${text}`,
        );
        throw new Stop();
      }
      errors.invalid(
        field,
        typeName,
        why.startsWith('no such overload')
          ? `'${why}': call arguments did not match a supported operator, function or macro signature for rule: ${text}`
          : `${why} evaluating rule: ${text}`,
      );
      return true;
    }
  }

  /** `keep`: nothing was changed, so it is a warning. */
  async #report(
    compiled: CompiledRule,
    activation: Activation,
    { field, typeName, shown, keep }: { field: string; typeName: string; shown: unknown; keep: boolean },
  ): Promise<void> {
    const { rule } = compiled;
    const found = keep ? new FieldErrors() : this.#run.errors;
    const message = await this.#message(compiled, activation);
    if ('stop' in message) found.invalid(field, typeName, message.stop);
    else addForReason(found, field, shown, { reason: rule.reason, detail: message.text ?? defaultMessage(rule) });
    if (keep) for (const cause of found.causes) this.#run.warn(causeText(cause));
    if ('stop' in message) throw new Stop();
  }

  async #message(
    { message, rule }: CompiledRule,
    activation: Activation,
  ): Promise<{ text: string | undefined } | { stop: string }> {
    if (message === undefined) return { text: undefined };
    try {
      const { value, cost } = await message.evaluate(activation, this.#run.nextTurn);
      if (cost > this.#left)
        return {
          stop: 'messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run',
        };
      this.#left -= cost;
      const text = String(value).trim();
      const isUsable = text !== '' && !text.includes('\n') && Buffer.byteLength(text) <= ruleMessageBytesMax;
      return { text: isUsable ? text : undefined };
    } catch (error) {
      if (error instanceof CostError)
        return {
          stop: `no further validation rules will be run due to call cost exceeds limit for messageExpression: ${JSON.stringify(rule.messageExpression)}`,
        };
      if (error instanceof CelError) return { text: undefined };
      throw error;
    }
  }
}

const causeText = ({ field, message }: StatusCause): string => `${field}: ${message}`;

type Rule = CompiledRule['rule'];
const ruleText = ({ message, rule }: Rule): string => (message ? message.trim() : rule.trim());
const defaultMessage = (rule: Rule): string => (rule.message ? rule.message.trim() : `failed rule: ${ruleText(rule)}`);

function addForReason(
  errors: FieldErrors,
  field: string,
  value: unknown,
  { reason, detail }: { reason: string | undefined; detail: string },
): void {
  switch (reason) {
    case 'FieldValueForbidden':
      errors.forbidden(field, detail);
      break;
    case 'FieldValueRequired':
      errors.required(field, detail);
      break;
    case 'FieldValueDuplicate':
      errors.duplicate(field, value);
      break;
    default:
      errors.invalid(field, value, detail);
  }
}

const inside = (ratchet: Ratchet, value: unknown, old: unknown): Ratchet =>
  ratchet.now === undefined
    ? ratchet
    : { now: old === undefined ? undefined : new Pair(value, old), parent: ratchet.now };

function keyRatchet(ratchet: Ratchet, key: string, value: unknown): Ratchet {
  const { now, parent } = ratchet;
  if (now === undefined) return ratchet;
  if (parent === undefined && (key === 'apiVersion' || key === 'kind')) return { now: undefined, parent: undefined };
  return inside(ratchet, value, fieldOf(now.old, key));
}
