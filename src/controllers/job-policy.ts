/** A Job's Pod failure policy and success policy (Kubernetes documentation, "Jobs"). Pure. */
import type { Job, PodFailurePolicyOnExitCodesRequirement } from '#api/batch.v1.ts';
import type { Pod } from '#api/core.v1.ts';
import { formatIndexes, parseIndexes } from './job-indexes.ts';

/** `action` as the rule says it: Count, Ignore, FailIndex. */
export type FailureAction = { action: string; failJob?: undefined } | { action: 'FailJob'; failJob: string };

function matchesExitCodes(
  rule: PodFailurePolicyOnExitCodesRequirement,
  pod: Pod,
): { container: string; exitCode: number } | undefined {
  const { containerName, operator, values } = rule;
  const statuses = [...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? [])];
  for (const status of statuses) {
    if (containerName !== undefined && containerName !== null && status.name !== containerName) continue;
    const exitCode: number | undefined = status.state?.terminated?.exitCode;
    if (exitCode === undefined || exitCode === 0) continue;
    if (values.includes(exitCode) === (operator === 'In')) return { container: status.name, exitCode };
  }
  return undefined;
}

/** What the policy says about a failed Pod: the first rule that matches; no rule counts it. */
export function failureActionOf(job: Job, pod: Pod): FailureAction {
  const rules = job.spec.podFailurePolicy?.rules ?? [];
  for (const [index, rule] of rules.entries()) {
    let detail: string | undefined;
    if (rule.onExitCodes !== undefined && rule.onExitCodes !== null) {
      const found = matchesExitCodes(rule.onExitCodes, pod);
      if (found !== undefined)
        detail = `Container ${found.container} for pod ${pod.metadata.namespace}/${pod.metadata.name} failed with exit code ${found.exitCode} matching ${rule.action} rule at index ${index}`;
    } else {
      for (const pattern of rule.onPodConditions ?? []) {
        const condition = (pod.status?.conditions ?? []).find(
          ({ type, status }) => type === pattern.type && status === (pattern.status ?? 'True'),
        );
        if (condition !== undefined)
          detail = `Pod ${pod.metadata.namespace}/${pod.metadata.name} has condition ${condition.type} matching ${rule.action} rule at index ${index}`;
      }
    }
    if (detail === undefined) continue;
    return rule.action === 'FailJob' ? { action: 'FailJob', failJob: detail } : { action: rule.action };
  }
  return { action: 'Count' };
}

/** The message when a success rule is met. */
export function successOf(job: Job, completedIndexes: string): string | undefined {
  const rules = job.spec.successPolicy?.rules ?? [];
  const done = parseIndexes(completedIndexes, job.spec.completions ?? 0);
  for (const [index, rule] of rules.entries()) {
    const wanted =
      rule.succeededIndexes === undefined ? undefined : parseIndexes(rule.succeededIndexes, job.spec.completions ?? 0);
    const hits = wanted === undefined ? done : new Set([...wanted].filter((i) => done.has(i)));
    const needed: number = rule.succeededCount ?? wanted?.size ?? Infinity;
    if (hits.size >= needed && formatIndexes(hits) !== '') return `Matched rules at index ${index}`;
  }
  return undefined;
}
