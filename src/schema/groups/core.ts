/** The core group, v1. */
import type {
  ComponentStatus,
  Endpoints,
  Namespace,
  ResourceQuota,
  ResourceQuotaStatus,
  Secret,
  ServiceAccount,
} from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { joinHostPort } from '#base/ip.ts';
import { kinds } from '#base/kinds.ts';
import { defaultPod, defaultQuantities, defaultTemplate, labelAs, setDefault, setDefaultText } from '../defaults.ts';
import type { KindRecord } from '../kind.ts';
import {
  agelessColumns,
  column,
  columns,
  connectSubresource,
  defineKind,
  formatMap,
  pathText,
  proxyVerbs,
  scaleSubresource,
  selectablePath,
  statusSubresource,
} from '../kind.ts';
import { podColumns } from '../pod-columns.ts';
import { qosClassOf } from '../qos.ts';
import { resetStatus } from '../strategy.ts';
import { validateConfigData, validateSecret } from '../validate-core.ts';
import { validateNamespace, validateNamespaceStatus } from '../validate-namespace.ts';
import { warnOfSecret } from '../warn-secret.ts';
import { timestamp } from '#base/timestamp.ts';
import { warnOfPod, warnOfTemplate } from '../warn-pod.ts';
import { validatePodStatus } from '../validate-pod-status.ts';
import { syncProfiles } from '../apparmor-annotations.ts';
import { defaultPodResources } from '../pod-level-resources.ts';
import { validatePod, validateTemplate } from '../validate-pod.ts';
import { validatePodUpdate } from '../validate-pod-update.ts';
import { validateReplicationController } from '../validate-apps.ts';
import { replicaSetCounts, validateCounts } from '../validate-counts.ts';
import { validateEndpoints } from '../validate-endpoints.ts';
import { validateLimitRange, validateQuota, validateQuotaStatus } from '../validate-policy.ts';
import { events } from './core-events.ts';
import { nodes } from './core-nodes.ts';
import { services } from './core-services.ts';
import { claims, volumes } from './core-volumes.ts';

const status = { status: statusSubresource };

const pods = defineKind(kinds.Pod, {
  statusKeeps: ['ownerReferences'],
  shortNames: ['po'],
  categories: ['all'],
  hasStatus: true,
  hasGeneration: true,
  subresources: {
    attach: connectSubresource('PodAttachOptions', ['create', 'get']),
    binding: connectSubresource('Binding', ['create']),
    ephemeralcontainers: statusSubresource,
    eviction: { verbs: ['create'], kind: 'Eviction', group: 'policy', version: 'v1', type: 'policy.v1/Eviction' },
    exec: connectSubresource('PodExecOptions', ['create', 'get']),
    log: { verbs: ['get'] },
    portforward: connectSubresource('PodPortForwardOptions', ['create', 'get']),
    proxy: connectSubresource('PodProxyOptions', proxyVerbs),
    resize: statusSubresource,
    status: statusSubresource,
  },
  columns: podColumns,
  selectableFields: {
    'spec.nodeName': pathText('spec.nodeName'),
    'spec.restartPolicy': pathText('spec.restartPolicy'),
    'spec.schedulerName': pathText('spec.schedulerName'),
    'spec.serviceAccountName': pathText('spec.serviceAccountName'),
    'spec.hostNetwork': (o) => String(o.spec?.hostNetwork === true),
    'status.phase': pathText('status.phase'),
    'status.podIP': pathText('status.podIP'),
    'status.podIPs': pathText('status.podIP'),
    'status.nominatedNodeName': pathText('status.nominatedNodeName'),
  },
  defaults: defaultPod,
  defaultStatus(status) {
    const { podIP = '', podIPs = [] } = status;
    // The list and the field that is older say the same; where they do not, the field counts.
    if (podIP === '' && podIPs[0]?.ip !== undefined) status.podIP = podIPs[0].ip;
    else if (podIP !== '' && podIPs[0]?.ip !== podIP) status.podIPs = [{ ip: podIP }];
  },
  prepareStatus(pod, old) {
    const status = (pod.status ??= {});
    if (!status.qosClass && old.status?.qosClass !== undefined) status.qosClass = old.status.qosClass;
  },
  prepareCreate(pod, now, warn) {
    syncProfiles(pod, warn);
    defaultPodResources(pod.spec ?? {});
    pod.status = { phase: 'Pending', qosClass: qosClassOf(pod.spec ?? {}) };
    if ((pod.spec?.schedulingGates ?? []).length > 0)
      pod.status.conditions = [
        {
          type: 'PodScheduled',
          status: 'False',
          lastTransitionTime: timestamp(now),
          reason: 'SchedulingGated',
          message: 'Scheduling is blocked due to non-empty scheduling gates',
        },
      ];
  },
  prepareUpdate(pod, old) {
    resetStatus(pod, old);
    // Who does not know the field keeps it.
    if (pod.spec !== undefined && pod.spec.resources === undefined && old.spec.resources !== undefined)
      pod.spec.resources = structuredClone(old.spec.resources);
  },
  validate: validatePod,
  validateUpdate: validatePodUpdate,
  validateStatus: validatePodStatus,
  warn: warnOfPod,
});

function defaultQuotaStatus(status: ResourceQuotaStatus | undefined): void {
  defaultQuantities(status?.hard);
  defaultQuantities(status?.used);
}

const replicationControllers = defineKind(kinds.ReplicationController, {
  shortNames: ['rc'],
  categories: ['all'],
  hasGeneration: true,
  subresources: { status: statusSubresource, scale: scaleSubresource },
  scale: { specPath: 'spec.replicas', statusPath: 'status.replicas', selectorPath: 'spec.selector' },
  selectableFields: selectablePath('status.replicas'),
  columns: columns(
    column('Desired', (o) => o.spec?.replicas ?? 0, { type: 'integer' }),
    column('Current', (o) => o.status?.replicas ?? 0, { type: 'integer' }),
    column('Ready', (o) => o.status?.readyReplicas ?? 0, { type: 'integer' }),
    column('Containers', (o) => (o.spec?.template?.spec?.containers ?? []).map((c) => c.name).join(','), {
      wide: true,
    }),
    column('Images', (o) => (o.spec?.template?.spec?.containers ?? []).map((c) => c.image).join(','), {
      wide: true,
    }),
    column('Selector', (o) => formatMap(o.spec?.selector), { wide: true }),
  ),
  defaults(o) {
    o.spec ??= {};
    setDefault(o.spec, 'replicas', 1);
    defaultTemplate(o.spec.template);
    const labels = o.spec.template?.metadata?.labels;
    if (labels !== undefined && Object.keys(o.spec.selector ?? {}).length === 0) o.spec.selector = { ...labels };
    labelAs(o, labels);
  },
  prepareCreate(o) {
    o.status = { replicas: 0 };
  },
  prepareUpdate: resetStatus,
  defaultStatus(_status, o) {
    labelAs(o, o.spec?.template?.metadata?.labels);
  },
  templateLabels: (o) => o.spec?.template?.metadata?.labels,
  warn: warnOfTemplate((o) => o.spec?.template, { namesPods: true }),
  validate: validateReplicationController,
  validateStatus: validateCounts(replicaSetCounts),
});

export const coreKinds: readonly KindRecord[] = [
  defineKind(kinds.Binding, { verbs: ['create'] }),
  defineKind(kinds.ComponentStatus, {
    deprecation: 'v1 ComponentStatus is deprecated in v1.19+',
    shortNames: ['cs'],
    verbs: ['get', 'list'],
    columns: columns<ComponentStatus>(
      column('Status', (o) => (o.conditions?.[0]?.status === 'True' ? 'Healthy' : 'Unhealthy')),
      column('Message', (o) => o.conditions?.[0]?.message ?? ''),
      column('Error', (o) => o.conditions?.[0]?.error ?? ''),
    ).filter((c) => c.name !== 'Age'),
  }),
  defineKind(kinds.ConfigMap, {
    shortNames: ['cm'],
    columns: columns(column('Data', (o) => Object.keys(o.data ?? {}).length + Object.keys(o.binaryData ?? {}).length)),
    validate: validateConfigData,
  }),
  defineKind(kinds.Endpoints, {
    createsOnUpdate: true,
    deprecation: 'v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice',
    singular: 'endpoints',
    listKind: 'EndpointsList',
    shortNames: ['ep'],
    columns: columns(column('Endpoints', endpointsText)),
    validate: validateEndpoints,
    defaults(o) {
      for (const port of (o.subsets ?? []).flatMap(({ ports = [] }) => ports)) setDefaultText(port, 'protocol', 'TCP');
    },
  }),
  events,
  defineKind(kinds.LimitRange, {
    createsOnUpdate: true,
    shortNames: ['limits'],
    columns: [
      { ...column('Name', (o) => o.metadata.name), format: 'name' },
      { name: 'Created At', type: 'date', value: (o) => o.metadata.creationTimestamp },
    ],
    validate: validateLimitRange,
    // As upstream: one without a name has a name of chance.
    prepareCreate(o) {
      const { metadata } = o;
      if (metadata?.uid !== undefined && !metadata.name) metadata.name = metadata.uid;
    },
    defaults(o) {
      for (const item of o.spec?.limits ?? []) {
        for (const f of ['max', 'min', 'default', 'defaultRequest', 'maxLimitRequestRatio'] as const)
          defaultQuantities(item[f]);
        if (item.type === 'Container') {
          const d = (item.default ??= {});
          for (const [k, v] of Object.entries(item.max ?? {})) setDefault(d, k, v);
          const r = (item.defaultRequest ??= {});
          for (const [k, v] of Object.entries(d)) setDefault(r, k, v);
          for (const [k, v] of Object.entries(item.min ?? {})) setDefault(r, k, v);
        }
      }
    },
  }),
  defineKind(kinds.Namespace, {
    shortNames: ['ns'],
    nameForm: 'label',
    verbs: ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch'],
    subresources: { finalize: { verbs: ['update'] }, status: statusSubresource },
    selectableFields: { 'status.phase': pathText('status.phase'), name: pathText('metadata.name') },
    columns: columns(column('Status', (o) => o.status?.phase)),
    defaults: labelNamespace,
    defaultStatus(status, o) {
      setDefaultText(status, 'phase', 'Active');
      labelNamespace(o);
    },
    validate: validateNamespace,
    validateStatus: validateNamespaceStatus,
    prepareCreate(o) {
      o.status = { phase: 'Active' };
      const spec = (o.spec ??= {});
      if (!spec.finalizers?.includes('kubernetes')) spec.finalizers = [...(spec.finalizers ?? []), 'kubernetes'];
    },
    prepareUpdate(o, old) {
      o.spec = structuredClone(old.spec);
      resetStatus(o, old);
    },
  }),
  nodes,
  claims,
  volumes,
  pods,
  defineKind(kinds.PodTemplate, {
    warn: warnOfTemplate((o) => o.template, { at: 'template' }),
    columns: agelessColumns(
      column('Containers', (o) => (o.template?.spec?.containers ?? []).map((c) => c.name).join(',')),
      column('Images', (o) => (o.template?.spec?.containers ?? []).map((c) => c.image).join(',')),
      column('Pod Labels', (o) => formatMap(o.template?.metadata?.labels)),
    ),
    defaults(o) {
      defaultTemplate(o.template);
    },
    hasGeneration: true,
    validate(o, errors) {
      validateTemplate(o.template ?? {}, 'template', errors);
    },
  }),
  replicationControllers,
  defineKind(kinds.ResourceQuota, {
    shortNames: ['quota'],
    subresources: status,
    validate: validateQuota,
    validateStatus: validateQuotaStatus,
    columns: columns(
      column('Request', (o) => quotaText(o, (k) => !k.startsWith('limits.'))),
      column('Limit', (o) => quotaText(o, (k) => k.startsWith('limits.'))),
    ),
    defaults(o) {
      defaultQuantities(o.spec?.hard);
      defaultQuotaStatus(o.status);
    },
    defaultStatus: defaultQuotaStatus,
    prepareCreate(o) {
      o.status = {};
    },
    prepareUpdate: resetStatus,
  }),
  defineKind(kinds.Secret, {
    columns: columns(
      column('Type', (o) => o.type),
      column('Data', (o) => Object.keys(o.data ?? {}).length),
    ),
    selectableFields: selectablePath('type'),
    validate: validateSecret,
    warn: warnOfSecret,
    defaults(o) {
      setDefaultText(o, 'type', 'Opaque');
      foldStringData(o);
    },
  }),
  defineKind(kinds.ServiceAccount, {
    shortNames: ['sa'],
    columns: columns(),
    prepareCreate: keepSecretNames,
    prepareUpdate: keepSecretNames,
    subresources: {
      token: {
        verbs: ['create'],
        kind: 'TokenRequest',
        group: 'authentication.k8s.io',
        version: 'v1',
        type: 'authentication.v1/TokenRequest',
      },
    },
  }),
  services,
];

function labelNamespace(o: Draft<Namespace>): void {
  const metadata = (o.metadata ??= {});
  if (metadata.labels?.['kubernetes.io/metadata.name'] === metadata.name) return;
  metadata.labels = { ...metadata.labels, 'kubernetes.io/metadata.name': metadata.name ?? '' };
}

/** Of the Secrets that a ServiceAccount names nothing but the name counts. */
function keepSecretNames(o: Draft<ServiceAccount>): void {
  if (o.secrets !== undefined) o.secrets = o.secrets.map(({ name }) => (name === undefined ? {} : { name }));
}

/** `stringData` is write-only: it is folded into `data`. */
function foldStringData(secret: Draft<Secret>): void {
  if (!secret.stringData) return;
  const data = { ...secret.data };
  for (const [key, value] of Object.entries(secret.stringData)) data[key] = Buffer.from(value).toString('base64');
  secret.data = data;
  delete secret.stringData;
}

function quotaText({ status }: ResourceQuota, wanted: (key: string) => boolean): string {
  return Object.entries(status?.hard ?? {})
    .filter(([k]) => wanted(k))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([k, hard]) => `${k}: ${status?.used?.[k] ?? '0'}/${hard}`)
    .join(', ');
}

function endpointsText(o: Endpoints): string {
  const all: string[] = [];
  for (const subset of o.subsets ?? []) {
    const ports = subset.ports === undefined || subset.ports.length === 0 ? [undefined] : subset.ports;
    for (const port of ports)
      for (const address of subset.addresses ?? [])
        all.push(port === undefined ? address.ip : joinHostPort(address.ip, port.port));
  }
  if ((o.subsets ?? []).length === 0) return '<none>';
  return all.length > 3 ? `${all.slice(0, 3).join(',')} + ${all.length - 3} more...` : all.join(',');
}
