/** Validation of apps: workloads that make Pods of a template. */
import type {
  ControllerRevision,
  DaemonSet,
  Deployment,
  ReplicaSet,
  RollingUpdateDeployment,
  StatefulSet,
  StatefulSetSpec,
} from '#api/apps.v1.ts';
import type { PodTemplateSpec, ReplicationController } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { LabelSelector } from '#api/meta.v1.ts';
import { matchesSelectorObject } from '#base/selectors.ts';
import { isObject } from '#base/unknown.ts';
import type { FieldErrors } from './field-errors.ts';
import { nonNegative, sameJson, unchanged } from './validate-values.ts';
import { labelProblem } from './name-forms.ts';
import { validateClaimSpec } from './validate-claim.ts';
import { validateTemplate } from './validate-pod.ts';
import { validateLabelSelector } from './validate-selector.ts';

/** What validations of workloads have in common. */
type WorkloadSpec = Pick<StatefulSetSpec, 'selector' | 'template'>;

/** What a selector does with its template. */
type SelectorState = 'absent' | 'wrong' | 'empty' | 'good';

function validateSelector(spec: Draft<WorkloadSpec>, kind: string, errors: FieldErrors): SelectorState {
  const { selector } = spec;
  if (selector === undefined || selector === null) {
    errors.required('spec.selector');
    return 'absent';
  }
  const before = errors.causes.length;
  validateLabelSelector(selector, 'spec.selector', errors);
  const isWrong = errors.causes.length > before;
  const isEmpty = Object.keys(selector.matchLabels ?? {}).length + (selector.matchExpressions ?? []).length === 0;
  if (isEmpty) errors.invalid('spec.selector', selector, `empty selector is invalid for ${kind}`);
  return isWrong ? 'wrong' : isEmpty ? 'empty' : 'good';
}

function matchTemplate({ selector, template }: Draft<WorkloadSpec>, state: SelectorState, errors: FieldErrors): void {
  const labels = template?.metadata?.labels ?? {};
  if (state === 'absent' || (state === 'good' && selector !== undefined && !matchesSelectorObject(selector, labels)))
    errors.invalid('spec.template.metadata.labels', labels, '`selector` does not match template `labels`');
}

/** Of a Deployment, ReplicaSet or StatefulSet: with a wrong selector the template is not looked at. */
function validateSelecting(
  spec: Draft<WorkloadSpec>,
  kind: string,
  errors: FieldErrors,
  template: Draft<PodTemplateSpec> | undefined = spec.template,
): void {
  const state = validateSelector(spec, kind, errors);
  if (state === 'wrong') {
    errors.invalid('spec.selector', spec.selector, 'invalid label selector');
    return;
  }
  matchTemplate(spec, state, errors);
  validateTemplate(template ?? {}, 'spec.template', errors);
}

function alwaysRestarts(spec: Draft<WorkloadSpec>, errors: FieldErrors): void {
  const policy = spec.template?.spec?.restartPolicy;
  if (policy !== undefined && policy !== 'Always')
    errors.unsupported('spec.template.spec.restartPolicy', policy, ['Always']);
  if (spec.template?.spec?.activeDeadlineSeconds !== undefined)
    errors.forbidden(
      'spec.template.spec.activeDeadlineSeconds',
      'activeDeadlineSeconds in ReplicaSet is not Supported',
    );
}

export function validateIntOrPercent(value: unknown, at: string, errors: FieldErrors): void {
  if (value === undefined || value === null) return;
  if (typeof value === 'number') nonNegative(value, at, errors);
  else if (!/^[0-9]+%$/.test(String(value)))
    errors.invalid(
      at,
      value,
      "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
    );
}

const isZero = (value: unknown): boolean => value === 0 || value === '0%';

function validateRolling(rolling: Draft<RollingUpdateDeployment> | undefined, at: string, errors: FieldErrors): void {
  if (!rolling) return;
  validateIntOrPercent(rolling.maxUnavailable, `${at}.maxUnavailable`, errors);
  validateIntOrPercent(rolling.maxSurge, `${at}.maxSurge`, errors);
  if (isZero(rolling.maxUnavailable) && isZero(rolling.maxSurge))
    errors.invalid(`${at}.maxUnavailable`, rolling.maxUnavailable, 'may not be 0 when `maxSurge` is 0');
  if (typeof rolling.maxUnavailable === 'string' && parseInt(rolling.maxUnavailable, 10) > 100)
    errors.invalid(`${at}.maxUnavailable`, rolling.maxUnavailable, 'must not be greater than 100%');
}

export function validateDeployment(o: Draft<Deployment>, errors: FieldErrors): void {
  const spec = o.spec ?? {};
  nonNegative(spec.replicas, 'spec.replicas', errors);
  nonNegative(spec.minReadySeconds, 'spec.minReadySeconds', errors);
  nonNegative(spec.revisionHistoryLimit, 'spec.revisionHistoryLimit', errors);
  validateSelecting(spec, 'deployment', errors);
  alwaysRestarts(spec, errors);
  const type = spec.strategy?.type;
  if (!['Recreate', 'RollingUpdate'].includes(type ?? ''))
    errors.unsupported('spec.strategy', spec.strategy ?? {}, ['Recreate', 'RollingUpdate']);
  if (type === 'Recreate' && spec.strategy?.rollingUpdate)
    errors.forbidden('spec.strategy.rollingUpdate', "may not be specified when strategy `type` is 'Recreate'");
  if (type === 'RollingUpdate') validateRolling(spec.strategy?.rollingUpdate, 'spec.strategy.rollingUpdate', errors);
  if (spec.progressDeadlineSeconds !== undefined && spec.progressDeadlineSeconds <= (spec.minReadySeconds ?? 0))
    errors.invalid(
      'spec.progressDeadlineSeconds',
      spec.progressDeadlineSeconds,
      'must be greater than minReadySeconds',
    );
}

export function validateReplicaSet(o: Draft<ReplicaSet>, errors: FieldErrors): void {
  nonNegative(o.spec?.replicas, 'spec.replicas', errors);
  nonNegative(o.spec?.minReadySeconds, 'spec.minReadySeconds', errors);
  validateSelecting(o.spec ?? {}, 'replicaset', errors);
  alwaysRestarts(o.spec ?? {}, errors);
}

export function validateDaemonSet(o: Draft<DaemonSet>, errors: FieldErrors): void {
  matchTemplate(o.spec ?? {}, validateSelector(o.spec ?? {}, 'daemonset', errors), errors);
  validateTemplate(o.spec?.template ?? {}, 'spec.template', errors);
  alwaysRestarts(o.spec ?? {}, errors);
  nonNegative(o.spec?.minReadySeconds, 'spec.minReadySeconds', errors);
  if (!['OnDelete', 'RollingUpdate'].includes(o.spec?.updateStrategy?.type ?? ''))
    errors.unsupported('spec.updateStrategy', o.spec?.updateStrategy ?? {}, ['OnDelete', 'RollingUpdate']);
  else if (o.spec?.updateStrategy?.type === 'RollingUpdate') {
    const rolling = o.spec.updateStrategy.rollingUpdate;
    validateRolling(rolling, 'spec.updateStrategy.rollingUpdate', errors);
    const both = rolling && [rolling.maxSurge ?? 0, rolling.maxUnavailable ?? 0].every((value) => !isZero(value));
    if (both)
      errors.invalid(
        'spec.updateStrategy.rollingUpdate.maxSurge',
        rolling.maxSurge,
        'may not be set when maxUnavailable is non-zero',
      );
  }
}

export function validateStatefulSet(o: Draft<StatefulSet>, errors: FieldErrors): void {
  const spec = o.spec ?? {};
  nonNegative(spec.replicas, 'spec.replicas', errors);
  nonNegative(spec.minReadySeconds, 'spec.minReadySeconds', errors);
  if (!['OrderedReady', 'Parallel'].includes(spec.podManagementPolicy ?? ''))
    errors.invalid('spec.podManagementPolicy', spec.podManagementPolicy, "must be 'OrderedReady' or 'Parallel'");
  if (!['OnDelete', 'RollingUpdate'].includes(spec.updateStrategy?.type ?? ''))
    errors.invalid('spec.updateStrategy', spec.updateStrategy, "must be 'RollingUpdate' or 'OnDelete'");
  const rolling = spec.updateStrategy?.rollingUpdate;
  if (rolling && spec.updateStrategy?.type === 'OnDelete')
    errors.invalid('spec.updateStrategy.rollingUpdate', rolling, "only allowed for updateStrategy 'RollingUpdate'");
  nonNegative(rolling?.partition, 'spec.updateStrategy.rollingUpdate.partition', errors);
  nonNegative(spec.ordinals?.start, 'spec.ordinals.start', errors);
  for (const when of ['whenDeleted', 'whenScaled'] as const) {
    const value: unknown = spec.persistentVolumeClaimRetentionPolicy?.[when];
    if (value && value !== 'Delete' && value !== 'Retain')
      errors.unsupported(`spec.persistentVolumeClaimRetentionPolicy.${when}`, value, ['Delete', 'Retain']);
  }
  (spec.volumeClaimTemplates ?? []).forEach((claim, i) => {
    validateClaimSpec(claim.spec ?? {}, `spec.volumeClaimTemplates[${i}].spec`, errors);
  });
  const problem = spec.serviceName ? labelProblem(spec.serviceName) : '';
  if (problem !== '') errors.invalid('spec.serviceName', spec.serviceName, problem);
  validateIntOrPercent(rolling?.maxUnavailable, 'spec.updateStrategy.rollingUpdate.maxUnavailable', errors);
  validateSelecting(spec, 'statefulset', errors, withClaims(spec));
  alwaysRestarts(spec, errors);
}

/** The template with the claims' volumes, which the mounts may name. */
function withClaims(spec: Draft<StatefulSetSpec>): Draft<PodTemplateSpec> | undefined {
  if (!spec.template || (spec.volumeClaimTemplates ?? []).length === 0) return spec.template;
  const names = new Set((spec.volumeClaimTemplates ?? []).map((c) => c.metadata?.name ?? ''));
  const volumes = (spec.template.spec?.volumes ?? []).filter((v) => !names.has(v.name ?? ''));
  return {
    ...spec.template,
    spec: {
      ...spec.template.spec,
      volumes: [...volumes, ...[...names].map((name) => ({ name, persistentVolumeClaim: { claimName: name } }))],
    },
  };
}

export function validateStatefulSetUpdate(o: Draft<StatefulSet>, old: StatefulSet, errors: FieldErrors): void {
  for (const field of ['selector', 'volumeClaimTemplates', 'serviceName', 'podManagementPolicy'] as const)
    unchanged(o.spec?.[field], old.spec[field], `spec.${field}`, errors);
}

export function validateReplicationController(o: Draft<ReplicationController>, errors: FieldErrors): void {
  const { selector = {}, template, replicas, minReadySeconds } = o.spec ?? {};
  nonNegative(replicas, 'spec.replicas', errors);
  nonNegative(minReadySeconds, 'spec.minReadySeconds', errors);
  const labels = template?.metadata?.labels ?? {};
  if (Object.keys(selector).length === 0) errors.required('spec.selector');
  if (template === undefined) {
    errors.required('spec.template');
    return;
  }
  if (Object.entries(selector).some(([key, value]) => labels[key] !== value))
    errors.invalid('spec.template.metadata.labels', labels, '`selector` does not match template `labels`');
  validateTemplate(template, 'spec.template', errors);
  alwaysRestarts({ template }, errors);
}

export function validateRevision(o: Draft<ControllerRevision>, errors: FieldErrors, old?: ControllerRevision): void {
  if (old === undefined && (o.data === undefined || o.data === null)) errors.required('data', 'data is mandatory');
  else if (old === undefined && !isObject(o.data)) errors.required('data', 'data must be a valid JSON object');
  if ((o.revision ?? 0) < 0) errors.invalid('revision', o.revision, 'must be greater than or equal to 0');
  if (old !== undefined) unchanged(o.data, old.data, 'data', errors);
}

interface Selecting {
  spec?: { selector?: Draft<LabelSelector> };
}

export function validateSelectorUnchanged(o: Selecting, old: Selecting, errors: FieldErrors): void {
  if (!sameJson(o.spec?.selector, old.spec?.selector))
    errors.invalid('spec.selector', o.spec?.selector, 'field is immutable');
}
