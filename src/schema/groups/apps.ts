/** apps/v1: workloads. */
import type { DaemonSet, Deployment, ReplicaSet, StatefulSet } from '#api/apps.v1.ts';
import type { PodTemplateSpec } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { LabelSelector } from '#api/meta.v1.ts';
import { kinds } from '#base/kinds.ts';
import type { KubeObject } from '#base/objects.ts';
import { defaultClaim, defaultTemplate, setDefault, setDefaultText } from '../defaults.ts';
import type { Column, KindRecord } from '../kind.ts';
import { column, columns, defineKind, formatSelector, pathText, scaleSubresource, statusSubresource } from '../kind.ts';
import { resetStatus } from '../strategy.ts';
import {
  validateDaemonSet,
  validateDeployment,
  validateReplicaSet,
  validateRevision,
  validateSelectorUnchanged,
  validateStatefulSet,
  validateStatefulSetUpdate,
} from '../validate-apps.ts';
import { warnOfTemplate } from '../warn-pod.ts';
import {
  daemonSetCounts,
  deploymentCounts,
  replicaSetCounts,
  statefulSetCounts,
  validateCounts,
} from '../validate-counts.ts';
import { sameJson } from '../validate-values.ts';

const both = { status: statusSubresource, scale: scaleSubresource };
const scale = { specPath: 'spec.replicas', statusPath: 'status.replicas', selectorPath: 'spec.selector' };
const count = <T extends KubeObject>(name: string, read: (o: T) => number | undefined): Column<T> =>
  column(name, (o) => read(o) ?? 0, { type: 'integer' });

/** What an object of the kind makes Pods from. */
type TemplateOf<T> = (o: T) => PodTemplateSpec | undefined;

export const templateColumns = <T extends KubeObject>(read: TemplateOf<T>): Column<T>[] => [
  column('Containers', (o) => (read(o)?.spec?.containers ?? []).map((c) => c.name).join(','), { wide: true }),
  column('Images', (o) => (read(o)?.spec?.containers ?? []).map((c) => c.image).join(','), { wide: true }),
];
const selector = <T extends KubeObject & { spec: { selector: LabelSelector } }>(): Column<T> =>
  column('Selector', (o) => formatSelector(o.spec?.selector), { wide: true });

const deployments = defineKind(kinds.Deployment, {
  warn: warnOfTemplate((o) => o.spec?.template, { namesPods: true }),
  statusKeeps: ['labels'],
  shortNames: ['deploy'],
  categories: ['all'],
  subresources: both,
  scale,
  hasGeneration: true,
  columns: columns(
    column('Ready', (o) => `${o.status?.readyReplicas ?? 0}/${o.spec?.replicas ?? 0}`),
    column('Up-to-date', (o) => o.status?.updatedReplicas ?? 0),
    column('Available', (o) => o.status?.availableReplicas ?? 0),
    ...templateColumns<Deployment>((o) => o.spec?.template),
    selector(),
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
  validateStatus: validateCounts(deploymentCounts),
  validateUpdate: validateSelectorUnchanged,
});

const replicaSets = defineKind(kinds.ReplicaSet, {
  warn: warnOfTemplate((o) => o.spec?.template, { namesPods: true }),
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
    ...templateColumns<ReplicaSet>((o) => o.spec?.template),
    selector(),
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
  validateStatus: validateCounts(replicaSetCounts),
  validateUpdate: validateSelectorUnchanged,
});

const statefulSets = defineKind(kinds.StatefulSet, {
  warn: warnOfTemplate((o) => o.spec?.template),
  shortNames: ['sts'],
  nameForm: 'label',
  categories: ['all'],
  subresources: both,
  scale,
  hasGeneration: true,
  columns: columns(
    column('Ready', (o) => `${o.status?.readyReplicas ?? 0}/${o.spec?.replicas ?? 0}`),
    ...templateColumns<StatefulSet>((o) => o.spec?.template),
  ),
  defaults(o) {
    const spec = (o.spec ??= {});
    setDefaultText(spec, 'podManagementPolicy', 'OrderedReady');
    const strategy = (spec.updateStrategy ??= {});
    if (!strategy.type) {
      strategy.type = 'RollingUpdate';
      strategy.rollingUpdate ??= {};
    }
    if (strategy.type === 'RollingUpdate' && strategy.rollingUpdate) {
      setDefault(strategy.rollingUpdate, 'partition', 0);
      setDefault(strategy.rollingUpdate, 'maxUnavailable', 1);
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
  validateStatus: validateCounts(statefulSetCounts),
  validateUpdate: validateStatefulSetUpdate,
});

/** A field of the first versions of DaemonSets, kept as an annotation. */
const templateGeneration = 'deprecated.daemonset.template.generation';

function setTemplateGeneration(o: Draft<DaemonSet>, value: string): void {
  const metadata = (o.metadata ??= {});
  metadata.annotations = { ...metadata.annotations, [templateGeneration]: value };
}

const daemonSets = defineKind(kinds.DaemonSet, {
  warn: warnOfTemplate((o) => o.spec?.template),
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
    ...templateColumns<DaemonSet>((o) => o.spec?.template),
    selector(),
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
    setTemplateGeneration(o, o.metadata?.annotations?.[templateGeneration] ?? '0');
  },
  prepareCreate(o) {
    o.status = { currentNumberScheduled: 0, numberMisscheduled: 0, desiredNumberScheduled: 0, numberReady: 0 };
    setTemplateGeneration(o, '1');
  },
  defaultStatus(_status, o) {
    setTemplateGeneration(o, o.metadata?.annotations?.[templateGeneration] ?? '0');
  },
  prepareStatus(o, old) {
    setTemplateGeneration(o, old.metadata.annotations?.[templateGeneration] ?? '0');
  },
  prepareUpdate(o, old) {
    resetStatus(o, old);
    const before = Number(old.metadata.annotations?.[templateGeneration] ?? 0);
    const isSame = sameJson(o.spec?.template, old.spec.template);
    setTemplateGeneration(o, String(isSame ? before : before + 1));
  },
  validate: validateDaemonSet,
  validateStatus: validateCounts(daemonSetCounts),
  validateUpdate: validateSelectorUnchanged,
});

export const appsKinds: readonly KindRecord[] = [
  defineKind(kinds.ControllerRevision, {
    validate: validateRevision,
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
