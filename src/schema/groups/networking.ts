/** networking.k8s.io/v1. */
import type { Ingress, IngressClass } from '#api/networking.v1.ts';
import { kinds } from '#base/kinds.ts';
import type { KubeObject } from '#base/objects.ts';
import { setDefault, setDefaultText } from '../defaults.ts';
import type { Column, KindRecord } from '../kind.ts';
import {
  agelessColumns,
  column,
  columns,
  defineKind,
  formatSelector,
  statusSubresource,
  metadataFields,
} from '../kind.ts';
import { resetStatus } from '../strategy.ts';
import { validateIngressClass } from '../validate-classes.ts';
import { validateIngress, validateIngressStatus } from '../validate-core.ts';
import { validateNetworkPolicy } from '../validate-policy.ts';
import {
  validateIpAddress,
  validateIpAddressUpdate,
  validateServiceCidr,
  validateServiceCidrUpdate,
} from '../validate-ranges.ts';

function addresses({ status }: Ingress): string {
  const names = (status?.loadBalancer?.ingress ?? []).map(({ ip, hostname }) => ip || hostname || '');
  return [...new Set(names.filter((name) => name !== ''))].sort().join(',');
}

function hosts(o: Ingress): string {
  const all = (o.spec?.rules ?? []).map((r) => r.host).filter(Boolean);
  if (all.length === 0) return '*';
  return all.length > 3 ? `${all.slice(0, 3).join(',')} + ${all.length - 3} more...` : all.join(',');
}

/** The name of the default class says so. */
function markDefault(shown: Column): Column {
  if (shown.name !== 'Name') return shown;
  const isDefault = ({ metadata }: KubeObject): boolean =>
    metadata.annotations?.['ingressclass.kubernetes.io/is-default-class'] === 'true';
  return { ...shown, value: (o) => `${o.metadata.name}${isDefault(o) ? ' (default)' : ''}` };
}

export const networkingKinds: readonly KindRecord[] = [
  defineKind(kinds.IngressClass, {
    hasGeneration: true,
    validate: validateIngressClass,
    defaults(o) {
      const parameters = o.spec?.parameters;
      if (parameters) setDefault(parameters, 'scope', 'Cluster');
    },
    columns: columns<IngressClass>(
      column('Controller', (o) => o.spec?.controller),
      column('Parameters', (o) =>
        o.spec?.parameters
          ? `${o.spec.parameters.kind}${o.spec.parameters.apiGroup ? `.${o.spec.parameters.apiGroup}` : ''}/${o.spec.parameters.name}`
          : '<none>',
      ),
    ).map(markDefault),
  }),
  defineKind(kinds.Ingress, {
    shortNames: ['ing'],
    subresources: { status: statusSubresource },
    hasGeneration: true,
    columns: columns(
      column(
        'Class',
        (o) => o.spec?.ingressClassName ?? o.metadata.annotations?.['kubernetes.io/ingress.class'] ?? '<none>',
      ),
      column('Hosts', hosts),
      column('Address', addresses),
      column('Ports', (o) => ((o.spec?.tls ?? []).length > 0 ? '80, 443' : '80')),
    ),
    prepareCreate(o) {
      o.status = { loadBalancer: {} };
    },
    prepareUpdate: resetStatus,
    validate: validateIngress,
    validateStatus: validateIngressStatus,
  }),
  defineKind(kinds.IPAddress, {
    shortNames: ['ip'],
    singular: 'ipaddress',
    nameForm: 'ip',
    validate: validateIpAddress,
    validateUpdate: validateIpAddressUpdate,
    columns: agelessColumns(
      column('ParentRef', (o) => {
        const r = o.spec?.parentRef ?? {};
        return `${r.resource}${r.group ? `.${r.group}` : ''}/${r.namespace ? `${r.namespace}/` : ''}${r.name}`;
      }),
    ),
  }),
  defineKind(kinds.NetworkPolicy, {
    shortNames: ['netpol'],
    hasGeneration: true,
    columns: columns(column('Pod-Selector', (o) => formatSelector(o.spec?.podSelector))),
    validate: validateNetworkPolicy,
    defaults(o) {
      const spec = (o.spec ??= {});
      spec.podSelector ??= {};
      for (const rule of [...(spec.ingress ?? []), ...(spec.egress ?? [])])
        for (const port of rule.ports ?? []) setDefaultText(port, 'protocol', 'TCP');
      if ((spec.policyTypes ?? []).length === 0)
        spec.policyTypes = (spec.egress ?? []).length > 0 ? ['Ingress', 'Egress'] : ['Ingress'];
    },
  }),
  defineKind(kinds.ServiceCIDR, {
    statusKeeps: metadataFields,
    subresources: { status: statusSubresource },
    columns: columns(column('CIDRs', (o) => (o.spec?.cidrs ?? []).join(','))),
    prepareUpdate: resetStatus,
    validate: validateServiceCidr,
    validateUpdate: validateServiceCidrUpdate,
  }),
];
