import assert from 'node:assert/strict';
import { it } from 'node:test';
import { compile } from '#cel/program.ts';
import { toJson } from '#cel/json-values.ts';
import { expressionFunctions } from './format-library.ts';

const environment = { variables: new Map(), functions: expressionFunctions };

/** What upstream's library (Kubernetes 1.37) makes of the same. */
const cases: [expression: string, value: unknown][] = [
  ["format.dns1123Label().validate('a-b').hasValue()", false],
  ["format.dns1123LabelPrefix().validate('a-').hasValue()", false],
  ["format.dns1035Label().validate('1a').hasValue()", true],
  ["format.qualifiedName().validate('a/b/c').hasValue()", true],
  ["format.labelValue().validate('-x').hasValue()", true],
  ["format.uri().validate('https://x/y').hasValue()", false],
  ["format.uri().validate('x y').hasValue()", true],
  ["format.uuid().validate('123').value()", ['does not match the UUID format']],
  ["format.uuid().validate('123e4567-e89b-12d3-a456-426614174000').hasValue()", false],
  ["format.byte().validate('YWI=').hasValue()", false],
  ["format.byte().validate('Y').value()", ['invalid base64']],
  ["format.date().validate('2024-02-30').hasValue()", true],
  ["format.date().validate('2024-02-29').hasValue()", false],
  ["format.datetime().validate('2024-02-29T00:00:00Z').hasValue()", false],
  ["format.datetime().validate('nope').value()", ['invalid datetime']],
  ["format.named('dns1123Label').hasValue()", true],
  ["format.named('nope').hasValue()", false],
  ["format.dns1123Label() == format.named('dns1123Label').value()", true],
];

it('forms of texts are checked in expressions as the API checks them', () => {
  for (const [expression, value] of cases)
    assert.deepEqual(toJson(compile(expression, environment).evaluateNow({ variables: {} }).value), value, expression);
});
