/** Validation of what controllers count in the status of a workload: nothing below zero, no part above the whole. */
import { isObject, type JsonObject } from '#base/unknown.ts';
import type { FieldErrors } from './field-errors.ts';

interface CountRule {
  counts: readonly string[];
  /** No more than `replicas`. */
  parts: readonly string[];
  /** Of which no more are available than are ready. */
  availableOfReady?: boolean;
}

const replicated = ['replicas', 'readyReplicas', 'availableReplicas'];

export const deploymentCounts: CountRule = {
  counts: [...replicated, 'updatedReplicas', 'unavailableReplicas', 'terminatingReplicas'],
  parts: ['updatedReplicas', 'readyReplicas', 'availableReplicas'],
  availableOfReady: true,
};
export const replicaSetCounts: CountRule = {
  counts: [...replicated, 'fullyLabeledReplicas', 'terminatingReplicas'],
  parts: ['fullyLabeledReplicas', 'readyReplicas', 'availableReplicas'],
  availableOfReady: true,
};
export const statefulSetCounts: CountRule = {
  counts: [...replicated, 'currentReplicas', 'updatedReplicas'],
  parts: ['readyReplicas', 'currentReplicas', 'updatedReplicas', 'availableReplicas'],
  availableOfReady: true,
};
export const daemonSetCounts: CountRule = {
  counts: [
    'currentNumberScheduled',
    'numberMisscheduled',
    'desiredNumberScheduled',
    'numberReady',
    'updatedNumberScheduled',
    'numberAvailable',
    'numberUnavailable',
  ],
  parts: [],
};

const numberOf = (status: JsonObject, field: string): number => {
  const value = status[field];
  return typeof value === 'number' ? value : 0;
};

/** A validator of `status` by the rule; collisions are never forgotten. */
export function validateCounts(rule: CountRule) {
  return (o: { status?: unknown }, old: { status?: unknown }, errors: FieldErrors): void => {
    const status = isObject(o.status) ? o.status : {};
    for (const field of [...rule.counts, 'observedGeneration', 'collisionCount'])
      if (numberOf(status, field) < 0)
        errors.invalid(`status.${field}`, status[field], 'must be greater than or equal to 0');
    for (const field of rule.parts)
      if (numberOf(status, field) > numberOf(status, 'replicas'))
        errors.invalid(`status.${field}`, numberOf(status, field), 'cannot be greater than status.replicas');
    if (rule.availableOfReady === true && numberOf(status, 'availableReplicas') > numberOf(status, 'readyReplicas'))
      errors.invalid(
        'status.availableReplicas',
        numberOf(status, 'availableReplicas'),
        'cannot be greater than readyReplicas',
      );
    const before = isObject(old.status) ? numberOf(old.status, 'collisionCount') : 0;
    if (numberOf(status, 'collisionCount') < before)
      errors.invalid('status.collisionCount', numberOf(status, 'collisionCount'), 'cannot be decremented');
  };
}
