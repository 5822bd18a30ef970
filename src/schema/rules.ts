/**
 * The validation rules of a schema (`x-kubernetes-validations`) as programs. A rule sees the value it stands at as
 * `self`, and what that was before as `oldSelf`.
 */
import type { JSONSchemaProps, ValidationRule } from '#api/apiextensions.v1.ts';
import type { Node } from '#cel/ast.ts';
import type { Environment } from '#cel/environment.ts';
import { estimateCost } from '#cel/estimate.ts';
import { escapedName } from '#cel/json-values.ts';
import { CompilationError, compileChecked, type CompiledExpression, type Program } from '#cel/program.ts';
import { optionalType, type Type } from '#cel/types.ts';
import { expressionFunctions } from './format-library.ts';
import { fieldPathOf } from './rule-paths.ts';
import { declareType, elementsMaxAt, isFieldName, type DeclaredType } from './rule-types.ts';
import { itemsOf } from './schema-items.ts';

export interface CompiledRule {
  rule: ValidationRule;
  /** Absent where the rule is empty or does not compile. */
  program?: Program;
  message?: Program;
  usesOld: boolean;
  /** The most that it may cost, each time. */
  cost: number;
  messageCost: number;
  /** What is wrong with the rule, with its `messageExpression`. */
  error?: string;
  messageError?: string;
  /** What `fieldPath` names, as a path below the rule's place. */
  path: string;
}

/** A place of a schema that has rules, or has them below. */
export interface RuleNode {
  schema: JSONSchemaProps;
  type: Type;
  rules: readonly CompiledRule[];
  items?: RuleNode;
  values?: RuleNode;
  properties: ReadonlyMap<string, RuleNode>;
}

/** The rules of one place. */
export function compileRules(
  rules: readonly ValidationRule[],
  schema: JSONSchemaProps,
  declared: DeclaredType,
): CompiledRule[] {
  const environment = (oldSelf: Type): Environment => ({
    variables: new Map([
      ['self', declared.type],
      ['oldSelf', oldSelf],
    ]),
    functions: expressionFunctions,
  });
  const [plain, optional] = [environment(declared.type), environment(optionalType(declared.type))];
  return rules.map((rule) => {
    const path = rule.fieldPath === undefined ? undefined : fieldPathOf(rule.fieldPath, schema);
    const compiled: CompiledRule = {
      rule,
      usesOld: false,
      cost: 0,
      messageCost: 0,
      path: path !== undefined && 'path' in path ? path.path : '',
    };
    if (rule.rule.trim() !== '') compileRule(compiled, rule.optionalOldSelf === true ? optional : plain, declared);
    return compiled;
  });
}

function compileRule(into: CompiledRule, environment: Environment, declared: DeclaredType): void {
  const { rule, messageExpression } = into.rule;
  const estimate = ({ node, checked }: CompiledExpression): number =>
    estimateCost(node, checked, (path) => elementsMaxAt(declared, path)).max;
  try {
    const compiled = compileChecked(rule, environment);
    if (compiled.checked.type.kind !== 'bool') {
      into.error = 'cel expression must evaluate to a bool';
      return;
    }
    into.usesOld = names(compiled.node, 'oldSelf');
    into.program = compiled.program;
    into.cost = estimate(compiled);
  } catch (error) {
    into.error = problemOf(error, 'compilation failed: ');
    return;
  }
  if (messageExpression === undefined || messageExpression === '') return;
  try {
    const compiled = compileChecked(messageExpression, environment);
    if (compiled.checked.type.kind !== 'string') {
      into.messageError = 'messageExpression must evaluate to a string';
      return;
    }
    into.message = compiled.program;
    into.messageCost = estimate(compiled);
  } catch (error) {
    into.messageError = problemOf(error, 'messageExpression compilation failed: ');
  }
}

function problemOf(error: unknown, prefix: string): string {
  if (!(error instanceof CompilationError)) throw error;
  return error.problems.length === 0 ? error.message : `${prefix}${error.message}`;
}

/** Whether an expression names a variable. */
function names(node: Node, name: string): boolean {
  switch (node.op) {
    case 'const':
      return false;
    case 'ident':
      return node.name === name;
    case 'select':
      return names(node.operand, name);
    case 'call':
      return (node.target !== undefined && names(node.target, name)) || node.args.some((arg) => names(arg, name));
    case 'list':
      return node.items.some(({ value }) => names(value, name));
    case 'map':
      return node.entries.some(({ key, value }) => names(key, name) || names(value, name));
    case 'struct':
      return node.fields.some(({ value }) => names(value, name));
    case 'fold':
      return [node.range, node.init, node.condition, node.step, node.result].some((part) => names(part, name));
  }
}

/** The type of a resource in messages. */
export const selfTypeName = 'selfType';

/** The rules of a resource's schema; undefined where it has none. */
export function ruleTree(schema: JSONSchemaProps): RuleNode | undefined {
  return hasRules(schema) ? nodeOf(schema, declareType(schema, true, selfTypeName)) : undefined;
}

function hasRules(schema: JSONSchemaProps): boolean {
  if ((schema['x-kubernetes-validations'] ?? []).length > 0) return true;
  const items = itemsOf(schema);
  const values = typeof schema.additionalProperties === 'object' ? [schema.additionalProperties] : [];
  return [...(items === undefined ? [] : [items]), ...values, ...Object.values(schema.properties ?? {})].some(hasRules);
}

function nodeOf(schema: JSONSchemaProps, declared: DeclaredType | undefined): RuleNode | undefined {
  // Expressions do not see it: nothing can be said of it.
  if (declared === undefined) return undefined;
  const rules = compileRules(schema['x-kubernetes-validations'] ?? [], schema, declared);
  const itemSchema = itemsOf(schema);
  const items = itemSchema === undefined ? undefined : nodeOf(itemSchema, declared.item);
  const { additionalProperties } = schema;
  const values = typeof additionalProperties === 'object' ? nodeOf(additionalProperties, declared.item) : undefined;
  const properties = new Map<string, RuleNode>();
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    const node = nodeOf(property, declaredProperty(name, property, declared));
    if (node !== undefined) properties.set(name, node);
  }
  if (rules.length + properties.size === 0 && items === undefined && values === undefined) return undefined;
  return {
    schema,
    type: declared.type,
    rules,
    properties,
    ...(items === undefined ? {} : { items }),
    ...(values === undefined ? {} : { values }),
  };
}

/** What no expression can name has a type by itself. */
export function declaredProperty(
  name: string,
  schema: JSONSchemaProps,
  declared: DeclaredType,
): DeclaredType | undefined {
  const escaped = escapedName(name);
  return isFieldName(escaped)
    ? declared.fields?.get(escaped)
    : declareType(schema, schema['x-kubernetes-embedded-resource'] === true, selfTypeName);
}
