/** The smaller API groups, one block each. */
import type {
  MutatingWebhook,
  MutatingWebhookConfiguration,
  ValidatingAdmissionPolicy,
  ValidatingAdmissionPolicyBinding,
  ValidatingWebhookConfiguration,
} from '#api/admissionregistration.v1.ts';
import type { CustomResourceDefinition } from '#api/apiextensions.v1.ts';
import type { APIService } from '#api/apiregistration.v1.ts';
import type { SelfSubjectReview, TokenReview } from '#api/authentication.v1.ts';
import type {
  LocalSubjectAccessReview,
  SelfSubjectAccessReview,
  SelfSubjectRulesReview,
  SubjectAccessReview,
} from '#api/authorization.v1.ts';
import type { CertificateSigningRequest } from '#api/certificates.v1.ts';
import type { Lease } from '#api/coordination.v1.ts';
import type { EndpointSlice } from '#api/discovery.v1.ts';
import type { Event } from '#api/events.v1.ts';
import type { FlowSchema, PriorityLevelConfiguration, QueuingConfiguration } from '#api/flowcontrol.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { RuntimeClass } from '#api/node.v1.ts';
import type {
  DeviceClaim,
  DeviceClass,
  ResourceClaim,
  ResourceClaimTemplate,
  ResourceSlice,
} from '#api/resource.v1.ts';
import type { PriorityClass } from '#api/scheduling.v1.ts';
import type {
  CSIDriver,
  CSINode,
  CSIStorageCapacity,
  StorageClass,
  VolumeAttachment,
  VolumeAttributesClass,
} from '#api/storage.v1.ts';
import type { KubeObject, OpenObject } from '#base/objects.ts';
import { setDefault, setDefaultText, defaultQuantities } from '../defaults.ts';
import {
  ageColumn,
  agelessColumns,
  column,
  columns,
  defineKind,
  ageOf,
  pathText,
  shortDuration,
  statusSubresource,
} from '../kind.ts';
import type { KindOptions, KindRecord } from '../kind.ts';
import { resetStatus } from '../strategy.ts';
import { sameJson } from '../validate-pod.ts';
import { validateStorageClass } from '../validate-core.ts';
import {
  validateCertificateRequest,
  validateEndpointSlice,
  validateLease,
  validatePriorityClass,
  validateWebhooks,
} from '../validate-policy.ts';

const status = { status: statusSubresource };
const onlyCreate = { verbs: ['create'] };

const shownLimit = (o: PriorityLevelConfiguration, field: keyof QueuingConfiguration): number | string =>
  o.spec?.limited?.limitResponse?.queuing?.[field] ?? '<none>';
const flowSchemaColumns = columns<FlowSchema>(
  column('PriorityLevel', (o) => o.spec?.priorityLevelConfiguration?.name),
  column('MatchingPrecedence', (o) => o.spec?.matchingPrecedence, { type: 'integer' }),
  column('DistinguisherMethod', (o) => o.spec?.distinguisherMethod?.type ?? '<none>'),
  ageColumn,
  column('MissingPL', (o) => (o.status?.conditions ?? []).find((c) => c.type === 'Dangling')?.status ?? '?'),
);
const priorityLevelColumns = columns<PriorityLevelConfiguration>(
  column('Type', (o) => o.spec?.type),
  column(
    'NominalConcurrencyShares',
    (o) => o.spec?.limited?.nominalConcurrencyShares ?? o.spec?.exempt?.nominalConcurrencyShares ?? '<none>',
  ),
  column('Queues', (o) => shownLimit(o, 'queues')),
  column('HandSize', (o) => shownLimit(o, 'handSize')),
  column('QueueLengthLimit', (o) => shownLimit(o, 'queueLengthLimit')),
);

export const storageKinds: readonly KindRecord[] = [
  defineKind<CSIDriver>('storage.k8s.io', 'v1', 'CSIDriver', 'csidrivers', {
    scoped: 'Cluster',
    columns: columns(
      column('AttachRequired', (o) => o.spec?.attachRequired !== false, { type: 'boolean' }),
      column('PodInfoOnMount', (o) => o.spec?.podInfoOnMount === true, { type: 'boolean' }),
      column('StorageCapacity', (o) => o.spec?.storageCapacity === true, { type: 'boolean' }),
      column('TokenRequests', (o) => (o.spec?.tokenRequests ?? []).map((r) => r.audience).join(',') || '<unset>'),
      column('RequiresRepublish', (o) => o.spec?.requiresRepublish === true, { type: 'boolean' }),
      column('Modes', (o) => (o.spec?.volumeLifecycleModes ?? ['Persistent']).join(',')),
    ),
    defaults(o) {
      o.spec ??= {};
      setDefault(o.spec, 'attachRequired', true);
      setDefault(o.spec, 'podInfoOnMount', false);
      setDefault(o.spec, 'storageCapacity', false);
      setDefault(o.spec, 'fsGroupPolicy', 'ReadWriteOnceWithFSType');
      setDefault(o.spec, 'volumeLifecycleModes', ['Persistent']);
      setDefault(o.spec, 'requiresRepublish', false);
      setDefault(o.spec, 'seLinuxMount', false);
    },
  }),
  defineKind<CSINode>('storage.k8s.io', 'v1', 'CSINode', 'csinodes', {
    scoped: 'Cluster',
    columns: columns(column('Drivers', (o) => (o.spec?.drivers ?? []).length, { type: 'integer' })),
  }),
  defineKind<CSIStorageCapacity>('storage.k8s.io', 'v1', 'CSIStorageCapacity', 'csistoragecapacities', {
    columns: agelessColumns(
      column('StorageClassName', (o) => o.storageClassName),
      column('Capacity', (o) => o.capacity ?? '<unset>'),
    ),
  }),
  defineKind<StorageClass>('storage.k8s.io', 'v1', 'StorageClass', 'storageclasses', {
    scoped: 'Cluster',
    shortNames: ['sc'],
    validate: validateStorageClass,
    columns: columns<StorageClass>(
      column('Provisioner', (o) => o.provisioner),
      column('ReclaimPolicy', (o) => o.reclaimPolicy),
      column('VolumeBindingMode', (o) => o.volumeBindingMode),
      column('AllowVolumeExpansion', (o) => o.allowVolumeExpansion === true),
    ).map((c) =>
      c.name === 'Name'
        ? {
            ...c,
            value: (o: KubeObject) =>
              `${o.metadata.name}${o.metadata.annotations?.['storageclass.kubernetes.io/is-default-class'] === 'true' ? ' (default)' : ''}`,
          }
        : c,
    ),
    defaults(o) {
      setDefaultText(o, 'reclaimPolicy', 'Delete');
      setDefaultText(o, 'volumeBindingMode', 'Immediate');
    },
  }),
  defineKind<VolumeAttachment>('storage.k8s.io', 'v1', 'VolumeAttachment', 'volumeattachments', {
    scoped: 'Cluster',
    subresources: status,
    columns: columns(
      { ...column('Attacher', (o) => o.spec?.attacher), format: 'name' },
      column('PV', (o) => o.spec?.source?.persistentVolumeName ?? ''),
      column('Node', (o) => o.spec?.nodeName),
      column('Attached', (o) => o.status?.attached === true, { type: 'boolean' }),
    ),
    prepareCreate(o) {
      o.status = { attached: false };
    },
    prepareUpdate: resetStatus,
  }),
  defineKind<VolumeAttributesClass>('storage.k8s.io', 'v1', 'VolumeAttributesClass', 'volumeattributesclasses', {
    scoped: 'Cluster',
    shortNames: ['vac'],
    columns: columns(column('DriverName', (o) => o.driverName)),
  }),
];

export const coordinationKinds: readonly KindRecord[] = [
  defineKind<Lease>('coordination.k8s.io', 'v1', 'Lease', 'leases', {
    columns: columns(column('Holder', (o) => o.spec?.holderIdentity ?? '')),
    validate: validateLease,
  }),
];

function sliceList(items: string[], max = 3): string {
  return items.length === 0
    ? '<unset>'
    : items.length > max
      ? `${items.slice(0, max).join(',')} + ${items.length - max} more...`
      : items.join(',');
}

export const discoveryKinds: readonly KindRecord[] = [
  defineKind<EndpointSlice>('discovery.k8s.io', 'v1', 'EndpointSlice', 'endpointslices', {
    validate: validateEndpointSlice,
    columns: columns(
      column('AddressType', (o) => o.addressType),
      column('Ports', (o) => sliceList((o.ports ?? []).map((p) => String(p.port ?? '*')))),
      column('Endpoints', (o) => sliceList((o.endpoints ?? []).flatMap((e) => e.addresses ?? []))),
    ),
    defaults(o) {
      for (const port of o.ports ?? []) {
        setDefault(port, 'name', '');
        setDefaultText(port, 'protocol', 'TCP');
      }
      o.endpoints ??= [];
    },
    hasGeneration: true,
  }),
];

/** core/v1 Event ↔ events.k8s.io/v1 Event, which are one object under two names. */
function eventFromCore(o: OpenObject): OpenObject {
  const { involvedObject, source, message, firstTimestamp, lastTimestamp, count, reportingComponent, ...rest } = o;
  return {
    ...rest,
    apiVersion: 'events.k8s.io/v1',
    kind: 'Event',
    metadata: o.metadata,
    regarding: involvedObject,
    note: message,
    deprecatedSource: source,
    deprecatedFirstTimestamp: firstTimestamp,
    deprecatedLastTimestamp: lastTimestamp,
    ...(count === undefined ? {} : { deprecatedCount: count }),
    reportingController: reportingComponent,
  };
}

function eventToCore(o: OpenObject): OpenObject {
  const {
    regarding,
    note,
    deprecatedSource,
    deprecatedFirstTimestamp,
    deprecatedLastTimestamp,
    deprecatedCount,
    reportingController,
    ...rest
  } = o;
  return {
    ...rest,
    apiVersion: 'v1',
    kind: 'Event',
    metadata: o.metadata,
    involvedObject: regarding ?? {},
    source: deprecatedSource ?? {},
    firstTimestamp: deprecatedFirstTimestamp ?? null,
    lastTimestamp: deprecatedLastTimestamp ?? null,
    ...(note === undefined ? {} : { message: note }),
    ...(deprecatedCount === undefined ? {} : { count: deprecatedCount }),
    reportingComponent: reportingController ?? '',
  };
}

export const eventsKinds: readonly KindRecord[] = [
  defineKind<Event>('events.k8s.io', 'v1', 'Event', 'events', {
    shortNames: ['ev'],
    nameForm: 'path',
    storage: { group: '', resource: 'events', version: 'v1', kind: 'Event' },
    fromStored: eventFromCore,
    toStored: eventToCore,
    selectableFields: {
      'regarding.kind': pathText('involvedObject.kind'),
      'regarding.namespace': pathText('involvedObject.namespace'),
      'regarding.name': pathText('involvedObject.name'),
      'regarding.uid': pathText('involvedObject.uid'),
      'regarding.apiVersion': pathText('involvedObject.apiVersion'),
      'regarding.resourceVersion': pathText('involvedObject.resourceVersion'),
      'regarding.fieldPath': pathText('involvedObject.fieldPath'),
      reason: pathText('reason'),
      type: pathText('type'),
      reportingController: (o) => pathText('reportingComponent')(o) || pathText('source.component')(o),
    },
    columns: [
      {
        name: 'Last Seen',
        type: 'string',
        value: (o, now) => {
          const t =
            o.series?.lastObservedTime ?? o.deprecatedLastTimestamp ?? o.eventTime ?? o.deprecatedFirstTimestamp;
          return t ? shortDuration(now - Date.parse(t)) : '<unknown>';
        },
      },
      column('Type', (o) => o.type),
      column('Reason', (o) => o.reason),
      column('Object', (o) => `${String(o.regarding?.kind ?? '').toLowerCase()}/${o.regarding?.name ?? ''}`),
      column('Subobject', (o) => o.regarding?.fieldPath ?? '', { wide: true }),
      column('Source', (o) => o.reportingController || o.deprecatedSource?.component || '', { wide: true }),
      column('Message', (o) => String(o.note ?? '').trim()),
      column('First Seen', (o, now) => ageOf(o.deprecatedFirstTimestamp ?? o.eventTime ?? undefined, now), {
        wide: true,
      }),
      column('Count', (o) => String(o.series?.count ?? o.deprecatedCount ?? 1), { wide: true }),
      { ...column('Name', (o) => o.metadata.name, { wide: true }), format: 'name' },
    ],
    defaults(o) {
      setDefault(o, 'eventTime', null);
    },
  }),
];

export const authenticationKinds: readonly KindRecord[] = [
  defineKind<SelfSubjectReview>('authentication.k8s.io', 'v1', 'SelfSubjectReview', 'selfsubjectreviews', {
    scoped: 'Cluster',
    ...onlyCreate,
  }),
  defineKind<TokenReview>('authentication.k8s.io', 'v1', 'TokenReview', 'tokenreviews', {
    scoped: 'Cluster',
    ...onlyCreate,
  }),
];
export const authorizationKinds: readonly KindRecord[] = [
  defineKind<LocalSubjectAccessReview>(
    'authorization.k8s.io',
    'v1',
    'LocalSubjectAccessReview',
    'localsubjectaccessreviews',
    onlyCreate,
  ),
  defineKind<SelfSubjectAccessReview>(
    'authorization.k8s.io',
    'v1',
    'SelfSubjectAccessReview',
    'selfsubjectaccessreviews',
    {
      scoped: 'Cluster',
      ...onlyCreate,
    },
  ),
  defineKind<SelfSubjectRulesReview>(
    'authorization.k8s.io',
    'v1',
    'SelfSubjectRulesReview',
    'selfsubjectrulesreviews',
    {
      scoped: 'Cluster',
      ...onlyCreate,
    },
  ),
  defineKind<SubjectAccessReview>('authorization.k8s.io', 'v1', 'SubjectAccessReview', 'subjectaccessreviews', {
    scoped: 'Cluster',
    ...onlyCreate,
  }),
];

const api = ['api-extensions'];
export const apiextensionsKinds: readonly KindRecord[] = [
  defineKind<CustomResourceDefinition>(
    'apiextensions.k8s.io',
    'v1',
    'CustomResourceDefinition',
    'customresourcedefinitions',
    {
      scoped: 'Cluster',
      shortNames: ['crd', 'crds'],
      categories: api,
      subresources: status,
      hasGeneration: true,
      columns: [
        { name: 'Name', type: 'string', format: 'name', value: (o) => o.metadata.name },
        { name: 'Created At', type: 'date', value: (o) => o.metadata.creationTimestamp },
      ],
      defaults(o) {
        const spec = (o.spec ??= {});
        const names = (spec.names ??= {});
        if (names.kind) {
          setDefaultText(names, 'singular', names.kind.toLowerCase());
          setDefaultText(names, 'listKind', `${names.kind}List`);
        }
        spec.conversion ??= {};
        setDefaultText(spec.conversion, 'strategy', 'None');
      },
      prepareCreate(o) {
        o.status = {
          acceptedNames: { plural: '', kind: '' },
          conditions: [],
          storedVersions: (o.spec?.versions ?? []).flatMap((v) => (v.storage === true ? (v.name ?? []) : [])),
        };
      },
      prepareUpdate: resetStatus,
    },
  ),
];
export const apiregistrationKinds: readonly KindRecord[] = [
  defineKind<APIService>('apiregistration.k8s.io', 'v1', 'APIService', 'apiservices', {
    scoped: 'Cluster',
    categories: api,
    subresources: status,
    nameForm: 'path',
    columns: columns(
      column('Service', (o) => (o.spec?.service ? `${o.spec.service.namespace}/${o.spec.service.name}` : 'Local')),
      column('Available', (o) => {
        const c = (o.status?.conditions ?? []).find((x) => x.type === 'Available');
        return c === undefined ? 'Unknown' : c.status === 'True' ? 'True' : `${c.status} (${c.reason})`;
      }),
    ),
    defaults(o) {
      if (o.spec?.service) setDefault(o.spec.service, 'port', 443);
    },
    prepareCreate(o) {
      if (o.spec?.service) o.status = {};
    },
    prepareUpdate: resetStatus, // one without a Service is local: available from the start
  }),
];

function defaultWebhooks(o: Draft<MutatingWebhookConfiguration | ValidatingWebhookConfiguration>): void {
  const hooks: Draft<MutatingWebhook>[] = o.webhooks ?? [];
  for (const hook of hooks) {
    setDefaultText(hook, 'failurePolicy', 'Fail');
    setDefaultText(hook, 'matchPolicy', 'Equivalent');
    hook.namespaceSelector ??= {};
    hook.objectSelector ??= {};
    setDefault(hook, 'timeoutSeconds', 10);
    if (o.kind === 'MutatingWebhookConfiguration') setDefaultText(hook, 'reinvocationPolicy', 'Never');
    for (const rule of hook.rules ?? []) setDefaultText(rule, 'scope', '*');
    if (hook.clientConfig?.service) setDefault(hook.clientConfig.service, 'port', 443);
  }
}

function defaultAdmissionPolicy(o: Draft<ValidatingAdmissionPolicy>): void {
  const spec = (o.spec ??= {});
  setDefaultText(spec, 'failurePolicy', 'Fail');
  if (spec.matchConstraints) {
    const m = spec.matchConstraints;
    setDefaultText(m, 'matchPolicy', 'Equivalent');
    m.namespaceSelector ??= {};
    m.objectSelector ??= {};
    for (const r of m.resourceRules ?? []) setDefaultText(r, 'scope', '*');
  }
}

const webhookColumns = columns<MutatingWebhookConfiguration | ValidatingWebhookConfiguration>(
  column('Webhooks', (o) => (o.webhooks ?? []).length, { type: 'integer' }),
);
const admission = <T extends KubeObject>(kind: T['kind'], resource: string, options: KindOptions<T>): KindRecord =>
  defineKind('admissionregistration.k8s.io', 'v1', kind, resource, { scoped: 'Cluster', categories: api, ...options });
export const admissionregistrationKinds: readonly KindRecord[] = [
  admission<MutatingWebhookConfiguration>('MutatingWebhookConfiguration', 'mutatingwebhookconfigurations', {
    columns: webhookColumns,
    defaults: defaultWebhooks,
    hasGeneration: true,
    validate: validateWebhooks,
  }),
  admission<ValidatingAdmissionPolicy>('ValidatingAdmissionPolicy', 'validatingadmissionpolicies', {
    subresources: status,
    hasGeneration: true,
    defaults: defaultAdmissionPolicy,
    prepareUpdate: resetStatus,
    columns: columns(
      column('Validations', (o) => (o.spec?.validations ?? []).length, { type: 'integer' }),
      column('ParamKind', (o) =>
        o.spec?.paramKind ? `${o.spec.paramKind.apiVersion}/${o.spec.paramKind.kind}` : '<unset>',
      ),
    ),
  }),
  admission<ValidatingAdmissionPolicyBinding>('ValidatingAdmissionPolicyBinding', 'validatingadmissionpolicybindings', {
    hasGeneration: true,
    columns: columns(
      column('PolicyName', (o) => o.spec?.policyName),
      column('ParamRef', (o) =>
        o.spec?.paramRef ? `${o.spec.paramRef.namespace ?? '*'}/${o.spec.paramRef.name ?? '*'}` : '<unset>',
      ),
    ),
  }),
  admission<ValidatingWebhookConfiguration>('ValidatingWebhookConfiguration', 'validatingwebhookconfigurations', {
    columns: webhookColumns,
    defaults: defaultWebhooks,
    hasGeneration: true,
    validate: validateWebhooks,
  }),
];

export const schedulingKinds: readonly KindRecord[] = [
  defineKind<PriorityClass>('scheduling.k8s.io', 'v1', 'PriorityClass', 'priorityclasses', {
    scoped: 'Cluster',
    shortNames: ['pc'],
    hasGeneration: true,
    columns: columns<PriorityClass>(
      column('Value', (o) => o.value ?? 0, { type: 'integer' }),
      column('Global-Default', (o) => o.globalDefault === true, { type: 'boolean' }),
      ageColumn,
      column('PreemptionPolicy', (o) => o.preemptionPolicy),
    ),
    defaults(o) {
      setDefaultText(o, 'preemptionPolicy', 'PreemptLowerPriority');
      setDefault(o, 'value', 0);
    },
    validate: validatePriorityClass,
    validateUpdate(o, old, errors) {
      if (o.value !== old.value) errors.invalid('value', o.value, 'field is immutable');
      if (o.preemptionPolicy !== old.preemptionPolicy)
        errors.invalid('preemptionPolicy', o.preemptionPolicy, 'field is immutable');
    },
  }),
];
export const nodeKinds: readonly KindRecord[] = [
  defineKind<RuntimeClass>('node.k8s.io', 'v1', 'RuntimeClass', 'runtimeclasses', {
    scoped: 'Cluster',
    columns: columns(column('Handler', (o) => o.handler)),
    defaults(o) {
      defaultQuantities(o.overhead?.podFixed);
    },
  }),
];

function requestCondition(o: CertificateSigningRequest): string {
  const conditions = o.status?.conditions ?? [];
  const out: string[] = [];
  if (conditions.some((c) => c.type === 'Denied')) out.push('Denied');
  else if (conditions.some((c) => c.type === 'Approved')) out.push('Approved');
  if (conditions.some((c) => c.type === 'Failed')) out.push('Failed');
  if (o.status?.certificate) out.push('Issued');
  return out.length === 0 ? 'Pending' : out.join(',');
}

export const certificatesKinds: readonly KindRecord[] = [
  defineKind<CertificateSigningRequest>(
    'certificates.k8s.io',
    'v1',
    'CertificateSigningRequest',
    'certificatesigningrequests',
    {
      scoped: 'Cluster',
      shortNames: ['csr'],
      validate: validateCertificateRequest,
      subresources: { approval: statusSubresource, status: statusSubresource },
      selectableFields: { 'spec.signerName': pathText('spec.signerName') },
      columns: [
        { name: 'Name', type: 'string', format: 'name', value: (o) => o.metadata.name },
        {
          name: 'Age',
          type: 'string',
          value: (o, now) => shortDuration(now - Date.parse(o.metadata.creationTimestamp ?? '')),
        },
        column('SignerName', (o) => o.spec?.signerName ?? '<none>'),
        column('Requestor', (o) => o.spec?.username ?? ''),
        column('RequestedDuration', (o) =>
          o.spec?.expirationSeconds ? shortDuration(o.spec.expirationSeconds * 1000) : '<none>',
        ),
        column('Condition', requestCondition),
      ],
      defaults(o) {
        if (o.spec) setDefault(o.spec, 'usages', ['digital signature', 'key encipherment']);
      },
      prepareCreate(o) {
        o.status = {};
      },
      prepareUpdate(o, old) {
        o.spec = structuredClone(old.spec);
        resetStatus(o, old);
      },
    },
  ),
];

export const flowcontrolKinds: readonly KindRecord[] = [
  defineKind<FlowSchema>('flowcontrol.apiserver.k8s.io', 'v1', 'FlowSchema', 'flowschemas', {
    scoped: 'Cluster',
    subresources: status,
    hasGeneration: true,
    columns: flowSchemaColumns,
    defaults(o) {
      if (o.spec) setDefault(o.spec, 'matchingPrecedence', 1000);
    },
    prepareUpdate: resetStatus,
  }),
  defineKind<PriorityLevelConfiguration>(
    'flowcontrol.apiserver.k8s.io',
    'v1',
    'PriorityLevelConfiguration',
    'prioritylevelconfigurations',
    {
      scoped: 'Cluster',
      subresources: status,
      hasGeneration: true,
      columns: priorityLevelColumns,
      prepareUpdate: resetStatus,
    },
  ),
];

export const resourceKinds: readonly KindRecord[] = [
  defineKind<DeviceClass>('resource.k8s.io', 'v1', 'DeviceClass', 'deviceclasses', {
    scoped: 'Cluster',
    hasGeneration: true,
    columns: columns(),
  }),
  defineKind<ResourceClaim>('resource.k8s.io', 'v1', 'ResourceClaim', 'resourceclaims', {
    subresources: status,
    columns: columns(column('State', (o) => claimState(o))),
    prepareCreate(o) {
      o.status = {};
    },
    prepareUpdate: resetStatus,
    defaults(o) {
      defaultRequests(o.spec?.devices);
    },
    validateUpdate(o, old, errors) {
      if (!sameJson(o.spec, old.spec)) errors.invalid('spec', o.spec, 'field is immutable');
    },
  }),
  defineKind<ResourceClaimTemplate>('resource.k8s.io', 'v1', 'ResourceClaimTemplate', 'resourceclaimtemplates', {
    columns: columns(),
    defaults(o) {
      defaultRequests(o.spec?.spec?.devices);
    },
  }),
  defineKind<ResourceSlice>('resource.k8s.io', 'v1', 'ResourceSlice', 'resourceslices', {
    scoped: 'Cluster',
    hasGeneration: true,
    columns: columns(
      column('Node', (o) => o.spec?.nodeName ?? ''),
      column('Driver', (o) => o.spec?.driver),
      column('Pool', (o) => o.spec?.pool?.name),
    ),
    selectableFields: { 'spec.nodeName': pathText('spec.nodeName'), 'spec.driver': pathText('spec.driver') },
  }),
];

function claimState(o: ResourceClaim): string {
  const states = [
    ...(o.metadata.deletionTimestamp ? ['deleted'] : []),
    ...(o.status?.allocation === undefined ? [] : ['allocated']),
    ...((o.status?.reservedFor ?? []).length > 0 ? ['reserved'] : []),
  ];
  return states.length === 0 ? 'pending' : states.join(',');
}

function defaultRequests(devices: Draft<DeviceClaim> | undefined): void {
  for (const request of devices?.requests ?? [])
    if (request.exactly) {
      setDefaultText(request.exactly, 'allocationMode', 'ExactCount');
      if (request.exactly.allocationMode === 'ExactCount') setDefault(request.exactly, 'count', 1);
    }
}
