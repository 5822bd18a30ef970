/** Validation of HorizontalPodAutoscalers: bounds, metrics, and the pace of scaling. */
import type { HPAScalingRules, HorizontalPodAutoscaler, MetricSpec, MetricTarget } from '#api/autoscaling.v2.ts';
import type { Draft } from '#api/manifest.ts';
import type { FieldErrors } from './field-errors.ts';
import { stabilizationSecondsMax, scalingPeriodSecondsMax } from './limits.ts';
import { validateLabelSelector } from './validate-selector.ts';

type SourceField = 'containerResource' | 'external' | 'object' | 'pods' | 'resource';

/** The field of a metric that holds each type's description. */
const sources: Readonly<Record<string, SourceField>> = {
  ContainerResource: 'containerResource',
  External: 'external',
  Object: 'object',
  Pods: 'pods',
  Resource: 'resource',
};
const targetTypes = ['AverageValue', 'Utilization', 'Value'];

function validateTarget(type: string, target: Draft<MetricTarget> | undefined, at: string, errors: FieldErrors): void {
  if (!target?.type) errors.required(`${at}.type`, 'must specify a metric target type');
  else if (!targetTypes.includes(target.type ?? ''))
    errors.invalid(`${at}.type`, target.type, 'must be either Utilization, Value, or AverageValue');
  const { averageUtilization: utilization, averageValue: average, value } = target ?? {};
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
}

function validateMetric(metric: Draft<MetricSpec>, at: string, errors: FieldErrors): void {
  if (!metric.type) {
    errors.required(`${at}.type`, 'must specify a metric source type');
    return;
  }
  const field = sources[metric.type];
  if (field === undefined) {
    errors.unsupported(`${at}.type`, metric.type, Object.keys(sources));
    return;
  }
  for (const other of Object.values(sources))
    if (other !== field && metric[other])
      errors.forbidden(`${at}.${other}`, 'must populate the given metric source only');
  if (!metric[field]) {
    errors.required(`${at}.${field}`, 'must populate information for the given metric source');
    return;
  }
  const ofContainers = field === 'resource' || field === 'containerResource';
  if (ofContainers && !metric[field]?.name) errors.required(`${at}.${field}.name`, 'must specify a resource name');
  if (field === 'containerResource' && !metric[field]?.container)
    errors.required(`${at}.${field}.container`, 'must specify a container');
  if (!ofContainers) {
    const named = metric[field]?.metric;
    if (!named?.name) errors.required(`${at}.${field}.metric.name`, 'must specify a metric name');
    if (named?.selector) validateLabelSelector(named.selector, `${at}.${field}.metric.selector`, errors);
  }
  validateTarget(metric.type, metric[field]?.target, `${at}.${field}.target`, errors);
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

export function validateAutoscaler(o: Draft<HorizontalPodAutoscaler>, errors: FieldErrors): void {
  const spec = o.spec ?? {};
  const { maxReplicas = 0 } = spec;
  if (!(maxReplicas > 0)) errors.invalid('spec.maxReplicas', maxReplicas, 'must be greater than 0');
  if (spec.minReplicas !== undefined && spec.minReplicas < 1)
    errors.invalid('spec.minReplicas', spec.minReplicas, 'must be greater than or equal to 1');
  if (spec.maxReplicas !== undefined && maxReplicas < (spec.minReplicas ?? 1))
    errors.invalid('spec.maxReplicas', spec.maxReplicas, 'must be greater than or equal to `minReplicas`');
  if (!spec.scaleTargetRef?.kind) errors.required('spec.scaleTargetRef.kind');
  if (!spec.scaleTargetRef?.name) errors.required('spec.scaleTargetRef.name');
  (spec.metrics ?? []).forEach((metric, i) => {
    validateMetric(metric, `spec.metrics[${i}]`, errors);
  });
  for (const direction of ['scaleUp', 'scaleDown'] as const)
    validateRules(spec.behavior?.[direction], `spec.behavior.${direction}`, errors);
}
