/** Services of the core group, v1. */
import type { Service } from '#api/core.v1.ts';
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
import { dropForType, validateService, validateServiceUpdate, warnOfService } from '../validate-service.ts';

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

function serviceAddresses(service: Service): string {
  const spec = service.spec ?? {};
  if (spec.type === 'ExternalName') return orNone(spec.externalName);
  const lb = (service.status?.loadBalancer?.ingress ?? []).map((i) => i.ip ?? i.hostname);
  const all = [...new Set([...lb, ...(spec.externalIPs ?? [])])].join(',');
  if (spec.type === 'LoadBalancer') return all === '' ? '<pending>' : all;
  return orNone((spec.externalIPs ?? []).join(','));
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
    column('External-IP', serviceAddresses),
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
});
