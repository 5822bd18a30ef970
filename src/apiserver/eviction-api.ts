/**
 * Whether disruption budgets allow a Pod to be evicted; a budget that allows it is charged first, so that two evictions
 * never share one allowance.
 */
import { ApiError } from '#base/errors.ts';
import { matchesSelectorObject } from '#base/selectors.ts';
import type { Json, KubeObject } from '#base/objects.ts';
import { timestamp } from '#base/timestamp.ts';
import type { RequestContext } from './context.ts';
import { isDryRun, updateObject } from './write-path.ts';

const isReady = (pod: KubeObject): boolean =>
  (pod.status?.conditions ?? []).some((c: Json) => c.type === 'Ready' && c.status === 'True');

export async function admitEviction(context: RequestContext, pod: KubeObject): Promise<void> {
  const { server } = context;
  if (['Succeeded', 'Failed', 'Pending'].includes(pod.status?.phase) || pod.metadata.deletionTimestamp !== undefined)
    return;
  const budgets = (await server.live.disruptionBudgets.current())
    .in(pod.metadata.namespace)
    .filter((budget) => matchesSelectorObject(budget.spec?.selector, pod.metadata.labels));
  if (budgets.length === 0) return;
  if (budgets.length > 1)
    throw new ApiError(
      'InternalError',
      'This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.',
    );
  const budget = budgets[0]!;
  const { currentHealthy = 0, desiredHealthy = 0 } = budget.status ?? {};
  const isMet = currentHealthy >= desiredHealthy && desiredHealthy > 0;
  if (!isReady(pod) && (budget.spec?.unhealthyPodEvictionPolicy === 'AlwaysAllow' || isMet)) return;
  if (isDryRun(context)) return;
  const kind = server.kinds.find('policy', 'v1', 'poddisruptionbudgets')!;
  await updateObject(
    {
      ...context,
      kind,
      info: {
        ...context.info,
        group: 'policy',
        resource: 'poddisruptionbudgets',
        name: budget.metadata.name,
        subresource: 'status',
      },
    },
    budget.metadata.name,
    (current) => {
      if ((current.status?.observedGeneration ?? 0) < (current.metadata.generation ?? 0))
        throw tooMany(
          "Cannot evict pod as it would violate the pod's disruption budget.",
          `The disruption budget ${current.metadata.name} is still being processed by the server.`,
          10,
        );
      const allowed = current.status?.disruptionsAllowed ?? 0;
      if (allowed <= 0)
        throw tooMany(
          "Cannot evict pod as it would violate the pod's disruption budget.",
          `The disruption budget ${current.metadata.name} needs ${current.status?.desiredHealthy ?? 0} healthy pods and has ${current.status?.currentHealthy ?? 0} currently`,
        );
      const { resourceVersion: _r, ...metadata } = current.metadata;
      return {
        ...current,
        metadata,
        status: {
          ...current.status,
          disruptionsAllowed: allowed - 1,
          disruptedPods: { ...current.status?.disruptedPods, [pod.metadata.name!]: timestamp(server.clock.now()) },
        },
      };
    },
    { subresource: 'status', sharesCurrent: true },
  );
}

function tooMany(message: string, cause: string, retryAfterSeconds?: number): ApiError {
  return new ApiError('TooManyRequests', message, {
    causes: [{ reason: 'DisruptionBudget', message: cause }],
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
  });
}

/**
 * Says on the Pod that it is disrupted (condition DisruptionTarget), so that whoever counts its end knows why: a Job's
 * failure policy, for one. Answers the version that the deletion must find. A Pod that has ended or goes already is
 * left as it is.
 */
export async function markDisrupted(context: RequestContext, name: string): Promise<KubeObject> {
  const { server } = context;
  const target = { ...context, info: { ...context.info, name, subresource: 'status' } };
  const written = await updateObject(
    target,
    name,
    (current) => {
      const { resourceVersion: _r, ...metadata } = current.metadata;
      if (['Succeeded', 'Failed'].includes(current.status?.phase) || metadata.deletionTimestamp !== undefined)
        return { ...current, metadata };
      const others = (current.status?.conditions ?? []).filter((c: Json) => c.type !== 'DisruptionTarget');
      const condition = {
        type: 'DisruptionTarget',
        status: 'True',
        reason: 'EvictionByEvictionAPI',
        message: 'Eviction API: evicting',
        lastTransitionTime: timestamp(server.clock.now()),
      };
      return { ...current, metadata, status: { ...current.status, conditions: [...others, condition] } };
    },
    { subresource: 'status', sharesCurrent: true },
  );
  return server.objects.view(written.stored);
}
