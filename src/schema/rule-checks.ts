/**
 * What the validation rules of a custom resource definition must be: they compile, their values can be told from
 * before where they ask for it, and what they are estimated to cost stays within bounds (reference implementation).
 */
import type { JSONSchemaProps, ValidationRule } from '#api/apiextensions.v1.ts';
import type { FieldErrors } from './field-errors.ts';
import { ruleEstimateMax, ruleRequestBytesMax, rulesEstimateMax } from './limits.ts';
import { fieldPathOf } from './rule-paths.ts';
import { declareType, type DeclaredType } from './rule-types.ts';
import { compileRules, declaredProperty, selfTypeName, type CompiledRule } from './rules.ts';
import { itemsOf } from './schema-items.ts';

const reasons = ['FieldValueDuplicate', 'FieldValueForbidden', 'FieldValueInvalid', 'FieldValueRequired'];
/** So many of the dearest rules are named. */
const dearestMax = 4;

interface Place {
  schema: JSONSchemaProps;
  at: string;
  /** Undefined where expressions do not see the values; there rules are not compiled. */
  declared: DeclaredType | undefined;
  /** How many values there can be; undefined where nothing bounds them. */
  count: number | undefined;
  /** The nearest place above below which nothing can be told from before. */
  uncorrelatable: string | undefined;
}

/**
 * Reports what is wrong with the rules of a root schema. `keepsEach`: the schema was accepted before, so that no single
 * rule is refused for its cost.
 */
export function checkSchemaRules(schema: JSONSchemaProps, at: string, errors: FieldErrors, keepsEach = false): void {
  const form = errors.fork();
  const start = { schema, at, declared: undefined, count: 1, uncorrelatable: undefined };
  for (const place of placesOf(start)) checkForms(place.schema, place.at, form);
  if (form.any) {
    errors.take(form);
    return;
  }
  const costs = new Costs(errors, keepsEach);
  const declared = declareType(schema, true, selfTypeName);
  for (const place of placesOf({ ...start, declared })) checkPrograms(place, errors, costs);
  costs.checkTotal(at);
}

/** The places of a schema at which values are, itself first. */
function* placesOf(place: Place): Generator<Place> {
  yield place;
  const { schema, at, declared, uncorrelatable } = place;
  const count = countInside(place);
  const values = schema.additionalProperties;
  if (typeof values === 'object')
    yield* placesOf({ ...place, schema: values, at: `${at}.additionalProperties`, declared: declared?.item, count });
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    if (typeof property !== 'object' || property === null) continue;
    yield* placesOf({
      ...place,
      schema: property,
      at: `${at}.properties[${name}]`,
      declared: declared === undefined ? undefined : declaredProperty(name, property, declared),
      count,
    });
  }
  const items = itemsOf(schema);
  if (typeof items !== 'object' || items === null) return;
  const isTold = schema['x-kubernetes-list-type'] === 'map';
  yield* placesOf({
    schema: items,
    at: `${at}.items`,
    declared: declared?.item,
    count,
    uncorrelatable: isTold ? uncorrelatable : at,
  });
}

function countInside({ schema, count }: Place): number | undefined {
  const most =
    schema.type === 'array'
      ? schema.maxItems
      : schema.type === 'object' && schema.additionalProperties !== undefined
        ? schema.maxProperties
        : 1;
  return count === undefined || most === undefined ? undefined : count * Math.max(0, most);
}

function checkForms(schema: JSONSchemaProps, place: string, errors: FieldErrors): void {
  for (const [i, rule] of (schema['x-kubernetes-validations'] ?? []).entries()) {
    const at = `${place}.x-kubernetes-validations[${i}]`;
    checkMessage(rule, at, errors);
    if (rule.messageExpression && rule.messageExpression.trim() === '')
      errors.required(`${at}.messageExpression`, 'messageExpression must be non-empty if specified');
    if (rule.reason !== undefined && !reasons.includes(rule.reason))
      errors.unsupported(`${at}.reason`, rule.reason, reasons);
    const { fieldPath } = rule;
    if (!fieldPath) continue;
    if (fieldPath.trim() === '') errors.invalid(`${at}.fieldPath`, fieldPath, 'must be non-empty if specified');
    if (/[\n\r]/.test(fieldPath)) errors.invalid(`${at}.fieldPath`, fieldPath, 'must not contain line breaks');
    if ('problem' in fieldPathOf(fieldPath, schema))
      errors.invalid(`${at}.fieldPath`, fieldPath, 'must be a valid path');
  }
}

function checkMessage({ rule: given, message = '' }: Partial<ValidationRule>, at: string, errors: FieldErrors): void {
  const [rule, text] = [(given ?? '').trim(), message.trim()];
  if (rule === '') errors.required(`${at}.rule`, 'rule is not specified');
  else if (message !== '' && text === '') errors.invalid(`${at}.message`, message, 'must be non-empty if specified');
  else if (/[\n\r]/.test(text)) errors.invalid(`${at}.message`, message, 'must not contain line breaks');
  else if (/[\n\r]/.test(rule) && text === '')
    errors.required(`${at}.message`, 'message must be specified if rule contains line breaks');
}

function checkPrograms(
  { schema, at, declared, count, uncorrelatable }: Place,
  errors: FieldErrors,
  costs: Costs,
): void {
  const rules = schema['x-kubernetes-validations'] ?? [];
  if (rules.length === 0 || errors.full) return;
  if (declared === undefined) {
    errors.internal(
      `${at}.x-kubernetes-validations`,
      'internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations',
    );
    return;
  }
  const most = count ?? Math.floor(ruleRequestBytesMax / (declared.bytesMin + 1));
  for (const [i, compiled] of compileRules(rules, schema, declared).entries()) {
    const path = `${at}.x-kubernetes-validations[${i}]`;
    costs.add(`${path}.rule`, 'estimated rule cost', compiled.cost * most);
    checkProgram(compiled, path, uncorrelatable, errors);
    if (compiled.message !== undefined)
      costs.add(`${path}.messageExpression`, 'estimated messageExpression cost', compiled.messageCost);
  }
}

function checkProgram(
  { rule, error, messageError, usesOld }: CompiledRule,
  at: string,
  uncorrelatable: string | undefined,
  errors: FieldErrors,
): void {
  if (error !== undefined) errors.invalid(`${at}.rule`, shownRule(rule), error);
  if (messageError !== undefined) errors.invalid(`${at}.messageExpression`, shownRule(rule), messageError);
  if (usesOld && uncorrelatable !== undefined)
    errors.invalid(
      `${at}.rule`,
      rule.rule,
      `oldSelf cannot be used on the uncorrelatable portion of the schema within ${uncorrelatable}`,
    );
  else if (!usesOld && rule.optionalOldSelf !== undefined)
    errors.invalid(`${at}.optionalOldSelf`, rule.optionalOldSelf, 'may not be set if oldSelf is not used in rule');
}

/** As Go shows its internal form. */
const shownRule = (rule: ValidationRule): object => ({
  Rule: rule.rule,
  Message: rule.message ?? '',
  MessageExpression: rule.messageExpression ?? '',
  Reason: rule.reason ?? null,
  FieldPath: rule.fieldPath ?? '',
  OptionalOldSelf: rule.optionalOldSelf ?? null,
});

/** What the rules of a schema are estimated to cost, each and together. */
class Costs {
  readonly #errors: FieldErrors;
  readonly #keepsEach: boolean;
  #total = 0;
  readonly #dear: { path: string; cost: number }[] = [];

  constructor(errors: FieldErrors, keepsEach: boolean) {
    this.#errors = errors;
    this.#keepsEach = keepsEach;
  }

  add(path: string, what: string, cost: number): void {
    if (cost > ruleEstimateMax && !this.#keepsEach)
      this.#errors.forbidden(path, overBudget(what, cost / ruleEstimateMax));
    this.#total += cost;
    if (cost >= rulesEstimateMax / 100) this.#dear.push({ path, cost });
  }

  checkTotal(at: string): void {
    if (this.#total <= rulesEstimateMax) return;
    const dearest = [...this.#dear].sort((a, b) => b.cost - a.cost).slice(0, dearestMax);
    for (const { path } of dearest)
      this.#errors.forbidden(
        path,
        'contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema',
      );
    this.#errors.forbidden(
      at,
      overBudget(
        'x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema',
        this.#total / rulesEstimateMax,
      ),
    );
  }
}

function overBudget(what: string, factor: number): string {
  const shown = factor > 100 ? 'more than 100x' : `${factor.toFixed(factor < 1.5 ? 6 : 1)}x`;
  return `${what} exceeds budget by factor of ${shown} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)`;
}
