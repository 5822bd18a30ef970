import type { Ingress } from '#api/networking.v1.ts';
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { sampleOf, type TestJson } from '#base/testing.ts';
import { kinds } from '#base/kinds.ts';
import { startFailure } from './ingress.ts';
import { haproxyConfig, planIngress } from './ingress-config.ts';

const path = (text: string, service: string, pathType = 'Prefix') => ({
  path: text,
  pathType,
  backend: { service: { name: service, port: { number: 80 } } },
});
const ingress = (rules: unknown[], more: TestJson = {}): Ingress =>
  sampleOf(kinds.Ingress, {
    metadata: { name: 'i', namespace: 'default', creationTimestamp: '2026-01-01T00:00:00Z' },
    spec: { rules, ...more },
  });
const lookups = { endpoints: () => [{ ip: '10.244.0.2', port: 8080 }], tlsSecret: () => undefined, slotsOf: () => 0 };

test('exact hosts go before wildcards and those before none; longer paths before shorter', () => {
  const plan = planIngress(
    [
      ingress([
        { http: { paths: [path('/', 'a')] } },
        { host: '*.example.org', http: { paths: [path('/', 'b')] } },
        { host: 'www.example.org', http: { paths: [path('/', 'c'), path('/long', 'd'), path('/long', 'e', 'Exact')] } },
      ]),
    ],
    lookups,
  );
  assert.deepEqual(
    plan.routes.map((route) => `${route.host} ${route.path} ${route.pathType}`),
    [
      'www.example.org /long Exact',
      'www.example.org /long Prefix',
      'www.example.org / Prefix',
      '*.example.org / Prefix',
      ' / Prefix',
    ],
  );
});

test('a prefix is matched by path elements', () => {
  const config = haproxyConfig(planIngress([ingress([{ http: { paths: [path('/api/', 'a')] } }])], lookups), {
    runDir: '/run/x',
    httpBinds: [':80'],
    httpsBinds: [],
  });
  assert.match(config, /if \{ path -m str \/api \} \|\| \{ path -m beg \/api\/ \}/);
});

test('there are more slots than endpoints, and they never shrink', () => {
  const backend = planIngress([ingress([{ http: { paths: [path('/', 'a')] } }])], lookups).backends[0]!;
  assert.equal(backend.slots, 8);
  assert.equal(
    planIngress([ingress([{ http: { paths: [path('/', 'a')] } }])], { ...lookups, slotsOf: () => 24 }).backends[0]!
      .slots,
    24,
  );
});

test('text that could leave its line is refused', () => {
  const plan = planIngress([ingress([{ host: 'a\n  server evil', http: { paths: [path('/', 'a')] } }])], lookups);
  assert.throws(
    () => haproxyConfig(plan, { runDir: '/run/x', httpBinds: [], httpsBinds: [] }),
    /unsupported character/,
  );
});

test('a rule beats the default backend, which gets what no rule takes and the hosts without one', () => {
  const plan = planIngress(
    [
      ingress(
        [
          { host: 'H.example', http: { paths: [path('/', 'one')] } },
          { host: 'p.example', http: { paths: [path('/api', 'two')] } },
          { host: '*.wild', http: { paths: [path('/', 'one')] } },
        ],
        { defaultBackend: path('/', 'three').backend },
      ),
    ],
    lookups,
  );
  const [one, two, three] = ['one', 'two', 'three'].map(
    (name) => planIngress([ingress([{ http: { paths: [path('/', name)] } }])], lookups).routes[0]!.backend,
  );
  const first = (host: string, at: string): string | undefined =>
    plan.routes.find((route) => route.host === host && at.startsWith(route.path))?.backend;
  assert.deepEqual(
    [
      first('h.example', '/'),
      first('p.example', '/api'),
      first('p.example', '/x'),
      first('*.wild', '/x'),
      plan.defaultBackend,
    ],
    [one, two, three, one, three],
  );
});

test('the oldest default backend serves hosts without a rule, with or without rules beside it', () => {
  const [older, newer] = [
    ingress([{ host: 'a', http: { paths: [path('/', 'a')] } }], { defaultBackend: path('/', 'x').backend }),
    ingress([], { defaultBackend: path('/', 'y').backend }),
  ];
  newer.metadata.creationTimestamp = '2026-01-02T00:00:00Z';
  assert.equal(planIngress([newer, older], lookups).defaultBackend, planIngress([older], lookups).defaultBackend);
});

test('the proxy becomes a user of its own where the host has one', () => {
  const config = (user?: string): string =>
    haproxyConfig(planIngress([], lookups), {
      runDir: '/run/x',
      httpBinds: [':80'],
      httpsBinds: [],
      ...(user === undefined ? {} : { user }),
    });
  assert.match(config('haproxy'), /^ {2}user haproxy\n {2}group haproxy$/m);
  assert.doesNotMatch(config(), /^ {2}(user|group) /m);
});

test('no two proxies share a port: the second fails, and its Ingresses say so', () => {
  assert.match(
    haproxyConfig(planIngress([], lookups), { runDir: '/run/x', httpBinds: [], httpsBinds: [] }),
    /^ {2}noreuseport$/m,
  );
  assert.equal(
    startFailure(
      '[NOTICE] (2) : version\n[ALERT] (2) : Binding [/a.cfg:10] for frontend a: cannot bind socket (Address already in use) for [0.0.0.0:80]\n[ALERT] (2) : Exiting.',
    ),
    'The proxy cannot listen on 0.0.0.0:80 (Address already in use): end what listens there, or give other ports (up --http-port, --https-port)',
  );
  assert.equal(startFailure('[ALERT] no memory\n'), 'The proxy did not start: [ALERT] no memory');
});
