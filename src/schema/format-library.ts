/**
 * `format.dns1123Label().validate(…)` and its like in expressions (Kubernetes documentation, "Common Expression
 * Language in Kubernetes", "Kubernetes format library"), and with it all that an expression may call.
 */
import { labelValueProblems, qualifiedNameProblems } from '#base/selectors.ts';
import { baseFunctions, mutationFunctions } from '#cel/base-environment.ts';
import { declare, functionsOf, matchCostOf, opaqueOf, textOf, type Library } from '#cel/declare.ts';
import type { Overload } from '#cel/environment.ts';
import { Timestamp } from '#cel/time.ts';
import { opaqueType, type Type } from '#cel/types.ts';
import { listOf, OptionalValue, type OpaqueValue, type Value } from '#cel/values.ts';
import { label1035Problem, labelProblem, subdomainProblem } from './name-forms.ts';

type Problems = (text: string) => readonly string[];

class Format implements OpaqueValue {
  readonly kind = 'opaque';
  readonly type: Type = opaqueType('kubernetes.NamedFormat');
  readonly name: string;
  readonly problems: Problems;
  /** Characters of the pattern, which costs are counted by. */
  readonly patternLength: number;

  constructor(name: string, problems: Problems, patternLength: number) {
    this.name = name;
    this.problems = problems;
    this.patternLength = patternLength;
  }
  equals(other: OpaqueValue): boolean {
    return other instanceof Format && other.name === this.name;
  }
}

const listed =
  (problemOf: (text: string) => string): Problems =>
  (text) => {
    const problem = problemOf(text);
    return problem === '' ? [] : [problem];
  };
/** What a name begins with, to which something is added: a dash may be its last character. */
const prefix = (problemOf: (text: string) => string): Problems =>
  listed((text) => problemOf(text.length > 1 && text.endsWith('-') ? `${text.slice(0, -1)}a` : text));
const matching =
  (pattern: RegExp, problem: string): Problems =>
  (text) =>
    pattern.test(text) ? [] : [problem];

const date = /^\d{4}-\d{2}-\d{2}$/;
const uri: Problems = (text) =>
  /^(?:\/|[A-Za-z][A-Za-z0-9+.-]*:)[^\s]*$/.test(text) && !/%(?![0-9a-fA-F]{2})/.test(text)
    ? []
    : [`parse ${JSON.stringify(text)}: ${text === '' ? 'empty url' : 'invalid URI for request'}`];

const formats: ReadonlyMap<string, Format> = new Map(
  (
    [
      ['dns1123Label', listed(labelProblem), 30],
      ['dns1123Subdomain', listed(subdomainProblem), 60],
      ['dns1035Label', listed(label1035Problem), 30],
      ['qualifiedName', qualifiedNameProblems, 60],
      ['dns1123LabelPrefix', prefix(labelProblem), 30],
      ['dns1123SubdomainPrefix', prefix(subdomainProblem), 60],
      ['dns1035LabelPrefix', prefix(label1035Problem), 30],
      ['labelValue', labelValueProblems, 40],
      ['uri', uri, 1000],
      [
        'uuid',
        matching(
          /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i,
          'does not match the UUID format',
        ),
        87,
      ],
      ['byte', matching(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/, 'invalid base64'), 84],
      [
        'date',
        (text) => (date.test(text) && Timestamp.parse(`${text}T00:00:00Z`) !== undefined ? [] : ['invalid date']),
        95,
      ],
      ['datetime', (text) => (Timestamp.parse(text) === undefined ? ['invalid datetime'] : []), 95],
    ] satisfies [string, Problems, number][]
  ).map(([name, problems, length]) => [name, new Format(name, problems, length)]),
);

const formatType = 'kubernetes.NamedFormat';
const formatOf = (value: Value | undefined): Format => opaqueOf(value, Format);

const formatLibrary: Library = [
  ...[...formats].map(([name, format]) => declare(`format.${name}`, `() ${formatType}`, () => format)),
  declare('format.named', `(string) optional(${formatType})`, ([name]) => new OptionalValue(formats.get(textOf(name)))),
  declare(
    'validate',
    `${formatType}.(string) optional(list(string))`,
    ([format, text]) => {
      const problems = formatOf(format).problems(textOf(text));
      return new OptionalValue(problems.length === 0 ? undefined : listOf(problems));
    },
    ([format, text]) => matchCostOf(textOf(text).length, formatOf(format).patternLength),
  ),
];

const withFormats = (functions: ReadonlyMap<string, readonly Overload[]>): ReadonlyMap<string, readonly Overload[]> =>
  new Map([...functions, ...functionsOf(formatLibrary)]);

/** What every expression may call, and those that change objects. */
export const expressionFunctions = withFormats(baseFunctions);
export const mutatingFunctions = withFormats(mutationFunctions);
