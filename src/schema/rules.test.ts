import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import type { JSONSchemaProps } from '#api/apiextensions.v1.ts';
import { FieldErrors } from './field-errors.ts';
import { checkSchemaRules } from './rule-checks.ts';
import { declareType } from './rule-types.ts';
import { compileRules, ruleTree } from './rules.ts';
import { runRules } from './run-rules.ts';

/** What kube-apiserver 1.37 says of rules at the root of one schema, and of objects under small ones. */
const facts = JSON.parse(readFileSync(new URL('rules.cases.json', import.meta.url), 'utf8')) as {
  schema: JSONSchemaProps;
  rules: { rule: string; cost?: number; definition?: string[] }[];
  objects: { schema: JSONSchemaProps; object?: unknown; old?: unknown; definition: string[]; errors?: string[] }[];
};

const root = 'spec.validation.openAPIV3Schema';
const textsOf = ({ causes }: FieldErrors): string[] =>
  causes.map(({ field, message }) => `${field}: ${message}`).sort();

function problemsOf(schema: JSONSchemaProps): string[] {
  const errors = new FieldErrors();
  checkSchemaRules(schema, root, errors);
  return textsOf(errors);
}

/** Names of types have a number at upstream; a text may go on with other problems of the same expression. */
const plain = (texts: readonly string[]): string[] =>
  texts.map((text) => text.replace(/selfType\d+/g, 'selfType')).sort();

/** Where we differ, and why. */
const known: Readonly<Record<string, string>> = {
  'format.dns1123Label().validate(self.s10).hasValue()': 'the library of named formats is not there',
  'self.lo.sortBy(x, x.k).size() > 1': 'what is sorted has no name of its own, which is ten steps cheaper',
};
/** Upstream's estimates are kept up to this. */
const estimateMax = 2 ** 63;

describe('validation rules of custom resources, as upstream has them', () => {
  for (const { rule, cost, definition = [] } of facts.rules)
    it(rule, () => {
      const schema = { ...facts.schema, 'x-kubernetes-validations': [{ rule }] };
      const declared = declareType(schema, true, 'selfType');
      assert.ok(declared);
      const [compiled] = compileRules([{ rule }], schema, declared);
      if (known[rule] !== undefined) return;
      if (compiled?.error === undefined && cost !== undefined)
        assert.ok(
          Math.abs(Math.min(compiled?.cost ?? 0, estimateMax) - cost) <= cost * 1e-9,
          `${compiled?.cost} instead of ${cost}`,
        );
      assert.deepEqual(problemsOf(schema), plain(definition));
    });

  for (const [i, { schema, object, old, definition, errors: expected }] of facts.objects.entries())
    it(`object ${i}: ${JSON.stringify(schema.properties?.spec ?? schema).slice(0, 200)}`, async () => {
      assert.deepEqual(problemsOf(schema), plain(definition));
      if (object === undefined) return;
      const errors = new FieldErrors();
      const tree = ruleTree(schema);
      assert.ok(tree);
      await runRules(tree, object, old, { errors, warn: () => undefined, nextTurn: () => Promise.resolve() });
      assert.deepEqual(textsOf(errors), plain(expected ?? []));
    });
});
