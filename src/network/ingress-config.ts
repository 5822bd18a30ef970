/**
 * HAProxy's configuration from Ingresses. Pure.
 *
 * Rules are put in the order of Kubernetes' precedence - exact hosts, wildcard hosts, no host; exact paths, then longer
 * prefixes - and the first that fits wins. A `defaultBackend` gets what no rule takes: of its Ingress's own hosts, and
 * (the oldest one's) of all hosts without a rule. Each backend has more server slots than endpoints, so that endpoints
 * come and go over the admin socket without a reload.
 * Sources: Kubernetes documentation, "Ingress"; HAProxy 2.6 configuration manual.
 */
import type { Ingress, IngressServiceBackend } from '#api/networking.v1.ts';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { haproxyConnectionsMax, ingressServersStep } from './limits.ts';
import { compareText } from './order.ts';

export interface Route {
  host: string;
  path: string;
  pathType: 'Exact' | 'Prefix';
  backend: string;
  /** Of a `defaultBackend`: for what no rule of this host takes. */ isDefault?: true;
}
export interface Backend {
  name: string;
  servers: { ip: string; port: number }[];
  slots: number;
}
export interface IngressPlan {
  routes: Route[];
  backends: Backend[];
  defaultBackend: string | undefined;
  certificates: { file: string; pem: string; hosts: string[] }[];
}

export interface IngressLookups {
  /** Endpoints of a Service's port that take connections now. */
  endpoints(
    namespace: string,
    service: string,
    port: { number?: number; name?: string },
  ): { ip: string; port: number }[];
  tlsSecret(namespace: string, name: string): { certificate: string; key: string } | undefined;
  /** Slots a backend has now: they only grow, so that fewer endpoints cause no reload. */
  slotsOf(backend: string): number;
}

function backendName(namespace: string, service: IngressServiceBackend): string {
  return `be_${createHash('sha256')
    .update(`${namespace}/${service.name}:${service.port?.number ?? service.port?.name}`)
    .digest('hex')
    .slice(0, 16)}`;
}

export function planIngress(ingresses: Ingress[], lookups: IngressLookups): IngressPlan {
  const plan: IngressPlan = { routes: [], backends: [], defaultBackend: undefined, certificates: [] };
  const backends = new Map<string, Backend>();
  const backendOf = (namespace: string, service: IngressServiceBackend): string => {
    const name = backendName(namespace, service);
    if (!backends.has(name)) {
      const servers = lookups.endpoints(namespace, service.name, service.port ?? {});
      const slots = Math.max(
        lookups.slotsOf(name),
        Math.ceil((servers.length + 1) / ingressServersStep) * ingressServersStep,
      );
      backends.set(name, { name, servers, slots });
    }
    return name;
  };
  const byAge = [...ingresses].sort(
    (a, b) =>
      compareText(a.metadata.creationTimestamp ?? '', b.metadata.creationTimestamp ?? '') ||
      compareText(a.metadata.name, b.metadata.name),
  );
  for (const ingress of byAge) {
    const namespace = ingress.metadata.namespace;
    for (const tls of ingress.spec.tls ?? []) {
      const secret = tls.secretName === undefined ? undefined : lookups.tlsSecret(namespace, tls.secretName);
      if (secret !== undefined)
        plan.certificates.push({
          file: `${namespace}_${tls.secretName}.pem`,
          pem: `${secret.certificate.trim()}\n${secret.key.trim()}\n`,
          hosts: tls.hosts ?? [],
        });
    }
    if (ingress.spec.defaultBackend?.service !== undefined) {
      const backend = backendOf(namespace, ingress.spec.defaultBackend.service);
      plan.defaultBackend ??= backend;
      const hosts = new Set((ingress.spec.rules ?? []).map((rule) => (rule.host ?? '').toLowerCase()));
      for (const host of hosts)
        if (host !== '') plan.routes.push({ host, path: '/', pathType: 'Prefix', backend, isDefault: true });
    }
    for (const rule of ingress.spec.rules ?? [])
      for (const path of rule.http?.paths ?? []) {
        if (path.backend.service === undefined) continue;
        plan.routes.push({
          host: (rule.host ?? '').toLowerCase(),
          path: path.path || '/',
          pathType: path.pathType === 'Exact' ? 'Exact' : 'Prefix',
          backend: backendOf(namespace, path.backend.service),
        });
      }
  }
  const hostRank = (host: string): number => (host === '' ? 2 : host.startsWith('*.') ? 1 : 0);
  plan.routes = plan.routes
    .map((route, index) => ({ route, index }))
    .sort(
      ({ route: a, index: i }, { route: b, index: j }) =>
        hostRank(a.host) - hostRank(b.host) ||
        Number(a.isDefault ?? false) - Number(b.isDefault ?? false) ||
        b.path.length - a.path.length ||
        (a.pathType === b.pathType ? 0 : a.pathType === 'Exact' ? -1 : 1) ||
        i - j,
    )
    .map(({ route }) => route);
  plan.backends = [...backends.values()].sort((a, b) => compareText(a.name, b.name));
  return plan;
}

/** Text inside an HAProxy configuration word; what could end the word or the line is refused. */
function word(text: string): string {
  if (!/^[\w./~%+:,@=&;!*()'-]*$/.test(text)) throw new Error(`unsupported character in ${JSON.stringify(text)}`);
  return text.replaceAll("'", "\\'").replaceAll('(', '\\(').replaceAll(')', '\\)');
}

function conditionOf(route: Route): string {
  const host =
    route.host === ''
      ? ['']
      : route.host.startsWith('*.')
        ? [`{ req.hdr(host),field(1,:),lower -m reg ^[^.]+${word(route.host.slice(1)).replaceAll('.', '\\\\.')}$ } `]
        : [`{ req.hdr(host),field(1,:),lower -m str ${word(route.host)} } `];
  if (route.pathType === 'Exact') return `${host[0]}{ path -m str ${word(route.path)} }`;
  const prefix = route.path.replace(/\/+$/, '');
  if (prefix === '') return `${host[0]}{ path -m beg / }`;
  return `${host[0]}{ path -m str ${word(prefix)} } || ${host[0]}{ path -m beg ${word(prefix)}/ }`;
}

export interface HaproxySettings {
  runDir: string;
  httpBinds: string[];
  httpsBinds: string[];
  /**
   * The user that HAProxy becomes once it listens and has read its certificates; absent where the host has none for it.
   */
  user?: string;
}

export function haproxyConfig(plan: IngressPlan, settings: HaproxySettings): string {
  const lines = [
    'global',
    `  stats socket ${join(settings.runDir, 'haproxy.sock')} mode 600 level admin expose-fd listeners`,
    `  maxconn ${haproxyConnectionsMax}`,
    ...(settings.user === undefined ? [] : [`  user ${settings.user}`, `  group ${settings.user}`]),
    '  nbthread 1',
    '  hard-stop-after 60s',
    // The kernel would share the port with another instance's proxy: each would answer for half of the other's hosts.
    '  noreuseport',
    '  tune.ssl.default-dh-param 2048',
    '',
    'defaults',
    '  mode http',
    '  timeout connect 1s',
    '  timeout client 60s',
    '  timeout server 60s',
    '  timeout http-keep-alive 60s',
    '  timeout http-request 30s',
    '  timeout queue 5s',
    '  timeout tunnel 1h',
    '  option redispatch 1',
    '  option forwardfor',
    '  retries 3',
    '  retry-on conn-failure empty-response',
    '',
    'frontend ingress',
    ...settings.httpBinds.map((bind) => `  bind ${bind}`),
    ...settings.httpsBinds.map(
      (bind) => `  bind ${bind} ssl crt-list ${join(settings.runDir, 'crt-list')} alpn h2,http/1.1`,
    ),
    '  http-request disable-l7-retry unless METH_GET or METH_HEAD',
    '  http-request set-header X-Forwarded-Proto https if { ssl_fc }',
    '  http-request set-header X-Forwarded-Proto http unless { ssl_fc }',
    ...plan.routes.map((route) => `  use_backend ${route.backend} if ${conditionOf(route)}`),
    `  default_backend ${plan.defaultBackend ?? 'not_found'}`,
    '',
    'backend not_found',
    '  http-request return status 404 content-type text/plain string "default backend - 404\\n"',
  ];
  for (const backend of plan.backends) {
    lines.push(
      '',
      `backend ${backend.name}`,
      '  balance roundrobin',
      '  http-request return status 503 content-type text/plain string "no endpoints available\\n" if { nbsrv eq 0 }',
    );
    for (let slot = 1; slot <= backend.slots; slot++) {
      const server = backend.servers[slot - 1];
      lines.push(
        server === undefined
          ? `  server s${slot} 127.0.0.1:1 disabled`
          : `  server s${slot} ${server.ip}:${server.port}`,
      );
    }
  }
  return `${lines.join('\n')}\n`;
}
