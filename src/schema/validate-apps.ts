/** Validation of apps: workloads that make Pods of a template. */
import type {
  ControllerRevision,
  DaemonSet,
  DaemonSetUpdateStrategy,
  Deployment,
  DeploymentStrategy,
  ReplicaSet,
  StatefulSet,
  StatefulSetSpec,
  StatefulSetUpdateStrategy,
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
  if (selector === undefined || selector === null) return 'absent';
  const isRight = validateLabelSelector(selector, 'spec.selector', errors);
  const isEmpty = Object.keys(selector.matchLabels ?? {}).length + (selector.matchExpressions ?? []).length === 0;
  if (isEmpty) errors.invalid('spec.selector', selector, `empty selector is invalid for ${kind}`);
  return !isRight ? 'wrong' : isEmpty ? 'empty' : 'good';
}

function matchTemplate({ selector, template }: Draft<WorkloadSpec>, state: SelectorState, errors: FieldErrors): void {
  const labels = template?.metadata?.labels;
  if (state === 'absent' || (state === 'good' && !matchesSelectorObject(selector, labels ?? {})))
    errors.invalid('spec.template.metadata.labels', labels ?? null, '`selector` does not match template `labels`');
}

/** How a workload selects, and how the messages call it. */
interface Selecting extends Draft<WorkloadSpec> {
  kind: 'deployment' | 'statefulset';
}

/** Of a Deployment, ReplicaSet or StatefulSet: with a wrong selector the template is not looked at. */
function validateSelecting(spec: Selecting, template: Draft<PodTemplateSpec> | undefined, errors: FieldErrors): void {
  if (!spec.selector) errors.required('spec.selector');
  const state = validateSelector(spec, spec.kind, errors);
  if (state === 'wrong') {
    errors.invalid('spec.selector', spec.selector, spec.kind === 'statefulset' ? '' : 'invalid label selector');
    return;
  }
  matchTemplate(spec, state, errors);
  validateTemplate(template ?? {}, 'spec.template', errors);
  if (spec.kind === 'deployment') alwaysRestarts(spec, 'ReplicaSet', errors);
}

function alwaysRestarts(spec: Draft<Pick<WorkloadSpec, 'template'>>, kind: string, errors: FieldErrors): void {
  const policy = spec.template?.spec?.restartPolicy ?? '';
  if (policy !== 'Always') errors.unsupported('spec.template.spec.restartPolicy', policy, ['Always']);
  if (typeof spec.template?.spec?.activeDeadlineSeconds === 'number')
    errors.forbidden('spec.template.spec.activeDeadlineSeconds', `activeDeadlineSeconds in ${kind} is not Supported`);
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

/** Whether it is a number, or a share that is one, and which. */
function amountOf(value: unknown): number {
  if (typeof value === 'number') return value;
  return typeof value === 'string' && /^[0-9]+%$/.test(value) ? parseInt(value, 10) : Number(value ?? 0) || 0;
}

function notMoreThanAll(value: unknown, at: string, errors: FieldErrors): void {
  if (typeof value === 'string' && /^[0-9]+%$/.test(value) && parseInt(value, 10) > 100)
    errors.invalid(at, value, 'must not be greater than 100%');
}

function validateDeploymentStrategy(strategy: Draft<DeploymentStrategy>, errors: FieldErrors): void {
  const at = 'spec.strategy';
  const { type = '', rollingUpdate: rolling } = strategy;
  if (type === 'Recreate') {
    if (rolling) errors.forbidden(`${at}.rollingUpdate`, "may not be specified when strategy `type` is 'Recreate'");
  } else if (type !== 'RollingUpdate') errors.unsupported(at, strategy, ['Recreate', 'RollingUpdate']);
  else if (!rolling) errors.required(`${at}.rollingUpdate`, 'this should be defaulted and never be nil');
  else {
    const { maxUnavailable, maxSurge } = rolling;
    const path = `${at}.rollingUpdate`;
    validateIntOrPercent(maxUnavailable, `${path}.maxUnavailable`, errors);
    validateIntOrPercent(maxSurge, `${path}.maxSurge`, errors);
    if (amountOf(maxUnavailable) === 0 && amountOf(maxSurge) === 0)
      errors.invalid(`${path}.maxUnavailable`, maxUnavailable, 'may not be 0 when `maxSurge` is 0');
    notMoreThanAll(maxUnavailable, `${path}.maxUnavailable`, errors);
  }
}

export function validateDeployment(o: Draft<Deployment>, errors: FieldErrors): void {
  const spec = o.spec ?? {};
  nonNegative(spec.replicas, 'spec.replicas', errors);
  validateSelecting({ ...spec, kind: 'deployment' }, spec.template, errors);
  validateDeploymentStrategy(spec.strategy ?? {}, errors);
  nonNegative(spec.minReadySeconds, 'spec.minReadySeconds', errors);
  nonNegative(spec.revisionHistoryLimit, 'spec.revisionHistoryLimit', errors);
  nonNegative(spec.progressDeadlineSeconds, 'spec.progressDeadlineSeconds', errors);
  if (typeof spec.progressDeadlineSeconds === 'number' && spec.progressDeadlineSeconds <= (spec.minReadySeconds ?? 0))
    errors.invalid(
      'spec.progressDeadlineSeconds',
      spec.progressDeadlineSeconds,
      'must be greater than minReadySeconds',
    );
}

/** Upstream calls it a deployment where it has no selector. */
export function validateReplicaSet(o: Draft<ReplicaSet>, errors: FieldErrors): void {
  const spec = o.spec ?? {};
  nonNegative(spec.replicas, 'spec.replicas', errors);
  nonNegative(spec.minReadySeconds, 'spec.minReadySeconds', errors);
  validateSelecting({ ...spec, kind: 'deployment' }, spec.template, errors);
}

export function validateDaemonSet(o: Draft<DaemonSet>, errors: FieldErrors): void {
  const spec = o.spec ?? {};
  // Of an absent selector only that it selects nothing is said.
  matchTemplate(spec, validateSelector(spec, 'daemonset', errors), errors);
  validateTemplate(spec.template ?? {}, 'spec.template', errors);
  alwaysRestarts(spec, 'DaemonSet', errors);
  nonNegative(spec.minReadySeconds, 'spec.minReadySeconds', errors);
  validateDaemonStrategy(spec.updateStrategy ?? {}, errors);
  nonNegative(spec.revisionHistoryLimit, 'spec.revisionHistoryLimit', errors);
}

function validateDaemonStrategy(strategy: Draft<DaemonSetUpdateStrategy>, errors: FieldErrors): void {
  const at = 'spec.updateStrategy';
  const { type = '', rollingUpdate: rolling } = strategy;
  if (type === 'OnDelete') return;
  if (type !== 'RollingUpdate') {
    errors.unsupported(at, strategy, ['RollingUpdate', 'OnDelete']);
    return;
  }
  const path = `${at}.rollingUpdate`;
  if (!rolling) {
    errors.required(path);
    return;
  }
  for (const validate of [validateIntOrPercent, notMoreThanAll])
    for (const field of ['maxUnavailable', 'maxSurge'] as const) validate(rolling[field], `${path}.${field}`, errors);
  const [down, more] = [amountOf(rolling.maxUnavailable) !== 0, amountOf(rolling.maxSurge) !== 0];
  if (down && more)
    errors.invalid(`${path}.maxSurge`, rolling.maxSurge, 'may not be set when maxUnavailable is non-zero');
  else if (!down && !more) errors.required(`${path}.maxUnavailable`, 'cannot be 0 when maxSurge is 0');
}

export function validateStatefulSet(o: Draft<StatefulSet>, errors: FieldErrors, old?: StatefulSet): void {
  const spec = o.spec ?? {};
  const { podManagementPolicy: management = '' } = spec;
  if (management === '') errors.required('spec.podManagementPolicy');
  else if (!['OrderedReady', 'Parallel'].includes(management))
    errors.invalid('spec.podManagementPolicy', management, "must be 'OrderedReady' or 'Parallel'");
  validateStatefulStrategy(spec.updateStrategy ?? {}, errors);
  for (const when of ['whenDeleted', 'whenScaled'] as const) {
    const value: unknown = spec.persistentVolumeClaimRetentionPolicy?.[when];
    if (value && value !== 'Delete' && value !== 'Retain')
      errors.unsupported(`spec.persistentVolumeClaimRetentionPolicy.${when}`, value, ['Retain', 'Delete']);
  }
  // Of what may not change, only what is new is looked at.
  if (old === undefined)
    (spec.volumeClaimTemplates ?? []).forEach((claim, i) => {
      validateClaimSpec(claim.spec ?? {}, `spec.volumeClaimTemplates[${i}].spec`, errors);
    });
  nonNegative(spec.replicas, 'spec.replicas', errors);
  nonNegative(spec.minReadySeconds, 'spec.minReadySeconds', errors);
  nonNegative(spec.ordinals?.start, 'spec.ordinals.start', errors);
  const problem = spec.serviceName && old === undefined ? labelProblem(spec.serviceName) : '';
  if (problem !== '') errors.invalid('spec.serviceName', spec.serviceName, problem);
  validateSelecting({ ...spec, kind: 'statefulset' }, identifiedTemplate(spec), errors);
  alwaysRestarts(spec, 'StatefulSet', errors);
}

function validateStatefulStrategy(strategy: Draft<StatefulSetUpdateStrategy>, errors: FieldErrors): void {
  const at = 'spec.updateStrategy';
  const { type = '', rollingUpdate: rolling } = strategy;
  if (type === '') errors.required(at);
  else if (type === 'OnDelete') {
    if (rolling) errors.invalid(`${at}.rollingUpdate`, rolling, "only allowed for updateStrategy 'RollingUpdate'");
  } else if (type !== 'RollingUpdate') errors.invalid(at, strategy, "must be 'RollingUpdate' or 'OnDelete'");
  else if (rolling) {
    const path = `${at}.rollingUpdate`;
    const { maxUnavailable } = rolling;
    nonNegative(rolling.partition, `${path}.partition`, errors);
    if (maxUnavailable === undefined || maxUnavailable === null) return;
    validateIntOrPercent(maxUnavailable, `${path}.maxUnavailable`, errors);
    if (amountOf(maxUnavailable) === 0) errors.invalid(`${path}.maxUnavailable`, maxUnavailable, 'cannot be 0');
    notMoreThanAll(maxUnavailable, `${path}.maxUnavailable`, errors);
  }
}

/** The template as the Pods get it: with the volumes of the claims, and names that are given to each. */
function identifiedTemplate({ template, volumeClaimTemplates }: Draft<StatefulSetSpec>): Draft<PodTemplateSpec> {
  const { hostname: _h, subdomain: _s, ...spec } = template?.spec ?? {};
  const names = new Set((volumeClaimTemplates ?? []).map((claim) => claim.metadata?.name ?? ''));
  if (names.size === 0) return { ...template, spec };
  const others = (spec.volumes ?? []).filter(({ name = '' }) => !names.has(name));
  const claims = [...names].map((name) => ({ name, persistentVolumeClaim: { claimName: name } }));
  return { ...template, spec: { ...spec, volumes: [...claims, ...others] } };
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
  alwaysRestarts({ template }, 'ReplicationController', errors);
}

export function validateRevision(o: Draft<ControllerRevision>, errors: FieldErrors, old?: ControllerRevision): void {
  if (old === undefined && (o.data === undefined || o.data === null)) errors.required('data', 'data is mandatory');
  else if (old === undefined && !isObject(o.data)) errors.required('data', 'data must be a valid JSON object');
  if ((o.revision ?? 0) < 0) errors.invalid('revision', o.revision, 'must be greater than or equal to 0');
  if (old !== undefined) unchanged(o.data, old.data, 'data', errors);
}

interface WithSelector {
  spec?: { selector?: Draft<LabelSelector> };
}

export function validateSelectorUnchanged(o: WithSelector, old: WithSelector, errors: FieldErrors): void {
  if (!sameJson(o.spec?.selector, old.spec?.selector))
    errors.invalid('spec.selector', o.spec?.selector ?? null, 'field is immutable');
}
