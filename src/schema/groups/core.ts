/** The core group, v1. */
import { joinHostPort } from '#base/ip.ts';
import type {
  Binding,
  ComponentStatus,
  ConfigMap,
  Endpoints,
  Event,
  LimitRange,
  Namespace,
  Node,
  NodeStatus,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  PodTemplate,
  ReplicationController,
  ResourceQuota,
  ResourceQuotaStatus,
  Secret,
  Service,
  ServiceAccount,
} from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { KubeObject } from '#base/objects.ts';
import {
  ageColumn,
  agelessColumns,
  column,
  columns,
  defineKind,
  formatMap,
  orNone,
  pathText,
  scaleSubresource,
  shortDuration,
  statusSubresource,
} from '../kind.ts';
import type { KindOptions, KindRecord } from '../kind.ts';
import {
  defaultClaim,
  defaultPod,
  defaultQuantities,
  defaultTemplate,
  labelAs,
  setDefault,
  setDefaultText,
} from '../defaults.ts';
import { podColumns } from '../pod-columns.ts';
import { resetStatus } from '../strategy.ts';
import { qosClassOf } from '../qos.ts';
import { validatePod, validatePodUpdate, validateTemplate } from '../validate-pod.ts';
import {
  validateClaim,
  validateClaimUpdate,
  validateConfigData,
  validateNode,
  validateSecret,
  validateVolume,
} from '../validate-core.ts';
import { validateEndpoints, validateLimitRange, validateQuota } from '../validate-policy.ts';
import { dropForType, validateService, validateServiceUpdate } from '../validate-service.ts';

const define = <T extends KubeObject>(kind: T['kind'], resource: string, options?: KindOptions<T>): KindRecord =>
  defineKind('', 'v1', kind, resource, options);
const connect = (kind: string, verbs: readonly string[]) => ({ verbs, kind });
const status = { status: statusSubresource };
const proxyVerbs = ['create', 'delete', 'get', 'patch', 'update'];

const pods = define<Pod>('Pod', 'pods', {
  shortNames: ['po'],
  categories: ['all'],
  hasStatus: true,
  hasGeneration: true,
  subresources: {
    attach: connect('PodAttachOptions', ['create', 'get']),
    binding: connect('Binding', ['create']),
    ephemeralcontainers: statusSubresource,
    eviction: { verbs: ['create'], kind: 'Eviction', group: 'policy', version: 'v1', type: 'policy.v1/Eviction' },
    exec: connect('PodExecOptions', ['create', 'get']),
    log: { verbs: ['get'] },
    portforward: connect('PodPortForwardOptions', ['create', 'get']),
    proxy: connect('PodProxyOptions', proxyVerbs),
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
    setDefaultText(status, 'phase', 'Pending');
  },
  prepareCreate(pod) {
    pod.status = { phase: 'Pending', qosClass: qosClassOf(pod.spec ?? {}) };
    if ((pod.spec?.schedulingGates ?? []).length > 0)
      pod.status.conditions = [
        {
          type: 'PodScheduled',
          status: 'False',
          reason: 'SchedulingGated',
          message: 'Scheduling is blocked due to non-empty scheduling gates',
        },
      ];
  },
  prepareUpdate: resetStatus,
  validate: validatePod,
  validateUpdate: validatePodUpdate,
});

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

const services = define<Service>('Service', 'services', {
  shortNames: ['svc'],
  categories: ['all'],
  nameForm: 'label',
  hasStatus: true,
  subresources: { status: statusSubresource, proxy: connect('ServiceProxyOptions', proxyVerbs) },
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
  validateUpdate: validateServiceUpdate,
});

const nodeReady = (node: Node): string => {
  const ready = (node.status?.conditions ?? []).find((c) => c.type === 'Ready');
  const text = ready === undefined ? 'Unknown' : ready.status === 'True' ? 'Ready' : 'NotReady';
  return node.spec?.unschedulable === true ? `${text},SchedulingDisabled` : text;
};

function nodeRoles(node: Node): string {
  const roles = new Set<string>();
  for (const [key, value] of Object.entries(node.metadata?.labels ?? {})) {
    if (key.startsWith('node-role.kubernetes.io/')) {
      const role = key.slice(24);
      if (role !== '') roles.add(role);
    } else if (key === 'kubernetes.io/role' && value !== '') roles.add(value);
  }
  return orNone([...roles].sort().join(','));
}

const nodeAddress =
  (type: string) =>
  (node: Node): string =>
    orNone((node.status?.addresses ?? []).find((a) => a.type === type)?.address);

function defaultNodeStatus(status: Draft<NodeStatus>): void {
  defaultQuantities(status.capacity);
  if (status.capacity !== undefined) setDefault(status, 'allocatable', status.capacity);
  defaultQuantities(status.allocatable);
}

function defaultQuotaStatus(status: ResourceQuotaStatus | undefined): void {
  defaultQuantities(status?.hard);
  defaultQuantities(status?.used);
}

const nodes = define<Node>('Node', 'nodes', {
  scoped: 'Cluster',
  shortNames: ['no'],
  subresources: { status: statusSubresource, proxy: connect('NodeProxyOptions', proxyVerbs) },
  selectableFields: { 'spec.unschedulable': (o) => String(o.spec?.unschedulable === true) },
  columns: columns<Node>(
    column('Status', nodeReady),
    column('Roles', nodeRoles),
    ageColumn,
    column('Version', (o) => o.status?.nodeInfo?.kubeletVersion),
    column('Internal-IP', nodeAddress('InternalIP'), { wide: true }),
    column('External-IP', nodeAddress('ExternalIP'), { wide: true }),
    column('OS-Image', (o) => o.status?.nodeInfo?.osImage || '<unknown>', { wide: true }),
    column('Kernel-Version', (o) => o.status?.nodeInfo?.kernelVersion || '<unknown>', { wide: true }),
    column('Container-Runtime', (o) => o.status?.nodeInfo?.containerRuntimeVersion || '<unknown>', { wide: true }),
  ),
  defaults(o) {
    o.spec ??= {};
    o.status ??= {};
    defaultNodeStatus(o.status);
  },
  defaultStatus: defaultNodeStatus,
  prepareUpdate: resetStatus,
  validate: validateNode,
});

const eventSource = (o: Event): string =>
  [o.source?.component || o.reportingComponent, o.source?.host || o.reportingInstance].filter(Boolean).join(', ');
const involved = (o: Event): string =>
  `${(o.involvedObject?.kind ?? '').toLowerCase()}/${o.involvedObject?.name ?? ''}`;

function lastSeen(o: Event, now: number): string {
  const last = o.series?.lastObservedTime ?? o.lastTimestamp ?? o.eventTime ?? o.firstTimestamp;
  return last ? shortDuration(now - Date.parse(last)) : '<unknown>';
}

function firstSeen(o: Event, now: number): string {
  const first = o.firstTimestamp ?? o.eventTime;
  return first ? shortDuration(now - Date.parse(first)) : '<unknown>';
}

const field = (path: string) => ({ [path]: pathText(path) });

const events = define<Event>('Event', 'events', {
  shortNames: ['ev'],
  nameForm: 'path',
  selectableFields: {
    ...field('involvedObject.kind'),
    ...field('involvedObject.namespace'),
    ...field('involvedObject.name'),
    ...field('involvedObject.uid'),
    ...field('involvedObject.apiVersion'),
    ...field('involvedObject.resourceVersion'),
    ...field('involvedObject.fieldPath'),
    ...field('reason'),
    ...field('type'),
    reportingComponent: (o) => o.reportingComponent || o.source?.component || '',
    source: (o) => o.source?.component || o.reportingComponent || '',
  },
  columns: [
    { name: 'Last Seen', type: 'string', value: lastSeen },
    column('Type', (o) => o.type),
    column('Reason', (o) => o.reason),
    column('Object', involved),
    column('Subobject', (o) => o.involvedObject?.fieldPath ?? '', { wide: true }),
    column('Source', eventSource, { wide: true }),
    column('Message', (o) => (o.message ?? '').trim()),
    column('First Seen', firstSeen, { wide: true }),
    column('Count', (o) => String(o.series?.count ?? o.count ?? 1), { wide: true }),
    { ...column('Name', (o) => o.metadata.name, { wide: true }), format: 'name' },
  ],
  defaults(o) {
    o.source ??= {};
    setDefault(o, 'firstTimestamp', null);
    setDefault(o, 'lastTimestamp', null);
    setDefault(o, 'eventTime', null);
    setDefault(o, 'reportingComponent', '');
    setDefault(o, 'reportingInstance', '');
    o.involvedObject ??= {};
  },
});

const claims = define<PersistentVolumeClaim>('PersistentVolumeClaim', 'persistentvolumeclaims', {
  shortNames: ['pvc'],
  subresources: status,
  columns: columns(
    column('Status', (o) => (o.metadata.deletionTimestamp ? 'Terminating' : o.status?.phase)),
    column('Volume', (o) => o.spec?.volumeName ?? ''),
    column('Capacity', (o) => (o.spec?.volumeName ? (o.status?.capacity?.storage ?? '') : '')),
    column('Access Modes', (o) => (o.spec?.volumeName ? accessModes(o.status?.accessModes) : '')),
    column('StorageClass', (o) => o.spec?.storageClassName ?? ''),
    column('VolumeAttributesClass', (o) => o.spec?.volumeAttributesClassName ?? '<unset>'),
    column('VolumeMode', (o) => o.spec?.volumeMode ?? '<unset>', { wide: true }),
  ),
  defaults(o) {
    defaultClaim(o);
  },
  prepareCreate(o) {
    o.status = { phase: 'Pending' };
  },
  prepareUpdate: resetStatus,
  validate: validateClaim,
  validateUpdate: validateClaimUpdate,
});

function accessModes(modes: string[] | undefined): string {
  const short: Record<string, string> = {
    ReadWriteOnce: 'RWO',
    ReadOnlyMany: 'ROX',
    ReadWriteMany: 'RWX',
    ReadWriteOncePod: 'RWOP',
  };
  return (modes ?? []).map((m) => short[m] ?? m).join(',');
}

const volumes = define<PersistentVolume>('PersistentVolume', 'persistentvolumes', {
  scoped: 'Cluster',
  shortNames: ['pv'],
  subresources: status,
  columns: columns(
    column('Capacity', (o) => o.spec?.capacity?.storage ?? ''),
    column('Access Modes', (o) => accessModes(o.spec?.accessModes)),
    column('Reclaim Policy', (o) => o.spec?.persistentVolumeReclaimPolicy),
    column('Status', (o) => (o.metadata.deletionTimestamp ? 'Terminating' : o.status?.phase)),
    column('Claim', (o) => (o.spec?.claimRef ? `${o.spec.claimRef.namespace}/${o.spec.claimRef.name}` : '')),
    column('StorageClass', (o) => o.spec?.storageClassName ?? ''),
    column('VolumeAttributesClass', (o) => o.spec?.volumeAttributesClassName ?? '<unset>'),
    column('Reason', (o) => o.status?.reason ?? ''),
    column('VolumeMode', (o) => o.spec?.volumeMode ?? '<unset>', { wide: true }),
  ),
  defaults(o) {
    o.spec ??= {};
    setDefaultText(o.spec, 'persistentVolumeReclaimPolicy', 'Retain');
    setDefaultText(o.spec, 'volumeMode', 'Filesystem');
    if (o.spec.hostPath) setDefault(o.spec.hostPath, 'type', '');
    defaultQuantities(o.spec.capacity);
  },
  prepareCreate(o) {
    o.status = { phase: 'Pending' };
  },
  prepareUpdate: resetStatus,
  validate: validateVolume,
});

const replicationControllers = define<ReplicationController>('ReplicationController', 'replicationcontrollers', {
  shortNames: ['rc'],
  categories: ['all'],
  hasGeneration: true,
  subresources: { status: statusSubresource, scale: scaleSubresource },
  scale: { specPath: 'spec.replicas', statusPath: 'status.replicas', selectorPath: 'spec.selector' },
  selectableFields: field('status.replicas'),
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
  validate(o, errors) {
    validateTemplate(o.spec?.template, 'spec.template', errors);
  },
});

export const coreKinds: readonly KindRecord[] = [
  define<Binding>('Binding', 'bindings', { verbs: ['create'] }),
  define<ComponentStatus>('ComponentStatus', 'componentstatuses', {
    deprecation: 'v1 ComponentStatus is deprecated in v1.19+',
    scoped: 'Cluster',
    shortNames: ['cs'],
    verbs: ['get', 'list'],
    columns: columns<ComponentStatus>(
      column('Status', (o) => (o.conditions?.[0]?.status === 'True' ? 'Healthy' : 'Unhealthy')),
      column('Message', (o) => o.conditions?.[0]?.message ?? ''),
      column('Error', (o) => o.conditions?.[0]?.error ?? ''),
    ).filter((c) => c.name !== 'Age'),
  }),
  define<ConfigMap>('ConfigMap', 'configmaps', {
    shortNames: ['cm'],
    columns: columns(
      column('Data', (o) => String(Object.keys(o.data ?? {}).length + Object.keys(o.binaryData ?? {}).length)),
    ),
    validate: validateConfigData,
  }),
  define<Endpoints>('Endpoints', 'endpoints', {
    deprecation: 'v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice',
    singular: 'endpoints',
    listKind: 'EndpointsList',
    shortNames: ['ep'],
    columns: columns(column('Endpoints', endpointsText)),
    validate: validateEndpoints,
  }),
  events,
  define<LimitRange>('LimitRange', 'limitranges', {
    shortNames: ['limits'],
    columns: [
      column('Name', (o) => o.metadata.name),
      { name: 'Created At', type: 'date', value: (o) => o.metadata.creationTimestamp },
    ],
    validate: validateLimitRange,
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
  define<Namespace>('Namespace', 'namespaces', {
    scoped: 'Cluster',
    shortNames: ['ns'],
    nameForm: 'label',
    verbs: ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch'],
    subresources: { finalize: { verbs: ['update'] }, status: statusSubresource },
    selectableFields: { 'status.phase': pathText('status.phase'), name: pathText('metadata.name') },
    columns: columns(column('Status', (o) => o.status?.phase)),
    defaults(o) {
      const metadata = (o.metadata ??= {});
      metadata.labels = { ...metadata.labels, 'kubernetes.io/metadata.name': metadata.name ?? '' };
    },
    prepareCreate(o) {
      o.status = { phase: 'Active' };
      const spec = (o.spec ??= {});
      spec.finalizers = [...new Set([...(spec.finalizers ?? []), 'kubernetes'])];
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
  define<PodTemplate>('PodTemplate', 'podtemplates', {
    columns: agelessColumns(
      column('Containers', (o) => (o.template?.spec?.containers ?? []).map((c) => c.name).join(',')),
      column('Images', (o) => (o.template?.spec?.containers ?? []).map((c) => c.image).join(',')),
      column('Pod Labels', (o) => formatMap(o.template?.metadata?.labels)),
    ),
    defaults(o) {
      defaultTemplate(o.template);
    },
  }),
  replicationControllers,
  define<ResourceQuota>('ResourceQuota', 'resourcequotas', {
    shortNames: ['quota'],
    subresources: status,
    validate: validateQuota,
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
  define<Secret>('Secret', 'secrets', {
    columns: columns(
      column('Type', (o) => o.type),
      column('Data', (o) => Object.keys(o.data ?? {}).length),
    ),
    selectableFields: field('type'),
    validate: validateSecret,
    defaults(o) {
      setDefaultText(o, 'type', 'Opaque');
      foldStringData(o);
    },
  }),
  define<ServiceAccount>('ServiceAccount', 'serviceaccounts', {
    shortNames: ['sa'],
    columns: columns(),
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
  if (all.length === 0) return '<none>';
  return all.length > 3 ? `${all.slice(0, 3).join(',')} + ${all.length - 3} more...` : all.join(',');
}
