/** Values for a field: such as an object of its type may have, and such as it may not. */
import type { Corpus } from './bases.ts';
import type { Chance } from './random.ts';
import type { Schema, Schemas } from './schemas.ts';

const depthMax = 4;

const texts = [
  ...['a', 'web', 'web-2', 'example.com/thing', 'v1', 'UPPER', 'a.b.c', '10.1.2.3', 'true', '5', '/path', 'x_y'],
  ...['zone', 'http', 'TCP', '80', 'fd00::1', '*'],
];
const oddTexts = [
  ...[
    '',
    '-',
    '-a',
    'a-',
    'A',
    'a b',
    'a/b/c',
    '/',
    '..',
    '../x',
    'a/../b',
    '*',
    '.',
    'é',
    'a\nb',
    '%',
    'x'.repeat(64),
  ],
  ...[
    'x'.repeat(254),
    `${'x'.repeat(64)}/y`,
    'http://',
    'a:b',
    '10.0.0.256',
    '010.0.0.1',
    '10.0.0.0/33',
    '::ffff:1.2.3.4',
  ],
  ...['$(A', 'a=b', 'a,b', '-1', '1e3', 'kubernetes.io/x', 'None', 'Unknown', '127.0.0.1', '0.0.0.0', '169.254.1.1'],
];
const quantities = ['1', '100m', '1Gi', '5', '0', '1.5', '1e3', '2k'];
const oddQuantities = ['-1', '-100m', 'abc', '', '1 Gi', '0.1m', '1.5n', '99999999999999999999', '1Zi'];
const numbers = [0, 1, 2, 3, 5, 10, 30, 80, 100, 443, 600, 8080];
const oddNumbers = [-1, -5, 101, 256, 65_535, 65_536, 2_147_483_647, 2_147_483_648, -2_147_483_649, 86_401, 1.5, 1e10];
const times = ['2026-01-01T00:00:00Z', '2027-06-01T12:00:00Z'];
const oddTimes = ['2026-01-01', 'now', '', '2026-01-01T00:00:00+02:00', '2026-13-01T00:00:00Z'];

/** A field that values are wanted for: its type, and its name in the corpus. */
export interface Wanted {
  schema: Schema;
  name: string;
}

export class Values {
  readonly #schemas: Schemas;
  readonly #corpus: Corpus;

  constructor(schemas: Schemas, corpus: Corpus) {
    this.#schemas = schemas;
    this.#corpus = corpus;
  }

  /** One that may well be taken. */
  good(wanted: Wanted, chance: Chance, depth = 0): unknown {
    const seen = this.#corpus.get(wanted.name);
    if (seen !== undefined && chance.percent(70)) return structuredClone(chance.pick(seen));
    const schema = this.#schemas.resolve(wanted.schema);
    if (schema.enum !== undefined) return chance.pick(schema.enum);
    const named = schema.name ?? '';
    if (named.endsWith('resource.Quantity')) return chance.pick(quantities);
    if (named.endsWith('intstr.IntOrString')) return chance.pick([1, 80, '50%', '25%', 'http', 0]);
    switch (schema.type) {
      case 'string':
        if (schema.format === 'date-time') return chance.pick(times);
        return schema.format === 'byte' ? 'aGVsbG8=' : chance.pick(texts);
      case 'integer':
        return chance.pick(numbers);
      case 'number':
        return chance.pick([0, 1, 1.5]);
      case 'boolean':
        return chance.percent(50);
      case 'array':
        return [this.good({ schema: schema.items ?? {}, name: `${wanted.name}[]` }, chance, depth + 1)];
      case 'object':
        return this.#object(schema, chance, depth);
      default:
        return chance.pick<unknown>([{ a: 1 }, 'a', 1, true]);
    }
  }

  #object(schema: Schema, chance: Chance, depth: number): unknown {
    const { properties, additionalProperties, required = [], name } = schema;
    if (properties === undefined)
      return additionalProperties === undefined || depth > depthMax
        ? {}
        : { [chance.pick(texts)]: this.good({ schema: additionalProperties, name: '' }, chance, depth + 1) };
    const object: Record<string, unknown> = {};
    for (const [key, inner] of Object.entries(properties))
      if (required.includes(key) || (depth < depthMax && chance.percent(35)))
        object[key] = this.good({ schema: inner, name: `${name}.${key}` }, chance, depth + 1);
    return object;
  }

  /** One at or beyond the bounds of its type, or in a form that the field may not have. */
  odd({ schema: unresolved }: Wanted, chance: Chance): unknown {
    const schema = this.#schemas.resolve(unresolved);
    const named = schema.name ?? '';
    if (named.endsWith('resource.Quantity')) return chance.pick(oddQuantities);
    if (named.endsWith('intstr.IntOrString'))
      return chance.pick<unknown>([-1, '101%', '-1%', '', 'UPPER', 65_536, 'a--b', '1.5%', '0%', 0, 2_147_483_648]);
    switch (schema.type) {
      case 'string':
        if (schema.format === 'date-time') return chance.pick(oddTimes);
        return chance.pick(schema.format === 'byte' ? ['!', 'YQ', 'YQ==', ''] : oddTexts);
      case 'integer':
      case 'number':
        return chance.pick(oddNumbers);
      case 'array':
        return [];
      case 'object':
        return {};
      default:
        return chance.pick(oddTexts);
    }
  }

  /** One of another type. */
  wrong({ schema: unresolved }: Wanted, chance: Chance): unknown {
    const { type } = this.#schemas.resolve(unresolved);
    const others: Record<string, unknown> = {
      string: 'text',
      integer: 7,
      boolean: true,
      array: ['a'],
      object: { a: 'b' },
    };
    return chance.pick(Object.keys(others).flatMap((name) => (name === type ? [] : [others[name]])));
  }
}
