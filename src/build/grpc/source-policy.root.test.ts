/** Source policies, through the front end and alone. */
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import assert from 'node:assert/strict';
import type { SourceOp } from '../llb/vertex.ts';
import { readSourcePolicy } from './source-policy.ts';
import { dockerfile, makeBench } from './testing.ts';

type Rule = [action: number, identifier: string, type: number, updates?: object | undefined, constraints?: object[]];

const [allow, deny, convert] = [0, 1, 2];
const [wildcard, exact, regex] = [0, 1, 2];

function policyOf(...rules: Rule[]): object {
  return {
    version: 1,
    rules: rules.map(([action, identifier, match_type, updates = null, constraints = []]) => ({
      action,
      selector: { identifier, match_type, constraints },
      updates,
    })),
  };
}

function source(identifier: string, attributes: Record<string, string> = {}): SourceOp {
  return { kind: 'source', identifier, attributes };
}

function take(policy: object, op: SourceOp): string {
  const { identifier, attributes } = readSourcePolicy({ ...policy })!(op);
  return [identifier, ...Object.entries(attributes).map((each) => each.join('='))].join(' ');
}

test('the last rule that matches and allows or denies decides', () => {
  const all: Rule = [deny, '*', wildcard];
  const own: Rule = [allow, 'docker-image://own/*', wildcard];
  assert.equal(take(policyOf(all, own), source('docker-image://own/a')), 'docker-image://own/a');
  assert.throws(() => take(policyOf(own, all), source('docker-image://own/a')), {
    message: 'source "docker-image://own/a" denied by policy',
  });
  assert.throws(() => take(policyOf(all, own), source('docker-image://other/own/a')), /denied by policy/);
  assert.equal(take(policyOf([deny, 'a.c', exact]), source('abc')), 'abc');
  assert.throws(() => take(policyOf([deny, 'a.c', regex]), source('xabcx')), /denied/);
});

test('what a rule converts has the groups of its pattern, and is looked at again', () => {
  const tag: Rule = [convert, 'docker-image://a:*', wildcard, { identifier: 'docker-image://b:${1}-$1$$x', attrs: {} }];
  assert.equal(take(policyOf(tag), source('docker-image://a:1')), 'docker-image://b:1-1$x');
  const named: Rule = [convert, '^http://(?P<host>[a-z]+)/', regex, { identifier: 'https://in/${host}/', attrs: {} }];
  assert.equal(take(policyOf(named), source('http://x/y')), 'https://in/x/y');
  assert.throws(
    () => take(policyOf(tag, [deny, 'docker-image://b:*', wildcard]), source('docker-image://a:1')),
    /denied/,
  );
  const checksum: Rule = [convert, 'https://x', exact, { identifier: '', attrs: { 'http.checksum': 'sha256:1' } }];
  assert.equal(take(policyOf(checksum), source('https://x')), 'https://x http.checksum=sha256:1');
  const longer: Rule = [convert, 'a*', wildcard, { identifier: 'aa$1', attrs: {} }];
  assert.throws(() => take(policyOf(longer), source('a')), /too many mutations on a single source/);
});

test('attributes decide, too, and what is no policy is refused', () => {
  const when = (condition: number): object =>
    policyOf([deny, 'x', exact, undefined, [{ key: 'k', value: '^v$', condition }]]);
  const op = source('x', { k: 'v' });
  assert.equal(take(when(0), op), 'x k=v');
  assert.throws(() => take(when(1), op), /denied/);
  assert.throws(() => take(when(2), op), /denied/);
  assert.throws(() => take(policyOf([convert, 'x', exact]), op), /missing destination for convert rule/);
  assert.throws(() => take(policyOf([deny, 'a**b', wildcard]), op), /invalid wildcard/);
  assert.throws(() => take(policyOf([deny, '(', regex]), op), /error matching source policy: error parsing regexp/);
  assert.throws(() =>
    readSourcePolicy(policyOf(...Array.from({ length: 1001 }, (): Rule => [deny, 'x', exact])) as never),
  );
  assert.equal(readSourcePolicy({ rules: [] }), undefined);
});

test('a build takes what the policy says, and fails by its name where that is nothing', async (t) => {
  const bench = await makeBench(t, { files: dockerfile('FROM nowhere\nCOPY empty /x\n') });
  const nowhere = 'docker-image://docker.io/library/nowhere:latest';
  const other = policyOf([
    convert,
    nowhere,
    exact,
    { identifier: 'docker-image://docker.io/library/base:latest', attrs: {} },
  ]);
  const exporters = [{ Type: 'moby', Attrs: { name: 'made' } }];
  await bench.build({}, { SourcePolicy: other, Exporters: exporters });
  assert.equal(bench.records.find('made')!.layers[0]!.digest, bench.records.find('base')!.layers[0]!.digest);
  await assert.rejects(bench.build({}, { SourcePolicy: policyOf([deny, 'docker-image://*', wildcard]) }), {
    message:
      /nowhere: could not resolve image due to policy: source "docker-image:\/\/docker.io\/library\/nowhere:latest" denied by policy/,
  });
  await assert.rejects(
    bench.build(
      {},
      {
        SourcePolicy: policyOf(
          [convert, nowhere, exact, { identifier: 'docker-image://base', attrs: {} }],
          [deny, 'local://context', exact],
        ),
      },
    ),
    /source "local:\/\/context" denied by policy/,
  );
  // An image by name may become a directory of the client, as long as that ends.
  const local = policyOf([convert, nowhere, exact, { identifier: 'local://context', attrs: {} }]);
  const named = { 'context:nowhere': 'docker-image://nowhere' };
  await bench.build(named, { SourcePolicy: local, Exporters: exporters });
  await bench.read(bench.records.find('made')!.layers, (root) =>
    assert.deepEqual(readdirSync(root).sort(), ['.dockerignore', 'd', 'empty', 'link', 'x']),
  );
  await assert.rejects(bench.solve({ Ref: 'a', SourcePolicySession: 's' }), /not asked yet/);
});
