/** Admission policies and match conditions, as clients meet them. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import { kinds } from '#base/kinds.ts';
import { createTestApi, podBody, pods } from './fixture.ts';
import type { TestApi } from './fixture.ts';
import { internalContext } from './internal.ts';
import { createObject } from './write-path.ts';

const withApi = (run: (t: TestApi) => Promise<void>) => async (): Promise<void> => {
  await using t = await createTestApi();
  await run(t);
};
const registration = '/apis/admissionregistration.k8s.io/v1';
const configMaps = '/api/v1/namespaces/default/configmaps';
const jane = { user: { name: 'jane', groups: ['system:authenticated', 'system:masters'] } };
const rules = (resource = 'configmaps', operations = ['CREATE', 'UPDATE']): TestJson => ({
  resourceRules: [{ apiGroups: [''], apiVersions: ['v1'], operations, resources: [resource] }],
});

async function validate(t: TestApi, spec: TestJson, binding: TestJson = {}, name = 'policy'): Promise<void> {
  await t.make(`${registration}/validatingadmissionpolicies`, {
    metadata: { name },
    spec: { matchConstraints: rules(), ...spec },
  });
  await t.make(`${registration}/validatingadmissionpolicybindings`, {
    metadata: { name: 'binding' },
    spec: { policyName: name, validationActions: ['Deny'], ...binding },
  });
}
const configMap = (data: TestJson, name = 'c', labels: TestJson = {}): TestJson => ({
  metadata: { name, labels },
  data,
});

describe('a ValidatingAdmissionPolicy', () => {
  it(
    'denies what its expressions do not hold for, with its words',
    withApi(async (t) => {
      await validate(t, {
        variables: [
          { name: 'keys', expression: 'has(object.data) ? object.data.map(k, k) : []' },
          { name: 'count', expression: 'variables.keys.size()' },
        ],
        validations: [
          { expression: 'variables.count < 2', messageExpression: "'too many keys: ' + string(variables.count)" },
          { expression: "namespaceObject.metadata.name == 'default' && request.userInfo.username != 'joe'" },
          { expression: "!object.metadata.name.startsWith('x')", message: 'no x', reason: 'Forbidden' },
        ],
      });
      assert.equal((await t.call('POST', configMaps, configMap({ a: '1' }))).status, 201);
      const many = await t.call('POST', configMaps, configMap({ a: '1', b: '2' }, 'd'));
      assert.equal(many.status, 422);
      assert.equal(many.body.reason, 'Invalid');
      assert.equal(
        many.body.message,
        `configmaps "d" is forbidden: ValidatingAdmissionPolicy 'policy' with binding 'binding' denied request: too many keys: 2`,
      );
      const named = await t.call('POST', configMaps, configMap({}, 'x1'));
      assert.equal(named.status, 403);
      assert.match(named.body.message, /denied request: no x$/);
      assert.equal((await t.call('POST', pods, podBody('x2'))).status, 201, 'Pods are none of its business');
      assert.equal((await t.call('DELETE', `${configMaps}/c`)).status, 200);
    }),
  );

  it(
    'does nothing without a binding, and warns where that says so',
    withApi(async (t) => {
      await validate(t, { validations: [{ expression: 'false' }] }, { validationActions: ['Warn', 'Audit'] });
      const made = await t.call('POST', configMaps, configMap({}));
      assert.equal(made.status, 201);
      assert.match(
        JSON.stringify(made.headers),
        /Validation failed for ValidatingAdmissionPolicy 'policy'.*failed expression: false/,
      );
      await t.call('DELETE', `${registration}/validatingadmissionpolicybindings/binding`);
      const silent = await t.call('POST', configMaps, configMap({}, 'd'));
      assert.doesNotMatch(JSON.stringify(silent.headers), /Validation failed/);
    }),
  );

  it(
    'looks at what its rules, names, selectors and conditions choose',
    withApi(async (t) => {
      const [rule] = rules().resourceRules;
      await validate(
        t,
        {
          matchConstraints: {
            resourceRules: [rule],
            excludeResourceRules: [{ ...rule, resourceNames: ['free'] }],
            objectSelector: { matchLabels: { watched: 'yes' } },
          },
          matchConditions: [{ name: 'by-name', expression: "object.metadata.name != 'skipped'" }],
          validations: [{ expression: 'false' }],
        },
        { matchResources: { namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'default' } } } },
      );
      await t.make('/api/v1/namespaces', { metadata: { name: 'other' } });
      const labels = { watched: 'yes' };
      const status = async (body: TestJson, path = configMaps): Promise<number> =>
        (await t.call('POST', path, body)).status;
      assert.equal(await status(configMap({}, 'a', labels)), 422);
      assert.equal(await status(configMap({}, 'a')), 201);
      assert.equal(await status(configMap({}, 'free', labels)), 201);
      assert.equal(await status(configMap({}, 'skipped', labels)), 201);
      assert.equal(await status(configMap({}, 'a', labels), '/api/v1/namespaces/other/configmaps'), 201);
    }),
  );

  it(
    'judges by each of its parameters, and fails closed without them',
    withApi(async (t) => {
      const paramRef = {
        namespace: 'default',
        selector: { matchLabels: { limits: 'yes' } },
        parameterNotFoundAction: 'Deny',
      };
      await validate(
        t,
        {
          matchConstraints: rules('secrets'),
          paramKind: { apiVersion: 'v1', kind: 'ConfigMap' },
          validations: [
            {
              expression: 'object.data.size() <= int(params.data.max)',
              messageExpression: "'at most ' + params.data.max + ' by ' + params.metadata.name",
            },
          ],
        },
        { paramRef },
      );
      const secrets = '/api/v1/namespaces/default/secrets';
      const secret = (name: string): TestJson => ({ metadata: { name }, data: { a: 'YQ==', b: 'Yg==' } });
      const none = await t.call('POST', secrets, secret('s'));
      assert.match(none.body.message, /failed to configure binding: no params found/);
      await t.make(configMaps, configMap({ max: '5' }, 'wide', { limits: 'yes' }));
      assert.equal((await t.call('POST', secrets, secret('s'))).status, 201);
      await t.make(configMaps, configMap({ max: '1' }, 'narrow', { limits: 'yes' }));
      assert.match((await t.call('POST', secrets, secret('t'))).body.message, /at most 1 by narrow/);
    }),
  );

  it(
    'finds its parameters behind any number of other objects, and fails closed where there are too many',
    withApi(async (t) => {
      const paramRef = {
        namespace: 'default',
        selector: { matchLabels: { limits: 'yes' } },
        parameterNotFoundAction: 'Allow',
      };
      await validate(
        t,
        {
          matchConstraints: rules('secrets'),
          paramKind: { apiVersion: 'v1', kind: 'ConfigMap' },
          validations: [{ expression: "params.metadata.name != 'z'", message: 'found' }],
        },
        { paramRef },
      );
      const secrets = '/api/v1/namespaces/default/secrets';
      await t.make(configMaps, configMap({}, 'z', { limits: 'yes' }));
      for (let i = 0; i < 1_000; i++) await t.make(configMaps, configMap({}, `a-${i}`));
      assert.match((await t.call('POST', secrets, { metadata: { name: 's' } })).body.message, /denied request: found$/);
      for (let i = 0; i < 1_000; i++) await t.make(configMaps, configMap({}, `b-${i}`, { limits: 'yes' }));
      assert.match((await t.call('POST', secrets, { metadata: { name: 's' } })).body.message, /more than 1000 params/);
    }),
  );

  it(
    'treats its errors as its failure policy says',
    withApi(async (t) => {
      const broken = { validations: [{ expression: 'object.data.missing == "x"' }] };
      await validate(t, broken);
      const closed = await t.call('POST', configMaps, configMap({ a: '1' }));
      assert.match(
        closed.body.message,
        /expression 'object.data.missing == "x"' resulted in error: no such key: missing/,
      );
      const path = `${registration}/validatingadmissionpolicies/policy`;
      const policy = (await t.call('GET', path)).body;
      assert.equal(policy.metadata.generation, 1);
      await t.call('PUT', path, { ...policy, spec: { ...policy.spec, failurePolicy: 'Ignore' } });
      assert.equal((await t.call('POST', configMaps, configMap({ a: '1' }))).status, 201);
    }),
  );

  it(
    'may ask whether somebody may do something',
    withApi(async (t) => {
      await validate(t, {
        validations: [
          { expression: "authorizer.group('').resource('secrets').namespace('default').check('delete').allowed()" },
          { expression: "authorizer.requestResource.check('create').allowed()" },
          { expression: "!authorizer.serviceAccount('default', 'default').path('/metrics').check('get').allowed()" },
        ],
      });
      assert.equal((await t.call('POST', configMaps, configMap({}), jane)).status, 201);
      const rbac = '/apis/rbac.authorization.k8s.io/v1';
      await t.make(`${rbac}/clusterroles`, {
        metadata: { name: 'maker' },
        rules: [{ apiGroups: [''], resources: ['configmaps'], verbs: ['create'] }],
      });
      await t.make(`${rbac}/clusterrolebindings`, {
        metadata: { name: 'maker' },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'maker' },
        subjects: [{ kind: 'User', apiGroup: 'rbac.authorization.k8s.io', name: 'joe' }],
      });
      const joe = { user: { name: 'joe', groups: ['system:authenticated'] } };
      assert.match(
        (await t.call('POST', configMaps, configMap({}, 'd'), joe)).body.message,
        /failed expression: authorizer.group/,
      );
    }),
  );

  it(
    'that is wrong is refused, with the compiler’s words',
    withApi(async (t) => {
      const cases: [TestJson, RegExp][] = [
        [
          { validations: [{ expression: 'objekt.x' }] },
          /spec.validations\[0\].expression: Invalid value: "objekt.x": compilation failed: ERROR: <input>:1:1: undeclared reference to 'objekt'/,
        ],
        [{ validations: [{ expression: 'object.x' }] }, /must evaluate to bool but got dyn/],
        [{ validations: [{ expression: '1' }] }, /must evaluate to bool but got int/],
        [{ validations: [{ expression: 'params == null' }] }, /undeclared reference to 'params'/],
        [{ validations: [{ expression: 'request.nope == 1' }] }, /undefined field 'nope'/],
        [
          { validations: [{ expression: 'true', messageExpression: '1' }] },
          /messageExpression: Invalid value: "1": must evaluate to string but got int/,
        ],
        [
          { validations: [{ expression: 'true', reason: 'Because' }] },
          /spec.validations\[0\].reason: Unsupported value/,
        ],
        [
          { validations: [{ expression: ' ' }] },
          /spec.validations\[0\].expression: Required value: expression is not specified/,
        ],
        [{ validations: [] }, /must contain at least one item/],
        [
          { validations: [{ expression: 'true' }], matchConstraints: {} },
          /spec.matchConstraints.resourceRules: Required value/,
        ],
        [
          { validations: [{ expression: 'true' }], variables: [{ name: 'a-b', expression: '1' }] },
          /must be a valid CEL identifier/,
        ],
        [
          { validations: [{ expression: 'variables.b' }], variables: [{ name: 'a', expression: 'true' }] },
          /undefined field 'b'/,
        ],
      ];
      for (const [spec, words] of cases) {
        const body = { metadata: { name: 'p' }, spec: { matchConstraints: rules(), ...spec } };
        const { status, body: answer } = await t.call('POST', `${registration}/validatingadmissionpolicies`, body);
        assert.equal(status, 422, JSON.stringify(answer));
        assert.match(answer.message, words);
      }
      const binding = await t.call('POST', `${registration}/validatingadmissionpolicybindings`, {
        metadata: { name: 'b' },
        spec: { policyName: 'p', validationActions: ['Deny', 'Warn'] },
      });
      assert.match(binding.body.message, /must not contain both Deny and Warn/);
    }),
  );

  it(
    'tells in its status what cannot be right for the kinds it names',
    withApi(async (t) => {
      const deployments = { apiGroups: ['apps'], apiVersions: ['v1'], operations: ['*'], resources: ['deployments'] };
      const checked = async (name: string, expression: string): Promise<TestJson> => {
        await t.make(`${registration}/validatingadmissionpolicies`, {
          metadata: { name },
          spec: {
            matchConstraints: { resourceRules: [deployments] },
            variables: [{ name: 'wanted', expression: 'object.spec.replicas' }],
            validations: [{ expression, messageExpression: "'wants more than ' + object.metadata.name" }],
          },
        });
        const path = `${registration}/validatingadmissionpolicies/${name}`;
        for (;;) {
          const { status } = (await t.call('GET', path)).body;
          if (status?.observedGeneration === 1) return status.typeChecking;
          await new Promise((resolve) => setImmediate(resolve));
        }
      };
      assert.deepEqual(await checked('right', 'variables.wanted > 1 && object.spec.paused != true'), {});
      const { expressionWarnings } = await checked('wrong', "variables.wanted > '1' || object.spec.nope");
      assert.equal(expressionWarnings.length, 1);
      assert.equal(expressionWarnings[0].fieldRef, 'spec.validations[0].expression');
      assert.match(expressionWarnings[0].warning, /^apps\/v1, Kind=Deployment: ERROR: <input>:1:18: found no matching/);
      assert.match(expressionWarnings[0].warning, /'_>_' applied to '\(int, string\)'[^]*undefined field 'nope'/);
    }),
  );

  it(
    'never stands in the way of its own removal',
    withApi(async (t) => {
      const all = { apiGroups: ['*'], apiVersions: ['*'], operations: ['*'], resources: ['*'] };
      await validate(t, { matchConstraints: { resourceRules: [all] }, validations: [{ expression: 'false' }] });
      assert.equal((await t.call('POST', configMaps, configMap({}))).status, 422);
      assert.equal((await t.call('DELETE', `${registration}/validatingadmissionpolicies/policy`)).status, 200);
      assert.equal((await t.call('POST', configMaps, configMap({}))).status, 201);
    }),
  );
});

async function mutate(t: TestApi, spec: TestJson, name = 'policy'): Promise<void> {
  await t.make(`${registration}/mutatingadmissionpolicies`, {
    metadata: { name },
    spec: { matchConstraints: rules(), reinvocationPolicy: 'Never', ...spec },
  });
  await t.make(`${registration}/mutatingadmissionpolicybindings`, { metadata: { name }, spec: { policyName: name } });
}
const applied = (expression: string): TestJson => ({
  mutations: [{ patchType: 'ApplyConfiguration', applyConfiguration: { expression } }],
});

describe('a MutatingAdmissionPolicy', () => {
  it(
    'merges what its expression makes, as apply does',
    withApi(async (t) => {
      await mutate(t, {
        matchConstraints: rules('pods', ['CREATE']),
        ...applied(
          `Object{metadata: Object.metadata{labels: {"by": "policy"}}, spec: Object.spec{initContainers: [Object.spec.initContainers{name: "mesh", image: object.spec.containers[0].image}]}}`,
        ),
      });
      const made = await t.make(pods, podBody('p', { spec: { initContainers: [{ name: 'own', image: 'i' }] } }));
      assert.equal(made.metadata.labels.by, 'policy');
      assert.deepEqual(
        made.spec.initContainers.map((container: TestJson) => container.name),
        ['own', 'mesh'],
      );
      assert.equal(made.spec.initContainers[1].terminationMessagePath, '/dev/termination-log', 'it has its defaults');
    }),
  );

  it(
    'applies a JSON Patch, and sees what the one before it made',
    withApi(async (t) => {
      await mutate(t, applied('Object{data: {"first": "1"}}'), 'a');
      const expression = `[
        JSONPatch{op: "test", path: "/data/first", value: "1"},
        JSONPatch{op: "add", path: "/metadata/annotations", value: {}},
        JSONPatch{op: "add", path: "/metadata/annotations/" + jsonpatch.escapeKey("a/b"), value: object.data.first + "2"}
      ]`;
      await mutate(t, { mutations: [{ patchType: 'JSONPatch', jsonPatch: { expression } }] }, 'b');
      const made = await t.make(configMaps, configMap({ own: 'x' }));
      assert.deepEqual(made.data, { own: 'x', first: '1' });
      assert.deepEqual(made.metadata.annotations, { 'a/b': '12' });
    }),
  );

  it(
    'is refused, or refuses, where its expression makes no object of the kind',
    withApi(async (t) => {
      const wrong = await t.call('POST', `${registration}/mutatingadmissionpolicies`, {
        metadata: { name: 'p' },
        spec: { matchConstraints: rules('configmaps', ['DELETE']), reinvocationPolicy: 'Never', ...applied('1') },
      });
      assert.match(wrong.body.message, /must evaluate to Object but got int/);
      assert.match(
        wrong.body.message,
        /Unsupported value: "DELETE": supported values: "\*", "CONNECT", "CREATE", "UPDATE"/,
      );
      await mutate(t, applied('Object{data: Object.spec{a: "1"}}'));
      const refused = await t.call('POST', configMaps, configMap({}));
      assert.equal(refused.status, 422);
      assert.match(refused.body.message, /unexpected type name "Object.spec", expected "Object.data"/);
    }),
  );

  it(
    'changes neither kind, place nor identity of an object',
    withApi(async (t) => {
      const replace = async (path: string, value: string): Promise<TestJson> => {
        const expression = `[JSONPatch{op: "add", path: "${path}", value: "${value}"}]`;
        await mutate(t, { mutations: [{ patchType: 'JSONPatch', jsonPatch: { expression } }] });
        const { status, body } = await t.call('POST', configMaps, configMap({}, 'made'));
        for (const kind of ['mutatingadmissionpolicybindings', 'mutatingadmissionpolicies'])
          await t.call('DELETE', `${registration}/${kind}/policy`);
        return { status, body };
      };
      const elsewhere = await replace('/metadata/namespace', 'kube-system');
      assert.equal(elsewhere.status, 400);
      assert.match(elsewhere.body.message, /does not match the namespace sent on the request/);
      const other = await replace('/kind', 'Pod');
      assert.equal(other.status, 422);
      assert.match(other.body.message, /must not make v1, Kind=Pod of it/);
      const { status, body } = await replace('/metadata/uid', 'chosen');
      assert.equal(status, 201);
      assert.notEqual(body.metadata.uid, 'chosen');
    }),
  );

  it(
    'never keeps the server from writing what it needs itself, nor does another policy or a webhook',
    withApi(async (t) => {
      const everything = { resourceRules: [{ ...rules().resourceRules[0], resources: ['*/*'] }] };
      await validate(t, { matchConstraints: everything, validations: [{ expression: 'false' }] });
      const expression = '[JSONPatch{op: "replace", path: "/spec", value: 5}]';
      const mutations = [{ patchType: 'JSONPatch', jsonPatch: { expression } }];
      await mutate(t, { matchConstraints: everything, mutations });
      for (const kind of ['mutatingwebhookconfigurations', 'validatingwebhookconfigurations'])
        await t.make(`${registration}/${kind}`, {
          metadata: { name: 'w' },
          webhooks: [
            {
              name: 'w.example.com',
              admissionReviewVersions: ['v1'],
              sideEffects: 'None',
              clientConfig: { url: 'https://127.0.0.1:1/' },
              rules: everything.resourceRules,
            },
          ],
        });
      const { server } = t.api;
      const write = (name: string): Promise<unknown> =>
        createObject(internalContext(server, server.kinds.builtIn(kinds.ConfigMap), { namespace: 'default' }), () => ({
          apiVersion: 'v1',
          kind: 'ConfigMap',
          metadata: { name, namespace: 'default' },
        }));
      await write('own');
      assert.equal((await t.call('GET', `${configMaps}/own`)).status, 200);
      assert.equal((await t.call('POST', configMaps, configMap({}))).status, 422);
    }),
  );
});

describe('match conditions of a webhook', () => {
  const hook = (conditions: TestJson[], failurePolicy = 'Fail'): TestJson => ({
    metadata: { name: 'w' },
    webhooks: [
      {
        name: 'a.b.c',
        clientConfig: { url: 'https://127.0.0.1:1/x' },
        sideEffects: 'None',
        admissionReviewVersions: ['v1'],
        failurePolicy,
        rules: rules().resourceRules,
        matchConditions: conditions,
      },
    ],
  });

  it(
    'decide whether it is called, and are compiled when they are written',
    withApi(async (t) => {
      const path = `${registration}/validatingwebhookconfigurations`;
      const bad = await t.call('POST', path, hook([{ name: 'c', expression: '... [] bad expression' }]));
      assert.equal(bad.status, 422);
      assert.match(
        bad.body.message,
        /webhooks\[0\].matchConditions\[0\].expression: Invalid value: .*compilation failed/,
      );
      await t.make(path, hook([{ name: 'not-skipped', expression: "object.metadata.name != 'skip-me'" }]));
      assert.equal((await t.call('POST', configMaps, configMap({}, 'skip-me'))).status, 201);
      assert.match((await t.call('POST', configMaps, configMap({}))).body.message, /failed calling webhook "a.b.c"/);
      await t.call('DELETE', `${path}/w`);
      await t.make(path, hook([{ name: 'broken', expression: 'object.data.nope == "1"' }], 'Ignore'));
      assert.equal((await t.call('POST', configMaps, configMap({}))).status, 201);
    }),
  );
});

it(
  'who connects to a container is judged as well',
  withApi(async (t) => {
    const connect = {
      apiGroups: [''],
      apiVersions: ['v1'],
      operations: ['CONNECT'],
      resources: ['pods/exec', 'pods/attach'],
    };
    await validate(t, {
      matchConstraints: { resourceRules: [connect] },
      validations: [
        {
          expression: "request.name != 'closed' || (has(object.command) && object.command == ['ls', '-l'])",
          messageExpression: "request.kind.kind + ' of ' + request.resource.resource + '/' + request.subResource",
        },
      ],
    });
    const open = `${pods}/closed/exec?command=ls&command=-l&stdout=true`;
    const refused = await t.call('POST', `${pods}/closed/attach?stdin=true`, undefined, jane);
    assert.equal(refused.status, 422);
    assert.match(refused.body.message, /denied request: PodAttachOptions of pods\/attach$/);
    assert.equal((await t.call('POST', open, undefined, jane)).status, 404, 'the Pod is not there; nobody denied it');
    assert.equal((await t.call('GET', `${pods}/closed/log`, undefined, jane)).status, 404);
  }),
);
