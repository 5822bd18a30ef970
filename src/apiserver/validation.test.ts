import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import { createTestApi, podBody, pods } from './fixture.ts';
import type { TestApi } from './fixture.ts';

const withApi = (run: (t: TestApi) => Promise<void>) => async (): Promise<void> => {
  await using t = await createTestApi();
  await run(t);
};
const core = (resource: string): string => `/api/v1/namespaces/default/${resource}`;
const of = (group: string, resource: string): string => `/apis/${group}/namespaces/default/${resource}`;

const service = (spec: TestJson, name = 's'): [string, TestJson] => [
  core('services'),
  { metadata: { name }, spec: { ports: [{ port: 80 }], ...spec } },
];
const policy = (spec: TestJson): [string, TestJson] => [
  of('networking.k8s.io/v1', 'networkpolicies'),
  { metadata: { name: 'n' }, spec: { podSelector: {}, ...spec } },
];
const quota = (spec: TestJson): [string, TestJson] => [core('resourcequotas'), { metadata: { name: 'q' }, spec }];
const limits = (item: TestJson): [string, TestJson] => [
  core('limitranges'),
  { metadata: { name: 'l' }, spec: { limits: [{ type: 'Container', ...item }] } },
];
const lease = (spec: TestJson): [string, TestJson] => [
  of('coordination.k8s.io/v1', 'leases'),
  { metadata: { name: 'l' }, spec },
];
const hook = (extra: TestJson, config: TestJson = { url: 'https://example.com/x' }): [string, TestJson] => [
  '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations',
  {
    metadata: { name: 'w' },
    webhooks: [{ name: 'a.b.c', clientConfig: config, sideEffects: 'None', admissionReviewVersions: ['v1'], ...extra }],
  },
];
const slice = (extra: TestJson): [string, TestJson] => [
  of('discovery.k8s.io/v1', 'endpointslices'),
  { metadata: { name: 'e' }, addressType: 'IPv4', endpoints: [{ addresses: ['10.0.0.1'] }], ports: [], ...extra },
];
const pod = (spec: TestJson): [string, TestJson] => [pods, podBody('p', { spec })];
const cron = (schedule: string, extra: TestJson = {}): [string, TestJson] => [
  of('batch/v1', 'cronjobs'),
  {
    metadata: { name: 'c' },
    spec: {
      schedule,
      jobTemplate: {
        spec: { template: { spec: { restartPolicy: 'Never', containers: [{ name: 'c', image: 'i' }] } } },
      },
      ...extra,
    },
  },
];
const container = (extra: TestJson): TestJson => ({ containers: [{ name: 'c', image: 'i', ...extra }] });

/** What must be refused: where it goes, and the field and the words of the first cause. */
const refused: [string, [string, TestJson], string, RegExp][] = [
  [
    'a policy of external traffic on ClusterIP',
    service({ externalTrafficPolicy: 'Local' }),
    'spec.externalTrafficPolicy',
    /may only be set for externally-accessible services/,
  ],
  [
    'source ranges on ClusterIP',
    service({ loadBalancerSourceRanges: ['10.0.0.0/8'] }),
    'spec.LoadBalancerSourceRanges',
    /may only be used when/,
  ],
  [
    'a source range that is none',
    service({ type: 'LoadBalancer', loadBalancerSourceRanges: ['nope'] }),
    'spec.LoadBalancerSourceRanges[0]',
    /valid CIDR/,
  ],
  [
    'a source range of one address that is no range',
    service({ type: 'LoadBalancer', loadBalancerSourceRanges: ['10.0.0.1/8'] }),
    'spec.LoadBalancerSourceRanges[0]',
    /bits set beyond the prefix length/,
  ],
  ['zeros before an address', service({ externalIPs: ['10.0.0.01'] }), 'spec.externalIPs[0]', /leading 0s/],
  [
    'an affinity of 100,000 s',
    service({ sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 100_000 } } }),
    'spec.sessionAffinityConfig.clientIP.timeoutSeconds',
    /less than 86400/,
  ],
  [
    'two families on one',
    service({ ipFamilyPolicy: 'RequireDualStack' }),
    'spec.ipFamilyPolicy',
    /not configured for dual-stack/,
  ],
  ['IPv6', service({ ipFamilies: ['IPv6'] }), 'spec.ipFamilies[0]', /not configured on this cluster/],
  ['a loopback address outside', service({ externalIPs: ['127.0.0.1'] }), 'spec.externalIPs[0]', /loopback range/],
  [
    'a mapped address outside',
    service({ externalIPs: ['::ffff:10.0.0.1'] }),
    'spec.externalIPs[0]',
    /IPv4-mapped IPv6/,
  ],
  [
    'one node port twice',
    service({
      type: 'NodePort',
      ports: [
        { name: 'a', port: 1, nodePort: 30_001 },
        { name: 'b', port: 2, nodePort: 30_001 },
      ],
    }),
    'spec.ports[1].nodePort',
    /provided port is already allocated/,
  ],
  [
    'a class of balancers on ClusterIP',
    service({ loadBalancerClass: 'x.io/y' }),
    'spec.loadBalancerClass',
    /may only be used when/,
  ],
  [
    'a network of 99 bits',
    policy({ ingress: [{ from: [{ ipBlock: { cidr: '10.0.0.0/99' } }] }] }),
    'spec.ingress[0].from[0].ipBlock.cidr',
    /valid CIDR/,
  ],
  [
    'zeros before a prefix length',
    policy({ ingress: [{ from: [{ ipBlock: { cidr: '10.0.0.0/08' } }] }] }),
    'spec.ingress[0].from[0].ipBlock.cidr',
    /leading 0s in IP or prefix length/,
  ],
  [
    'an exception as wide as its network',
    policy({ egress: [{ to: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['10.0.0.0/8'] } }] }] }),
    'spec.egress[0].to[0].ipBlock.except[0]',
    /strict subset/,
  ],
  [
    'an exception from elsewhere',
    policy({ egress: [{ to: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['11.0.0.0/16'] } }] }] }),
    'spec.egress[0].to[0].ipBlock.except[0]',
    /strict subset/,
  ],
  ['a peer of nothing', policy({ ingress: [{ from: [{}] }] }), 'spec.ingress[0].from[0]', /must specify a peer/],
  [
    'ports that end before they begin',
    policy({ ingress: [{ ports: [{ port: 80, endPort: 70 }] }] }),
    'spec.ingress[0].ports[0].endPort',
    /greater than or equal/,
  ],
  [
    'a selector without values',
    policy({ podSelector: { matchExpressions: [{ key: 'a', operator: 'In' }] } }),
    'spec.podSelector.matchExpressions[0].values',
    /must be specified/,
  ],
  ['a quota scope', quota({ scopes: ['Nope'] }), 'spec.scopes', /unsupported scope/],
  [
    'quota scopes that exclude each other',
    quota({ scopes: ['Terminating', 'NotTerminating'] }),
    'spec.scopes',
    /conflicting scopes/,
  ],
  [
    'a quota of an unknown resource',
    quota({ hard: { apples: '1' } }),
    'spec.hard[apples]',
    /must be a standard resource type or fully qualified/,
  ],
  ['a quota of half a Pod', quota({ hard: { pods: '500m' } }), 'spec.hard[pods]', /must be an integer/],
  [
    'a default over the most',
    limits({ max: { cpu: '1' }, defaultRequest: { cpu: '1' }, default: { cpu: '2' } }),
    'spec.limits[0].default[cpu]',
    /greater than max value/,
  ],
  [
    'a least over the most',
    limits({ max: { cpu: '1' }, min: { cpu: '2' } }),
    'spec.limits[0].min[cpu]',
    /min value 2 is greater than max value 1/,
  ],
  [
    'a default of Pods',
    limits({ type: 'Pod', default: { cpu: '1' } }),
    'spec.limits[0].default',
    /may not be specified when/,
  ],
  ['a lease of less than no time', lease({ leaseDurationSeconds: -1 }), 'spec.leaseDurationSeconds', /greater than 0/],
  [
    'a webhook without TLS',
    hook({}, { url: 'http://example.com' }),
    'webhooks[0].clientConfig.url',
    /'https' is the only allowed/,
  ],
  ['side effects', hook({ sideEffects: 'Some' }), 'webhooks[0].sideEffects', /supported values/],
  ["a webhook's name without dots", hook({ name: 'x' }), 'webhooks[0].name', /three segments/],
  ['a webhook that waits a minute', hook({ timeoutSeconds: 60 }), 'webhooks[0].timeoutSeconds', /between 1 and 30/],
  ['a webhook nowhere', hook({}, {}), 'webhooks[0].clientConfig', /exactly one of url or service/],
  [
    'an endpoint on loopback',
    slice({ endpoints: [{ addresses: ['127.0.0.1'] }] }),
    'endpoints[0].addresses[0]',
    /loopback range/,
  ],
  [
    'an endpoint of another family',
    slice({ endpoints: [{ addresses: ['fd00::1'] }] }),
    'endpoints[0].addresses',
    /must be an IPv4 address/,
  ],
  [
    'a port of a slice twice',
    slice({
      ports: [
        { name: 'a', port: 1 },
        { name: 'a', port: 2 },
      ],
    }),
    'ports[1].name',
    /Duplicate/,
  ],
  [
    'user 2^31',
    pod({ securityContext: { runAsUser: 2 ** 31 } }),
    'spec.securityContext.runAsUser',
    /between 0 and 2147483647/,
  ],
  [
    'user 2^31 of a container',
    pod(container({ securityContext: { runAsUser: 2 ** 31 } })),
    'spec.containers[0].securityContext.runAsUser',
    /between 0 and 2147483647/,
  ],
  [
    'group 2^31',
    pod({ securityContext: { supplementalGroups: [1, 2 ** 31] } }),
    'spec.securityContext.supplementalGroups[1]',
    /between 0 and 2147483647/,
  ],
  [
    'a deadline of 2^31',
    pod({ activeDeadlineSeconds: 2 ** 31 }),
    'spec.activeDeadlineSeconds',
    /between 1 and 2147483647/,
  ],
  ['minute 61', cron('61 * * * *'), 'spec.schedule', /end of range \(61\) above maximum \(59\)/],
  ['hour 24', cron('0 24 * * *'), 'spec.schedule', /above maximum \(23\)/],
  ['day 0', cron('0 0 0 * *'), 'spec.schedule', /below minimum \(1\)/],
  ['weekday 7', cron('0 0 * * 7'), 'spec.schedule', /above maximum \(6\)/],
  ['steps of nothing', cron('*/0 * * * *'), 'spec.schedule', /step of range should be a positive number/],
  ['a range backwards', cron('0 5-3 * * *'), 'spec.schedule', /beyond end of range/],
  ['a schedule by no name', cron('@sometimes'), 'spec.schedule', /unrecognized descriptor/],
];

const accepted: [string, [string, TestJson]][] = [
  ['a name that begins with a digit', service({}, '1bad')],
  [
    'a balancer with ranges',
    service({ type: 'LoadBalancer', loadBalancerSourceRanges: ['10.0.0.0/8'], externalTrafficPolicy: 'Local' }),
  ],
  [
    'a policy with exceptions',
    policy({
      ingress: [
        {
          from: [
            { ipBlock: { cidr: '10.0.0.0/8', except: ['10.1.0.0/16'] } },
            { podSelector: {}, namespaceSelector: {} },
          ],
          ports: [{ port: 80, endPort: 90 }, { port: 'http' }],
        },
      ],
    }),
  ],
  [
    'a quota of many',
    quota({
      hard: { pods: '1', 'count/jobs.batch': '2', 'requests.nvidia.com/gpu': '1', 'requests.cpu': '500m' },
      scopeSelector: { matchExpressions: [{ scopeName: 'PriorityClass', operator: 'In', values: ['a'] }] },
    }),
  ],
  [
    'limits in order',
    limits({ min: { cpu: '100m' }, defaultRequest: { cpu: '200m' }, default: { cpu: '1' }, max: { cpu: '2' } }),
  ],
  [
    'a webhook',
    hook(
      { rules: [{ operations: ['CREATE'], apiGroups: ['example.com'], apiVersions: ['*'], resources: ['*/*'] }] },
      { service: { name: 'a', namespace: 'b', path: '/x' } },
    ),
  ],
  ['a slice of names', slice({ addressType: 'FQDN', endpoints: [{ addresses: ['a.example.com'] }] })],
  ['the greatest user', pod({ securityContext: { runAsUser: 2 ** 31 - 1 }, activeDeadlineSeconds: 2 ** 31 - 1 })],
  ['every form of a field', cron('*/15,1-5/2 0-23 ? jan-DEC,3 sun-Sat')],
];

describe('validation', () => {
  it(
    'refuses what must be refused, with field and reason',
    withApi(async (t) => {
      for (const [what, [path, body], field, words] of refused) {
        const answer = await t.call('POST', path, body);
        assert.deepEqual(
          [answer.status, answer.body.details?.causes?.[0]?.field],
          [422, field],
          `${what}: ${answer.text}`,
        );
        assert.match(answer.body.details.causes[0].message, words, what);
      }
    }),
  );

  it(
    'accepts what is right',
    withApi(async (t) => {
      for (const [what, [path, body]] of accepted) {
        const answer = await t.call('POST', path, body);
        assert.equal(answer.status, 201, `${what}: ${answer.text}`);
      }
    }),
  );

  it(
    'lets one PriorityClass alone be the default',
    withApi(async (t) => {
      const path = '/apis/scheduling.k8s.io/v1/priorityclasses';
      await t.make(path, { metadata: { name: 'a' }, value: 1, globalDefault: true });
      const second = await t.call('POST', path, { metadata: { name: 'b' }, value: 2, globalDefault: true });
      assert.deepEqual(
        [
          second.status,
          /PriorityClass a is already marked as default. Only one default can exist/.test(second.body.message),
        ],
        [403, true],
      );
      assert.equal(
        (
          await t.call(
            'PATCH',
            `${path}/a`,
            { description: 'x' },
            { headers: { 'content-type': 'application/merge-patch+json' } },
          )
        ).status,
        200,
      );
    }),
  );

  it(
    'drops what a new type of Service does not need, where the writer left it',
    withApi(async (t) => {
      const path = core('services');
      const patch = (name: string, spec: TestJson) =>
        t.call('PATCH', `${path}/${name}`, { spec }, { headers: { 'content-type': 'application/merge-patch+json' } });
      await t.make(path, {
        metadata: { name: 'a' },
        spec: {
          type: 'LoadBalancer',
          externalTrafficPolicy: 'Local',
          ports: [{ port: 80 }],
        },
      });
      const plain = await patch('a', { type: 'ClusterIP' });
      assert.equal(plain.status, 200, plain.text);
      assert.deepEqual(
        [
          plain.body.spec.ports[0].nodePort,
          plain.body.spec.externalTrafficPolicy,
          plain.body.spec.healthCheckNodePort,
          plain.body.spec.allocateLoadBalancerNodePorts,
        ],
        [undefined, undefined, undefined, undefined],
      );
      const address = plain.body.spec.clusterIP;
      const node = await patch('a', { type: 'NodePort' });
      assert.deepEqual(
        [node.status, node.body.spec.clusterIP, node.body.spec.ports[0].nodePort > 0],
        [200, address, true],
      );
      assert.equal((await t.api.server.store.list('/registry/ranges/servicenodeports/')).values.length, 1);
      const named = await patch('a', { type: 'ExternalName', externalName: 'example.com' });
      assert.deepEqual(
        [named.status, named.body.spec.clusterIP, named.body.spec.ports[0].nodePort],
        [200, undefined, undefined],
        named.text,
      );
      assert.equal(
        (await t.api.server.store.list('/registry/ranges/')).values.filter((v) => !v.key.endsWith('/10.96.0.1')).length,
        0,
        'what is not needed is given back',
      );
      const back = await patch('a', { type: 'ClusterIP' });
      assert.deepEqual(
        [back.status, back.body.spec.externalName, back.body.spec.clusterIP !== undefined],
        [200, 'example.com', true],
        back.text,
      );
      // What the writer changes himself is refused.
      await patch('a', { type: 'NodePort' });
      assert.equal((await patch('a', { type: 'ClusterIP', ports: [{ port: 80, nodePort: 31_234 }] })).status, 422);
    }),
  );
});
