/** Services of the core group, v1. */
import type { LoadBalancerStatus, Service } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { kinds } from '#base/kinds.ts';
import { setDefault, setDefaultText } from '../defaults.ts';
import {
  column,
  columns,
  connectSubresource,
  defineKind,
  formatMap,
  orNone,
  pathText,
  proxyVerbs,
  statusSubresource,
} from '../kind.ts';
import { resetStatus } from '../strategy.ts';
import {
  dropForType,
  validateService,
  validateServiceStatus,
  validateServiceUpdate,
  warnOfService,
} from '../validate-service.ts';

function defaultService(service: Draft<Service>): void {
  const spec = (service.spec ??= {});
  setDefaultText(spec, 'sessionAffinity', 'None');
  if (spec.sessionAffinity === 'None') delete spec.sessionAffinityConfig;
  if (spec.sessionAffinity === 'ClientIP') {
    spec.sessionAffinityConfig ??= { clientIP: {} };
    spec.sessionAffinityConfig.clientIP ??= {};
    setDefault(spec.sessionAffinityConfig.clientIP, 'timeoutSeconds', 10_800);
  }
  setDefaultText(spec, 'type', 'ClusterIP');
  for (const port of spec.ports ?? []) {
    setDefaultText(port, 'protocol', 'TCP');
    if (port.port !== undefined && (port.targetPort === undefined || port.targetPort === '' || port.targetPort === 0))
      port.targetPort = port.port;
  }
  const external =
    spec.type === 'NodePort' ||
    spec.type === 'LoadBalancer' ||
    (spec.type === 'ClusterIP' && (spec.externalIPs ?? []).length > 0);
  if (external) setDefaultText(spec, 'externalTrafficPolicy', 'Cluster');
  if (spec.type !== 'ExternalName') setDefaultText(spec, 'internalTrafficPolicy', 'Cluster');
  if (spec.type === 'LoadBalancer') setDefault(spec, 'allocateLoadBalancerNodePorts', true);
}

/** Where a load balancer's address leads: to the nodes, unless it says otherwise. */
function defaultAddressModes(balancer: Draft<LoadBalancerStatus> | undefined, { spec }: Draft<Service>): void {
  if (spec?.type !== 'LoadBalancer') return;
  for (const one of balancer?.ingress ?? []) if (one.ip) one.ipMode ??= 'VIP';
}

const balancerCharsMax = 16;

function serviceAddresses({ spec = {}, status }: Draft<Service>): string {
  const external = spec.externalIPs ?? [];
  if (spec.type === 'ExternalName') return orNone(spec.externalName);
  if (spec.type !== 'LoadBalancer') return orNone(external.join(','));
  const names = (status?.loadBalancer?.ingress ?? []).map(({ ip, hostname }) => ip || hostname || '');
  const all = [...new Set(names.filter((name) => name !== ''))].sort().join(',');
  const shown = all.length > balancerCharsMax ? `${all.slice(0, balancerCharsMax - 3)}...` : all;
  const parts = [...(shown === '' ? [] : [shown]), ...external];
  return parts.length === 0 ? '<pending>' : parts.join(',');
}

export const services = defineKind(kinds.Service, {
  createsOnUpdate: true,
  shortNames: ['svc'],
  categories: ['all'],
  nameForm: 'label',
  hasStatus: true,
  subresources: { status: statusSubresource, proxy: connectSubresource('ServiceProxyOptions', proxyVerbs) },
  selectableFields: { 'spec.clusterIP': pathText('spec.clusterIP'), 'spec.type': pathText('spec.type') },
  columns: columns(
    column('Type', (o) => o.spec?.type),
    column('Cluster-IP', (o) => orNone(o.spec?.clusterIPs?.[0] ?? o.spec?.clusterIP)),
    column('External-IP', (o) => serviceAddresses(o)),
    column('Port(s)', (o) =>
      orNone(
        (o.spec?.ports ?? []).map((p) => `${p.port}${p.nodePort ? `:${p.nodePort}` : ''}/${p.protocol}`).join(','),
      ),
    ),
    column('Selector', (o) => formatMap(o.spec?.selector), { wide: true }),
  ),
  defaults: defaultService,
  prepareCreate(o) {
    o.status = { loadBalancer: {} };
  },
  prepareUpdate(o, old) {
    resetStatus(o, old);
    dropForType(o, old);
  },
  validate: validateService,
  warn: warnOfService,
  validateUpdate: validateServiceUpdate,
  validateStatus: validateServiceStatus,
  defaultStatus: ({ loadBalancer }, o) => defaultAddressModes(loadBalancer, o),
});
