/**
 * Label selectors (string form, `matchLabels`/`matchExpressions`) and field selectors: parsing with the errors that an
 * API server gives, matching, and printing. Pure. Sources: Kubernetes documentation "Labels and Selectors", "Field
 * Selectors".
 *
 * A parsed selector is a list of requirements that must all hold; the empty list matches everything. "Matches nothing"
 * (a selector that is absent in a spec) is `undefined` and the caller's business, except in `selectorOf`.
 */
import { ApiError } from './errors.ts';
import { selectorValuesScannedMax } from './limits.ts';

export type LabelOperator = 'In' | 'NotIn' | 'Exists' | 'DoesNotExist' | 'Gt' | 'Lt';
export interface LabelRequirement {
  key: string;
  operator: LabelOperator;
  values: readonly string[];
}
export type LabelSelector = readonly LabelRequirement[];
export type Labels = Readonly<Record<string, string>>;

/** The object form, as in `spec.selector` of workloads. */
export interface LabelSelectorObject {
  matchLabels?: Record<string, string>;
  matchExpressions?: { key?: string; operator?: string; values?: string[] }[];
}

const qualifiedNamePart = /^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/;
const labelValuePattern = /^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$/;
const subdomainPattern = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const namePartMessage =
  "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const labelValueMessage =
  "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const subdomainMessage =
  "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/** What is wrong with a qualified name (label or annotation key), as an API server says it; empty when it is right. */
export function qualifiedNameProblems(key: string): string[] {
  const [first = '', second, ...more] = key.split('/');
  const problems: string[] = [];
  if (more.length > 0) {
    return [
      `a valid label key ${namePartMessage.slice('name part '.length)} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`,
    ];
  }
  const [prefix, name] = second === undefined ? [undefined, first] : [first, second];
  if (prefix === '') problems.push('prefix part must be non-empty');
  else if (prefix !== undefined && prefix.length > 253) problems.push('prefix part must be no more than 253 bytes');
  else if (prefix !== undefined && !subdomainPattern.test(prefix)) problems.push(subdomainMessage);
  if (name === '') problems.push('name part must be non-empty');
  else if (name.length > 63) problems.push('name part must be no more than 63 bytes');
  if (!qualifiedNamePart.test(name)) problems.push(namePartMessage);
  return problems;
}

/** What is wrong with a label value; empty when it is right. */
export function labelValueProblems(value: string): string[] {
  const problems: string[] = [];
  if (value.length > 63) problems.push('must be no more than 63 bytes');
  if (!labelValuePattern.test(value)) problems.push(labelValueMessage);
  return problems;
}

const symbols = ['==', '!=', '=', '!', ',', '(', ')', '<', '>', 'in', 'notin'] as const;
type TokenKind = 'word' | 'end' | (typeof symbols)[number];
interface Token {
  kind: TokenKind;
  text: string;
}
const endToken: Token = { kind: 'end', text: '' };

function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  const pattern = /\s+|==|!=|[=!,()<>]|[^\s=!,()<>]+/gy;
  for (const [piece] of text.matchAll(pattern)) {
    if (piece.trim() === '') continue;
    tokens.push({ kind: symbols.find((symbol) => symbol === piece) ?? 'word', text: piece });
  }
  return tokens;
}

class SelectorParser {
  readonly #tokens: Token[];
  #at = 0;

  constructor(text: string) {
    this.#tokens = tokenize(text);
  }

  parse(): LabelRequirement[] {
    const requirements: LabelRequirement[] = [];
    if (this.#peek().kind === 'end') return requirements;
    for (;;) {
      const token = this.#peek();
      if (token.kind !== 'word' && token.kind !== '!' && token.kind !== 'in' && token.kind !== 'notin') {
        throw new SelectorError(`found '${token.text}', expected: !, identifier, or 'end of string'`);
      }
      requirements.push(this.#requirement());
      const next = this.#take();
      if (next.kind === 'end') return requirements;
      if (next.kind !== ',') throw new SelectorError(`found '${next.text}', expected: ',' or 'end of string'`);
      const after = this.#peek();
      if (after.kind !== 'word' && after.kind !== '!' && after.kind !== 'in' && after.kind !== 'notin') {
        throw new SelectorError(`found '${after.text}', expected: identifier after ','`);
      }
    }
  }

  #peek(): Token {
    return this.#tokens[this.#at] ?? endToken;
  }
  #take(): Token {
    return this.#tokens[this.#at++] ?? endToken;
  }

  #requirement(): LabelRequirement {
    const absent = this.#peek().kind === '!';
    if (absent) this.#take();
    const key = this.#take();
    if (key.kind === 'end') throw new SelectorError(`found '${key.text}', expected: identifier`);
    const problems = qualifiedNameProblems(key.text);
    if (problems.length > 0)
      throw new SelectorError(
        `unable to parse requirement: <nil>: Invalid value: ${JSON.stringify(key.text)}: ${problems.join('; ')}`,
        true,
      );
    if (absent) return { key: key.text, operator: 'DoesNotExist', values: [] };
    const next = this.#peek();
    if (next.kind === 'end' || next.kind === ',') return { key: key.text, operator: 'Exists', values: [] };
    return this.#withOperator(key.text, this.#take());
  }

  #withOperator(key: string, operator: Token): LabelRequirement {
    switch (operator.kind) {
      case '=':
      case '==':
        return checkedValues({ key, operator: 'In', values: [this.#exactValue()] });
      case '!=':
        return checkedValues({ key, operator: 'NotIn', values: [this.#exactValue()] });
      case 'in':
        return checkedValues({ key, operator: 'In', values: this.#valueList() });
      case 'notin':
        return checkedValues({ key, operator: 'NotIn', values: this.#valueList() });
      case '>':
      case '<': {
        const value = this.#exactValue();
        if (!/^[+-]?\d{1,19}$/.test(value))
          throw new SelectorError(
            `values[0]: Invalid value: ${JSON.stringify(value)}: for 'Gt', 'Lt' operators, the value must be an integer`,
            true,
          );
        return { key, operator: operator.kind === '>' ? 'Gt' : 'Lt', values: [value] };
      }
      default:
        throw new SelectorError(`found '${operator.text}', expected: in, notin, =, ==, !=, gt, lt`);
    }
  }

  #exactValue(): string {
    const next = this.#peek();
    if (next.kind === 'end' || next.kind === ',') return '';
    const value = this.#take();
    if (value.kind === 'word' || value.kind === 'in' || value.kind === 'notin') return value.text;
    throw new SelectorError(`found '${value.text}', expected: identifier`);
  }

  #valueList(): string[] {
    const open = this.#take();
    if (open.kind !== '(') throw new SelectorError(`found '${open.text}' expected: '('`);
    const values = new Set<string>();
    let lastWasComma = true;
    for (;;) {
      const token = this.#take();
      if (token.kind === 'word' || token.kind === 'in' || token.kind === 'notin') {
        if (!lastWasComma) throw new SelectorError(`found '${token.text}', expected: ',' or ')'`);
        values.add(token.text);
        lastWasComma = false;
      } else if (token.kind === ',') {
        if (lastWasComma) values.add('');
        lastWasComma = true;
      } else if (token.kind === ')') {
        if (lastWasComma) values.add('');
        return [...values].sort();
      } else {
        throw new SelectorError(`found '${token.text}', expected: ',', ')' or identifier`);
      }
    }
  }
}

class SelectorError extends Error {
  readonly whole: boolean;
  constructor(message: string, whole = false) {
    super(message);
    this.whole = whole;
  }
}

function checkedValues(requirement: LabelRequirement): LabelRequirement {
  for (const [index, value] of requirement.values.entries()) {
    const problems = labelValueProblems(value);
    if (problems.length > 0)
      throw new SelectorError(
        `values[${index}][${requirement.key}]: Invalid value: ${JSON.stringify(value)}: ${problems.join('; ')}`,
        true,
      );
  }
  return requirement;
}

/** Parses the string form (`a=b,c in (d,e),!f`). Throws a BadRequest ApiError. */
export function parseLabelSelector(text: string): LabelRequirement[] {
  if (text === '') return [];
  try {
    return new SelectorParser(text).parse();
  } catch (error) {
    if (!(error instanceof SelectorError)) throw error;
    throw new ApiError('BadRequest', error.whole ? error.message : `unable to parse requirement: ${error.message}`);
  }
}

const objectOperators: Record<string, LabelOperator> = {
  In: 'In',
  NotIn: 'NotIn',
  Exists: 'Exists',
  DoesNotExist: 'DoesNotExist',
  Gt: 'Gt',
  Lt: 'Lt',
};

/**
 * The object form as requirements; an absent selector is `undefined` (matches nothing), an empty one matches
 * everything. Throws a BadRequest ApiError on an operator that is unknown or lacks its values.
 */
export function selectorOf(selector: LabelSelectorObject | null | undefined): LabelRequirement[] | undefined {
  if (selector === undefined || selector === null) return undefined;
  const requirements: LabelRequirement[] = [];
  for (const [key, value] of Object.entries(selector.matchLabels ?? {}))
    requirements.push({ key, operator: 'In', values: [value] });
  for (const expression of selector.matchExpressions ?? []) {
    const { key = '', operator: given = '' } = expression;
    const operator = objectOperators[given];
    if (operator === undefined)
      throw new ApiError('BadRequest', `${JSON.stringify(given)} is not a valid label selector operator`);
    if ((operator === 'In' || operator === 'NotIn') && (expression.values ?? []).length === 0) {
      throw new ApiError(
        'BadRequest',
        "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty",
      );
    }
    requirements.push({ key, operator, values: expression.values ?? [] });
  }
  return requirements;
}

/** The expressions of a node selector term as requirements; an operator that is none matches nothing. */
export function requirementsOf(
  expressions: readonly { key: string; operator: string; values?: string[] }[] | undefined,
): LabelRequirement[] {
  return (expressions ?? []).map(({ key, operator, values }) => {
    const known = objectOperators[operator];
    return known === undefined ? { key, operator: 'In', values: [] } : { key, operator: known, values: values ?? [] };
  });
}

/** A plain map (a Service's or ReplicationController's selector) as requirements. */
export function selectorOfMap(map: Labels): LabelRequirement[] {
  return Object.entries(map).map(([key, value]) => ({ key, operator: 'In', values: [value] }));
}

const valueSets = new WeakMap<readonly string[], ReadonlySet<string>>();

/**
 * Whether a value is among those of a requirement; many are looked up, so that a long list costs each object no walk.
 */
function isAmong(values: readonly string[], value: string): boolean {
  if (values.length <= selectorValuesScannedMax) return values.includes(value);
  let set = valueSets.get(values);
  if (set === undefined) valueSets.set(values, (set = new Set(values)));
  return set.has(value);
}

/** Whether one requirement holds. `NotIn` and `DoesNotExist` hold where the key is absent. */
export function matchesRequirement(requirement: LabelRequirement, labels: Labels | undefined): boolean {
  const value = labels !== undefined && Object.hasOwn(labels, requirement.key) ? labels[requirement.key] : undefined;
  switch (requirement.operator) {
    case 'In':
      return value !== undefined && isAmong(requirement.values, value);
    case 'NotIn':
      return value === undefined || !isAmong(requirement.values, value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
    case 'Gt':
    case 'Lt': {
      const bound = requirement.values[0];
      if (
        value === undefined ||
        bound === undefined ||
        !/^[+-]?\d{1,19}$/.test(value) ||
        !/^[+-]?\d{1,19}$/.test(bound)
      )
        return false;
      return requirement.operator === 'Gt' ? BigInt(value) > BigInt(bound) : BigInt(value) < BigInt(bound);
    }
  }
}

/** Whether all requirements hold. */
export function matchesLabels(selector: LabelSelector, labels: Labels | undefined): boolean {
  for (const requirement of selector) if (!matchesRequirement(requirement, labels)) return false;
  return true;
}

/** `matchesLabels` for the object form; an absent selector matches nothing. */
export function matchesSelectorObject(
  selector: LabelSelectorObject | null | undefined,
  labels: Labels | undefined,
): boolean {
  const requirements = selectorOf(selector);
  return requirements !== undefined && matchesLabels(requirements, labels);
}

/** The string form, requirements sorted by key: what `scale.status.selector` and `kubectl describe` show. */
export function formatLabelSelector(selector: LabelSelector): string {
  return selector
    .toSorted((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))
    .map(({ key, operator, values }) => {
      switch (operator) {
        case 'In':
          return values.length === 1 ? `${key}=${values[0]}` : `${key} in (${values.toSorted().join(',')})`;
        case 'NotIn':
          return values.length === 1 ? `${key}!=${values[0]}` : `${key} notin (${values.toSorted().join(',')})`;
        case 'Exists':
          return key;
        case 'DoesNotExist':
          return `!${key}`;
        case 'Gt':
          return `${key}>${values[0]}`;
        case 'Lt':
          return `${key}<${values[0]}`;
        default:
          return operator satisfies never;
      }
    })
    .join(',');
}

export interface FieldRequirement {
  field: string;
  operator: '=' | '!=';
  value: string;
}
export type FieldSelector = readonly FieldRequirement[];

function splitUnescaped(text: string, separator: string): string[] {
  const parts: string[] = [];
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '\\') {
      i++;
      continue;
    }
    if (text[i] === separator) {
      parts.push(text.slice(start, i));
      start = i + 1;
    }
  }
  parts.push(text.slice(start));
  return parts;
}

function unescapeField(text: string): string {
  let out = '';
  for (let i = 0; i < text.length; i++) {
    const character = text.charAt(i);
    if (character === '\\') {
      const next = text[++i];
      if (next !== '\\' && next !== ',' && next !== '=')
        throw new ApiError('BadRequest', `invalid field selector: invalid escape sequence: \\${next ?? ''} in ${text}`);
      out += next;
    } else if (character === ',' || character === '=') {
      throw new ApiError('BadRequest', `invalid field selector: unescaped character in field selector: ${character}`);
    } else {
      out += character;
    }
  }
  return out;
}

/** Parses `metadata.name=a,status.phase!=Running`; `\\`, `\,` and `\=` escape. Throws a BadRequest ApiError. */
export function parseFieldSelector(text: string): FieldRequirement[] {
  const requirements: FieldRequirement[] = [];
  for (const part of splitUnescaped(text, ',')) {
    if (part === '') continue;
    const [, field, operator, value] = /^((?:[^=!\\]|\\.|!(?!=))*)(!=|==|=)(.*)$/s.exec(part) ?? [];
    if (field === undefined || value === undefined)
      throw new ApiError('BadRequest', `invalid selector: '${text}'; can't understand '${part}'`);
    requirements.push({ field, operator: operator === '!=' ? '!=' : '=', value: unescapeField(value) });
  }
  return requirements;
}

/** Whether all requirements hold; `valueOf` gives a field's value as text (`''` where it is not set). */
export function matchesFields(selector: FieldSelector, valueOf: (field: string) => string): boolean {
  for (const { field, operator, value } of selector) {
    if ((valueOf(field) === value) !== (operator === '=')) return false;
  }
  return true;
}

/** The value that a `=` requirement pins a field to, so that a read can use an index. */
export function fieldValueOf(selector: FieldSelector, field: string): string | undefined {
  return selector.find((requirement) => requirement.field === field && requirement.operator === '=')?.value;
}

export function formatFieldSelector(selector: FieldSelector): string {
  return selector
    .map(({ field, operator, value }) => `${field}${operator}${value.replaceAll(/[\\,=]/g, (c) => `\\${c}`)}`)
    .join(',');
}
