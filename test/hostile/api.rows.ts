/** Hostile input of the API server and of the formats it reads. */
import { messageOf } from '#base/thrown.ts';
import { createTestApi, podBody, pods } from '../../src/apiserver/fixture.ts';
import type { Answer, TestApi } from '../../src/apiserver/fixture.ts';
import { scanJson } from '../../src/base/json.ts';
import { jsonPatch } from '../../src/base/patch.ts';
import { compilePattern } from '../../src/base/pattern.ts';
import { parseYaml, parseYamlDocuments } from '../../src/base/yaml.ts';
import { checkObject } from '../../src/schema/check.ts';
import { FieldErrors } from '../../src/schema/field-errors.ts';
import { fromFieldsV1, pathsOfSet } from '../../src/schema/field-sets.ts';
import { decodeMessage } from '../../src/schema/protobuf-decode.ts';
import { strategicMergePatch } from '../../src/schema/strategic-merge.ts';
import { typeOf } from '../../src/schema/types.ts';
import { warningHeader } from '../../src/apiserver/respond.ts';
import type { HostileRow } from './row.ts';

const jane = { name: 'jane', groups: ['system:authenticated'] };
const reviews = '/apis/authentication.k8s.io/v1/selfsubjectreviews';

/** What a function throws, or what it answers. */
function said(run: () => unknown): string {
  try {
    return `accepted: ${String(run()).slice(0, 200)}`;
  } catch (error) {
    return messageOf(error);
  }
}

async function asked(run: (t: TestApi) => Promise<Answer>): Promise<string> {
  await using t = await createTestApi();
  const answer = await run(t);
  return `${answer.status}, ${answer.text.length} bytes: ${answer.body?.message ?? answer.text}`;
}

/** Aliases of aliases, nine times each level. */
function laughs(levels: number): string {
  let text = 'a0: &a0 ["lol","lol","lol","lol","lol","lol","lol","lol","lol"]\n';
  for (let level = 1; level <= levels; level++)
    text += `a${level}: &a${level} [${Array.from({ length: 9 }, () => `*a${level - 1}`).join(',')}]\n`;
  return text;
}

/** A definition with one pattern, and an object with one text. */
async function matched(pattern: string, texts: readonly string[]): Promise<string> {
  return asked(async (t) => {
    const property = { type: 'array', items: { type: 'string', pattern } };
    const version = {
      name: 'v1',
      served: true,
      storage: true,
      schema: { openAPIV3Schema: { type: 'object', properties: { texts: property } } },
    };
    const made = await t.call('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', {
      metadata: { name: 'as.x.io' },
      spec: { group: 'x.io', scope: 'Cluster', names: { plural: 'as', kind: 'A' }, versions: [version] },
    });
    if (made.status !== 201) return made;
    for (let turn = 0; turn < 100; turn++)
      await new Promise<void>((resolve) => {
        setImmediate(resolve);
      });
    return t.call('POST', '/apis/x.io/v1/as', { metadata: { name: 'a' }, texts });
  });
}

const yaml: HostileRow[] = [
  {
    name: 'A YAML document expands its aliases',
    input: 'nine levels of nine aliases, 700 bytes',
    bound: 'src/base/limits.ts#yamlAliasSizeMax',
    run: () => said(() => parseYaml(laughs(9))),
    answer: /^document contains excessive aliasing/,
  },
  {
    name: 'A YAML document repeats a long text by alias',
    input: 'a text of 100 kB and 1,000 aliases',
    bound: 'src/base/limits.ts#yamlAliasSizeMax',
    run: () =>
      said(() => parseYaml(`a: &a ${'x'.repeat(100_000)}\nb: [${Array.from({ length: 1000 }, () => '*a').join(',')}]`)),
    answer: /^document contains excessive aliasing/,
  },
  {
    name: 'Many YAML documents share one bound',
    input: 'two documents of nine levels',
    bound: 'src/base/limits.ts#yamlAliasSizeMax',
    run: () => said(() => parseYamlDocuments(`${laughs(6)}---\n${laughs(6)}`)),
    answer: /^document contains excessive aliasing/,
  },
  {
    name: 'A YAML alias names what it is part of',
    input: '`&a [*a]`',
    bound: 'src/base/limits.ts#yamlDepthMax',
    run: () => said(() => parseYaml('a: &a [*a]')),
    answer: /^nesting exceeded maxDepth/,
  },
  {
    name: 'A YAML document nests',
    input: '10,000 brackets',
    bound: 'src/base/limits.ts#yamlDepthMax',
    run: () => said(() => parseYaml('['.repeat(10_000))),
    answer: /^nesting exceeded maxDepth/,
  },
  {
    name: 'Whoever has a token may send YAML to a review',
    input: 'nine levels of nine aliases',
    bound: 'src/base/limits.ts#yamlAliasSizeMax',
    run: () =>
      asked((t) => t.call('POST', reviews, laughs(9), { user: jane, headers: { 'content-type': 'application/yaml' } })),
    answer: /^400, \d{1,4} bytes: .*excessive aliasing/,
  },
  {
    name: 'Server-side apply reads YAML',
    input: 'nine levels of nine aliases',
    bound: 'src/base/limits.ts#yamlAliasSizeMax',
    run: () =>
      asked((t) =>
        t.call('PATCH', '/api/v1/namespaces/default/configmaps/a?fieldManager=m', laughs(9), {
          headers: { 'content-type': 'application/apply-patch+yaml' },
        }),
      ),
    answer: /^400, \d{1,4} bytes: .*excessive aliasing/,
  },
];

const json: HostileRow[] = [
  {
    name: 'A JSON text nests',
    input: '1,000 brackets',
    bound: 'src/base/limits.ts#jsonDepthMax',
    run: () => said(() => scanJson('['.repeat(1000))),
    answer: /max depth/,
  },
  {
    name: 'A JSON text holds many empty lists',
    input: 'three characters each, 3 MB',
    bound: 'src/base/limits.ts#jsonValuesMax',
    run: () => said(() => scanJson(`[${'[],'.repeat(1_000_000)}[]]`)),
    answer: /more than 150000 values/,
  },
  {
    name: 'An object of a JSON text has many keys',
    input: '100,000 keys',
    bound: 'src/base/limits.ts#jsonObjectKeysMax',
    run: () => said(() => scanJson(`{${Array.from({ length: 100_000 }, (_unused, i) => `"k${i}":1`).join(',')}}`)),
    answer: /more than 10000 keys in one object/,
  },
  {
    name: 'A YAML body has many lines',
    input: '1 MB of `- x`',
    bound: 'src/apiserver/limits.ts#yamlLinesMax',
    run: () =>
      asked((t) =>
        t.call('POST', reviews, '- x\n'.repeat(250_000), {
          user: jane,
          headers: { 'content-type': 'application/yaml' },
        }),
      ),
    answer: /^413, .*more than 50000 lines/,
  },
  {
    name: 'A message shows a large list',
    input: '40,000 owners, each a controller',
    bound: 'src/schema/limits.ts#shownValueCharsMax',
    run: () => {
      const errors = new FieldErrors();
      errors.invalid(
        'a',
        Array.from({ length: 40_000 }, (_unused, i) => ({ name: `n${i}` })),
        'wrong',
      );
      return `${errors.causes[0]!.message!.length} characters`;
    },
    answer: /^4\d{3} characters$/,
  },
  {
    name: 'Doubled keys are named with their paths',
    input: 'a key of 100 kB above 1,000 doubled keys',
    bound: 'src/base/limits.ts#jsonDuplicatesMax',
    run: () => {
      const { duplicates } = scanJson(
        `{"${'k'.repeat(100_000)}":{${Array.from({ length: 1000 }, () => '"a":1').join(',')}}}`,
      );
      return `${duplicates.length} of ${duplicates.join('').length} characters`;
    },
    answer: /^100 of 10\d{4} characters$/,
  },
  {
    name: 'An integer has many digits',
    input: '1 MB of digits',
    bound: 'src/base/limits.ts#integerDigitsMax',
    run: () => said(() => scanJson('1'.repeat(1_000_000))),
    answer: /cannot be kept exactly/,
  },
  {
    name: 'A JSON Patch copies what it copied',
    input: '30 operations, 1.4 kB',
    bound: 'src/base/limits.ts#patchCopyBytesMax',
    run: () =>
      said(() =>
        jsonPatch(
          { a: 'x'.repeat(100) },
          Array.from({ length: 30 }, (_unused, i) => ({ op: 'copy', from: '', path: `/c${i}` })),
        ),
      ),
    answer: /accumulated size increase of copy is \d{7,}, exceeding the limit/,
  },
  {
    name: 'A JSON Patch has many operations',
    input: '10,001 operations',
    bound: 'src/base/limits.ts#patchOperationsMax',
    run: () =>
      said(() =>
        jsonPatch(
          {},
          Array.from({ length: 10_001 }, () => ({ op: 'remove', path: '/a' })),
        ),
      ),
    answer: /allowed maximum operations/,
  },
  {
    name: 'A JSON Patch inserts at the front of a long list',
    input: '5,000 insertions before 100,000 items',
    bound: 'src/base/limits.ts#patchMovedItemsMax',
    run: () =>
      said(() =>
        jsonPatch(
          Array.from({ length: 100_000 }, () => 1),
          Array.from({ length: 5000 }, () => ({ op: 'add', path: '/0', value: 1 })),
        ),
      ),
    answer: /move more than 20000000 list items/,
  },
  {
    name: 'An answer names what is wrong',
    input: '200,000 wrong labels',
    bound: 'src/schema/limits.ts#fieldErrorsMax',
    run: () => {
      const errors = new FieldErrors();
      for (let i = 0; i < 200_000; i++) errors.invalid(`metadata.labels[${i}]`, 'x'.repeat(500), 'wrong');
      return `${errors.causes.length} errors, ${JSON.stringify(errors.causes).length} bytes`;
    },
    answer: /^\d{1,3} errors, 1\d{5} bytes$/,
  },
  {
    name: 'A message shows the wrong value',
    input: 'a text of 1 MB',
    bound: 'src/schema/limits.ts#shownValueCharsMax',
    run: () => {
      const errors = new FieldErrors();
      errors.invalid('a', 'x'.repeat(1_000_000), 'wrong');
      return `${errors.causes[0]!.message!.length} characters`;
    },
    answer: /^4\d{3} characters$/,
  },
  {
    name: 'Fields that nobody declared are named with their paths',
    input: '50,000 fields',
    bound: 'src/schema/limits.ts#unknownFieldsMax',
    run: () => {
      const pod: Record<string, unknown> = Object.fromEntries(
        Array.from({ length: 50_000 }, (_unused, i) => [`f${i}`, 1]),
      );
      return `${checkObject(pod, typeOf('core.v1/Pod')).unknown.length} named, ${Object.keys(pod).length} kept`;
    },
    answer: /^100 named, 0 kept$/,
  },
  {
    name: 'Warnings go into one header',
    input: '10,000 warnings of 1 kB',
    bound: 'src/apiserver/limits.ts#warningsCharsMax',
    run: () =>
      `${warningHeader(Array.from({ length: 10_000 }, (_unused, i) => `${i} ${'x'.repeat(1000)}`)).length} characters`,
    answer: /^4\d{3} characters$/,
  },
];

const patterns: HostileRow[] = [
  {
    name: 'A pattern of a definition backtracks',
    input: '`^(a+)+$` and 40 characters',
    bound: 'src/base/limits.ts#patternStepsMax',
    run: () => matched('^(a+)+$', [`${'a'.repeat(40)}!`]),
    answer: /^422, .*should match '\^\(a\+\)\+\$'/,
  },
  {
    name: 'A pattern of a definition is in RE2',
    input: '`(?i)^[[:digit:]]+X$`',
    bound: 'src/base/limits.ts#patternStepsMax',
    run: () => matched('(?i)^[[:digit:]]+X$', ['12x']),
    answer: /^201/,
  },
  {
    name: 'A pattern of a definition is no RE2',
    input: 'a look-ahead',
    bound: 'src/base/limits.ts#patternCharsMax',
    run: () => matched('^(?=a)', ['a']),
    answer: /^422, .*must be a valid regular expression/,
  },
  {
    name: 'Patterns and texts multiply',
    input: 'a pattern of 1,000 instructions, 500 texts of 1 kB',
    bound: 'src/base/limits.ts#patternStepsMax',
    run: () =>
      matched(
        'a{1000}$',
        Array.from({ length: 500 }, () => 'a'.repeat(1000)),
      ),
    answer: /^422, .*more than 40000000 steps/,
  },
  {
    name: 'A pattern is long',
    input: '1 MB',
    bound: 'src/base/limits.ts#patternCharsMax',
    run: () => said(() => compilePattern('a'.repeat(1_000_000))),
    answer: /expression too large: more than 16384 characters/,
  },
  {
    name: 'A pattern repeats what it repeats',
    input: '`(\\pL{100}){10}` 50 times',
    bound: 'src/base/limits.ts#patternInstructionsMax',
    run: () => said(() => compilePattern('(?:[a-z]{100}){10}'.repeat(50))),
    answer: /expression too large/,
  },
  {
    name: 'Alternatives of a schema multiply with items',
    input: '300 alternatives, 10,000 items',
    bound: 'src/schema/limits.ts#schemaStepsMax',
    run: () =>
      asked(async (t) => {
        const items = {
          type: 'object',
          'x-kubernetes-preserve-unknown-fields': true,
          not: { anyOf: Array.from({ length: 300 }, (_unused, i) => ({ required: [`a${i}`] })) },
        };
        const version = {
          name: 'v1',
          served: true,
          storage: true,
          schema: { openAPIV3Schema: { type: 'object', properties: { list: { type: 'array', items } } } },
        };
        await t.make('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', {
          metadata: { name: 'as.x.io' },
          spec: { group: 'x.io', scope: 'Cluster', names: { plural: 'as', kind: 'A' }, versions: [version] },
        });
        for (let turn = 0; turn < 100; turn++)
          await new Promise<void>((resolve) => {
            setImmediate(resolve);
          });
        return t.call('POST', '/apis/x.io/v1/as', {
          metadata: { name: 'a' },
          list: Array.from({ length: 10_000 }, () => ({})),
        });
      }),
    answer: /^422, .*costs more than 2000000 steps/,
  },
];

const others: HostileRow[] = [
  {
    name: 'A protobuf body holds many empty messages',
    input: 'two bytes each, 1 MB',
    bound: 'src/schema/limits.ts#protobufItemsMax',
    run: () => said(() => decodeMessage(typeOf('core.v1/PodSpec'), Buffer.from('1200'.repeat(500_000), 'hex'))),
    answer: /more than 100000 messages/,
  },
  {
    name: 'Paths of a field set repeat what is above them',
    input: '300 levels above 2,000 fields',
    bound: 'src/schema/limits.ts#setPathsMax',
    run: () => {
      let fields: Record<string, unknown> = Object.fromEntries(
        Array.from({ length: 2000 }, (_unused, i) => [`f:x${i}`, {}]),
      );
      for (let level = 0; level < 300; level++) fields = { [`f:${'k'.repeat(100)}`]: fields };
      const paths = pathsOfSet(fromFieldsV1(fields));
      return `${paths.length} paths, longest ${Math.max(...paths.map((p) => p.length))}`;
    },
    answer: /^500 paths, longest 4\d{3}$/,
  },
  {
    name: 'A field set that a client sends is no field set',
    input: '`k:nothing`',
    bound: 'src/schema/limits.ts#setPathsMax',
    run: () =>
      asked(async (t) => {
        await t.make(pods, podBody('a'));
        return t.call(
          'PATCH',
          `${pods}/a`,
          {
            metadata: {
              labels: { a: 'b' },
              managedFields: [
                {
                  manager: 'm',
                  operation: 'Apply',
                  apiVersion: 'v1',
                  fieldsType: 'FieldsV1',
                  fieldsV1: { 'f:spec': { 'f:containers': { 'k:nothing': {} } } },
                },
              ],
            },
          },
          { headers: { 'content-type': 'application/merge-patch+json' } },
        );
      }),
    answer: /^200/,
  },
  {
    name: 'A strategic merge patch finds each item once',
    input: '50,000 items into 50,000',
    bound: 'src/base/limits.ts#jsonValuesMax',
    run: () => {
      const env = (from: number): unknown[] =>
        Array.from({ length: 50_000 }, (_unused, i) => ({ name: `v${from + i}` }));
      const out = strategicMergePatch({ env: env(0) }, { env: env(25_000) }, typeOf('core.v1/Container')) as {
        env: unknown[];
      };
      return `${out.env.length} items`;
    },
    answer: /^75000 items$/,
  },
  {
    name: 'Requests are counted by what is served',
    input: '1,000 paths and methods of a stranger',
    bound: 'src/apiserver/limits.ts#requestsInFlightMax',
    run: async () => {
      await using t = await createTestApi();
      for (let i = 0; i < 1000; i++) await t.call(`M${i}`, `/api/v1/resource${i}`, undefined, { user: jane });
      const seen = [...t.api.server.requests.total.series()].length;
      return seen < 20 ? 'few counters' : `${seen} counters`;
    },
    answer: /^few counters$/,
  },
];

const kept: HostileRow[] = [
  {
    name: 'Old values are kept for watches',
    input: 'a ConfigMap of 1 MB, written 100 times within a second',
    bound: 'src/apiserver/limits.ts#historyBytesMax',
    run: async () => {
      await using t = await createTestApi();
      const path = '/api/v1/namespaces/default/configmaps';
      await t.make(path, { metadata: { name: 'a' }, data: { a: 'x' } });
      for (let i = 0; i < 100; i++)
        await t.call('PUT', `${path}/a`, { metadata: { name: 'a' }, data: { a: String(i % 10).repeat(1_000_000) } });
      return t.api.server.store.historyBytes() <= 66 * 1024 * 1024
        ? 'within the bound'
        : `${t.api.server.store.historyBytes()} bytes`;
    },
    answer: /^within the bound$/,
  },
];

export const rows: HostileRow[] = [...yaml, ...json, ...patterns, ...others, ...kept];
