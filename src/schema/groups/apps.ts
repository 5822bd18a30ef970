/** apps/v1: workloads. */
import type { Json } from '#base/objects.ts';
import { defaultClaim, defaultTemplate, setDefault, setDefaultText } from '../defaults.ts';
import { column, columns, defineKind, formatSelector, pathText, scaleSubresource, statusSubresource } from '../kind.ts';
import type { Column, KindOptions, KindRecord } from '../kind.ts';
import { resetStatus } from '../strategy.ts';
import {
  validateDaemonSet,
  validateDeployment,
  validateReplicaSet,
  validateSelectorUnchanged,
  validateStatefulSet,
  validateStatefulSetUpdate,
} from '../validate-apps.ts';

const define = (kind: string, resource: string, options?: KindOptions): KindRecord =>
  defineKind('apps', 'v1', kind, resource, options);
const both = { status: statusSubresource, scale: scaleSubresource };
const scale = { specPath: 'spec.replicas', statusPath: 'status.replicas', selectorPath: 'spec.selector' };
const count = (name: string, read: (o: Json) => number | undefined): Column =>
  column(name, (o) => read(o) ?? 0, { type: 'integer' });

export const templateColumns = (read: (o: Json) => Json = (o) => o.spec?.template?.spec): Column[] => [
  column('Containers', (o) => (read(o)?.containers ?? []).map((c: Json) => c.name).join(','), { wide: true }),
  column('Images', (o) => (read(o)?.containers ?? []).map((c: Json) => c.image).join(','), { wide: true }),
];
const selector = column('Selector', (o) => formatSelector(o.spec?.selector), { wide: true });

const deployments = define('Deployment', 'deployments', {
  shortNames: ['deploy'],
  categories: ['all'],
  subresources: both,
  scale,
  hasGeneration: true,
  columns: columns(
    column('Ready', (o) => `${o.status?.readyReplicas ?? 0}/${o.spec?.replicas ?? 0}`),
    column('Up-to-date', (o) => o.status?.updatedReplicas ?? 0),
    column('Available', (o) => o.status?.availableReplicas ?? 0),
    ...templateColumns(),
    selector,
  ),
  defaults(o) {
    const spec = (o.spec ??= {});
    setDefault(spec, 'replicas', 1);
    spec.strategy ??= {};
    setDefaultText(spec.strategy, 'type', 'RollingUpdate');
    if (spec.strategy.type === 'RollingUpdate') {
      spec.strategy.rollingUpdate ??= {};
      setDefault(spec.strategy.rollingUpdate, 'maxUnavailable', '25%');
      setDefault(spec.strategy.rollingUpdate, 'maxSurge', '25%');
    }
    setDefault(spec, 'revisionHistoryLimit', 10);
    setDefault(spec, 'progressDeadlineSeconds', 600);
    defaultTemplate(spec.template);
  },
  prepareCreate(o) {
    o.status = {};
  },
  prepareUpdate: resetStatus,
  validate: validateDeployment,
  validateUpdate: validateSelectorUnchanged,
});

const replicaSets = define('ReplicaSet', 'replicasets', {
  shortNames: ['rs'],
  categories: ['all'],
  subresources: both,
  scale,
  hasGeneration: true,
  selectableFields: { 'status.replicas': pathText('status.replicas') },
  columns: columns(
    count('Desired', (o) => o.spec?.replicas),
    count('Current', (o) => o.status?.replicas),
    count('Ready', (o) => o.status?.readyReplicas),
    ...templateColumns(),
    selector,
  ),
  defaults(o) {
    o.spec ??= {};
    setDefault(o.spec, 'replicas', 1);
    if (o.spec.template !== undefined) defaultTemplate(o.spec.template);
  },
  prepareCreate(o) {
    o.status = { replicas: 0 };
  },
  prepareUpdate: resetStatus,
  validate: validateReplicaSet,
  validateUpdate: validateSelectorUnchanged,
});

const statefulSets = define('StatefulSet', 'statefulsets', {
  shortNames: ['sts'],
  categories: ['all'],
  subresources: both,
  scale,
  hasGeneration: true,
  columns: columns(
    column('Ready', (o) => `${o.status?.readyReplicas ?? 0}/${o.spec?.replicas ?? 0}`),
    ...templateColumns(),
  ),
  defaults(o) {
    const spec = (o.spec ??= {});
    setDefaultText(spec, 'podManagementPolicy', 'OrderedReady');
    spec.updateStrategy ??= {};
    setDefaultText(spec.updateStrategy, 'type', 'RollingUpdate');
    if (spec.updateStrategy.type === 'RollingUpdate') {
      spec.updateStrategy.rollingUpdate ??= {};
      setDefault(spec.updateStrategy.rollingUpdate, 'partition', 0);
    }
    spec.persistentVolumeClaimRetentionPolicy ??= {};
    setDefaultText(spec.persistentVolumeClaimRetentionPolicy, 'whenDeleted', 'Retain');
    setDefaultText(spec.persistentVolumeClaimRetentionPolicy, 'whenScaled', 'Retain');
    setDefault(spec, 'replicas', 1);
    setDefault(spec, 'revisionHistoryLimit', 10);
    defaultTemplate(spec.template);
    for (const claim of spec.volumeClaimTemplates ?? []) {
      claim.apiVersion ??= 'v1';
      claim.kind ??= 'PersistentVolumeClaim';
      defaultClaim(claim);
      claim.status ??= {};
      setDefaultText(claim.status, 'phase', 'Pending');
    }
  },
  prepareCreate(o) {
    o.status = { replicas: 0, availableReplicas: 0 };
  },
  prepareUpdate: resetStatus,
  validate: validateStatefulSet,
  validateUpdate: validateStatefulSetUpdate,
});

const daemonSets = define('DaemonSet', 'daemonsets', {
  shortNames: ['ds'],
  categories: ['all'],
  subresources: { status: statusSubresource },
  hasGeneration: true,
  columns: columns(
    count('Desired', (o) => o.status?.desiredNumberScheduled),
    count('Current', (o) => o.status?.currentNumberScheduled),
    count('Ready', (o) => o.status?.numberReady),
    count('Up-to-date', (o) => o.status?.updatedNumberScheduled),
    count('Available', (o) => o.status?.numberAvailable),
    column('Node Selector', (o) => {
      const m = Object.entries(o.spec?.template?.spec?.nodeSelector ?? {})
        .map(([k, v]) => `${k}=${String(v)}`)
        .join(',');
      return m === '' ? '<none>' : m;
    }),
    ...templateColumns(),
    selector,
  ),
  defaults(o) {
    const spec = (o.spec ??= {});
    spec.updateStrategy ??= {};
    setDefaultText(spec.updateStrategy, 'type', 'RollingUpdate');
    if (spec.updateStrategy.type === 'RollingUpdate') {
      spec.updateStrategy.rollingUpdate ??= {};
      setDefault(spec.updateStrategy.rollingUpdate, 'maxUnavailable', 1);
      setDefault(spec.updateStrategy.rollingUpdate, 'maxSurge', 0);
    }
    setDefault(spec, 'revisionHistoryLimit', 10);
    defaultTemplate(spec.template);
  },
  prepareCreate(o) {
    o.status = { currentNumberScheduled: 0, numberMisscheduled: 0, desiredNumberScheduled: 0, numberReady: 0 };
  },
  prepareUpdate: resetStatus,
  validate: validateDaemonSet,
  validateUpdate: validateSelectorUnchanged,
});

export const appsKinds: readonly KindRecord[] = [
  define('ControllerRevision', 'controllerrevisions', {
    columns: columns(
      column('Controller', (o) => {
        const c = (o.metadata.ownerReferences ?? []).find((r) => r.controller === true);
        return c === undefined ? '<none>' : `${c.kind.toLowerCase()}.${c.apiVersion.split('/')[0]}/${c.name}`;
      }),
      column('Revision', (o) => o.revision),
    ),
  }),
  daemonSets,
  deployments,
  replicaSets,
  statefulSets,
];
