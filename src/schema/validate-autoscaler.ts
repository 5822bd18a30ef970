/** Validation of HorizontalPodAutoscalers: bounds, metrics, and the pace of scaling. */
import type {
  CrossVersionObjectReference,
  HPAScalingRules,
  HorizontalPodAutoscaler,
  MetricSpec,
  MetricTarget,
} from '#api/autoscaling.v2.ts';
import type { Draft } from '#api/manifest.ts';
import { isQuantity, parseQuantity } from '#base/quantity.ts';
import type { FieldErrors } from './field-errors.ts';
import { stabilizationSecondsMax, scalingPeriodSecondsMax } from './limits.ts';
import { labelProblem } from './name-forms.ts';
import { validatePathPart } from './validate-classes.ts';

type SourceField = 'containerResource' | 'external' | 'object' | 'pods' | 'resource';

/** The field of a metric that holds each type's description. */
const sources: Readonly<Record<string, SourceField>> = {
  ContainerResource: 'containerResource',
  External: 'external',
  Object: 'object',
  Pods: 'pods',
  Resource: 'resource',
};
/** As upstream looks at them. */
const sourceOrder: readonly SourceField[] = ['object', 'external', 'pods', 'resource', 'containerResource'];
const typeOf: Readonly<Record<SourceField, string>> = {
  containerResource: 'ContainerResource',
  external: 'External',
  object: 'Object',
  pods: 'Pods',
  resource: 'Resource',
};
const targetTypes = ['AverageValue', 'Utilization', 'Value'];

function validateTarget(type: string, target: Draft<MetricTarget> | undefined, at: string, errors: FieldErrors): void {
  const { type: kind = '', averageUtilization: utilization, averageValue: average, value } = target ?? {};
  if (kind === '') errors.required(`${at}.type`, 'must specify a metric target type');
  if (!targetTypes.includes(kind))
    errors.invalid(`${at}.type`, kind, 'must be either Utilization, Value, or AverageValue');
  for (const [field, given] of Object.entries({ value, averageValue: average }))
    if (isQuantity(given) && parseQuantity(given).nano <= 0n)
      errors.invalid(`${at}.${field}`, given, 'must be positive');
  if (typeof utilization === 'number' && utilization < 1)
    errors.invalid(`${at}.averageUtilization`, utilization, 'must be greater than 0');
  if (type === 'Resource' || type === 'ContainerResource') {
    if (utilization === undefined && average === undefined)
      errors.required(`${at}.averageUtilization`, 'must set either a target raw value or a target utilization');
    else if (utilization !== undefined && average !== undefined)
      errors.forbidden(`${at}.averageValue`, 'may not set both a target raw value and a target utilization');
  } else if (type === 'Pods' && average === undefined)
    errors.required(`${at}.averageValue`, 'must specify a positive target averageValue');
  else if (type !== 'Pods' && average === undefined && value === undefined)
    errors.required(`${at}.averageValue`, 'must set either a target value for metric or a per-pod target');
  else if (type === 'External' && average !== undefined && value !== undefined)
    errors.forbidden(`${at}.value`, 'may not set both a target value for metric and a per-pod target');
}

/** Of several sources the first is looked at, in upstream's order; all but the one that the type names are refused. */
function validateMetric(metric: Draft<MetricSpec>, at: string, errors: FieldErrors): void {
  const { type = '' } = metric;
  if (type === '') errors.required(`${at}.type`, 'must specify a metric source type');
  const field = sources[type];
  if (field === undefined) errors.unsupported(`${at}.type`, type, Object.keys(sources));
  const present = sourceOrder.filter((source) => metric[source]);
  const [first] = present;
  if (first !== undefined) validateSource(first, metric, `${at}.${first}`, errors);
  // Upstream says it twice.
  if (field === undefined) errors.unsupported(`${at}.type`, type, Object.keys(sources));
  else if (!metric[field]) errors.required(`${at}.${field}`, 'must populate information for the given metric source');
  if (present.length !== 1)
    for (const other of present)
      if (other !== field) errors.forbidden(`${at}.${other}`, 'must populate the given metric source only');
}

function validateSource(field: SourceField, metric: Draft<MetricSpec>, at: string, errors: FieldErrors): void {
  if (field === 'resource' || field === 'containerResource') {
    if (!metric[field]?.name) errors.required(`${at}.name`, 'must specify a resource name');
  } else {
    const name = metric[field]?.metric?.name;
    if (!name) errors.required(`${at}.metric.name`, 'must specify a metric name');
    else validatePathPart(name, `${at}.metric.name`, errors);
  }
  if (field === 'containerResource') {
    const { container } = metric.containerResource ?? {};
    if (!container) errors.required(`${at}.container`, 'must specify a container');
    else if (labelProblem(container) !== '') errors.invalid(`${at}.container`, container, labelProblem(container));
  }
  if (field === 'object') {
    const described = metric.object?.describedObject;
    validateReference(described, `${at}.describedObject`, errors);
    validateReferenceVersion(described, `${at}.describedObject`, errors, false);
  }
  validateTarget(typeOf[field], metric[field]?.target, `${at}.target`, errors);
}

/** A kind and a name. */
function validateReference(
  reference: Draft<CrossVersionObjectReference> | undefined,
  at: string,
  errors: FieldErrors,
): void {
  for (const field of ['kind', 'name'] as const)
    if (!reference?.[field]) errors.required(`${at}.${field}`);
    else validatePathPart(reference[field], `${at}.${field}`, errors);
}

function validateReferenceVersion(
  reference: Draft<CrossVersionObjectReference> | undefined,
  at: string,
  errors: FieldErrors,
  needsGroup: boolean,
): void {
  const { apiVersion = '' } = reference ?? {};
  const parts = apiVersion.split('/');
  if (parts.length > 2) errors.invalid(`${at}.apiVersion`, apiVersion, `unexpected GroupVersion string: ${apiVersion}`);
  else if (needsGroup && (parts.length < 2 || parts[0] === ''))
    errors.invalid(`${at}.apiVersion`, apiVersion, 'apiVersion must specify API group');
}

function validateRules(rules: Draft<HPAScalingRules> | undefined, at: string, errors: FieldErrors): void {
  if (!rules) return;
  const window: unknown = rules.stabilizationWindowSeconds;
  if (typeof window === 'number' && window < 0)
    errors.invalid(`${at}.stabilizationWindowSeconds`, window, 'must be greater than or equal to zero');
  if (typeof window === 'number' && window > stabilizationSecondsMax)
    errors.invalid(
      `${at}.stabilizationWindowSeconds`,
      window,
      `must be less than or equal to ${stabilizationSecondsMax}`,
    );
  if (rules.selectPolicy && !['Disabled', 'Max', 'Min'].includes(rules.selectPolicy ?? ''))
    errors.unsupported(`${at}.selectPolicy`, rules.selectPolicy, ['Disabled', 'Max', 'Min']);
  if (rules.policies?.length === 0) errors.required(`${at}.policies`, 'must specify at least one Policy');
  (rules.policies ?? []).forEach((policy, i) => {
    const path = `${at}.policies[${i}]`;
    if (!['Percent', 'Pods'].includes(policy.type ?? ''))
      errors.unsupported(`${path}.type`, policy.type ?? '', ['Percent', 'Pods']);
    if (!((policy.value ?? 0) > 0)) errors.invalid(`${path}.value`, policy.value ?? 0, 'must be greater than zero');
    const { periodSeconds = 0 } = policy;
    if (!(periodSeconds > 0)) errors.invalid(`${path}.periodSeconds`, periodSeconds, 'must be greater than zero');
    else if (periodSeconds > scalingPeriodSecondsMax)
      errors.invalid(
        `${path}.periodSeconds`,
        periodSeconds,
        `must be less than or equal to ${scalingPeriodSecondsMax}`,
      );
  });
}

export function validateAutoscaler(
  o: Draft<HorizontalPodAutoscaler>,
  errors: FieldErrors,
  old?: HorizontalPodAutoscaler,
): void {
  const spec = o.spec ?? {};
  const { maxReplicas = 0 } = spec;
  if (maxReplicas === 0) errors.required('spec.maxReplicas', 'must be set and greater than 0');
  else if (maxReplicas < 0) errors.invalid('spec.maxReplicas', maxReplicas, 'must be greater than or equal to 1');
  if (spec.minReplicas !== undefined && spec.minReplicas < 1)
    errors.invalid('spec.minReplicas', spec.minReplicas, 'must be greater than or equal to 1');
  if (maxReplicas < (spec.minReplicas ?? 1))
    errors.invalid('spec.maxReplicas', maxReplicas, 'must be greater than or equal to `minReplicas`');
  const target = spec.scaleTargetRef;
  validateReference(target, 'spec.scaleTargetRef', errors);
  const was = old?.spec?.scaleTargetRef;
  // What was stored passes; of the core group one kind can be scaled.
  if (was === undefined || was.apiVersion !== target?.apiVersion || was.kind !== target?.kind)
    validateReferenceVersion(target, 'spec.scaleTargetRef', errors, target?.kind !== 'ReplicationController');
  (spec.metrics ?? []).forEach((metric, i) => {
    validateMetric(metric, `spec.metrics[${i}]`, errors);
  });
  for (const direction of ['scaleUp', 'scaleDown'] as const)
    validateRules(spec.behavior?.[direction], `spec.behavior.${direction}`, errors);
}
