/**
 * Whether disruption budgets allow a Pod to be evicted; a budget that allows it is charged first, so that two evictions
 * never share one allowance.
 */
import type { Pod, PodCondition } from '#api/core.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import type { PodDisruptionBudget } from '#api/policy.v1.ts';
import { ApiError } from '#base/errors.ts';
import { kinds } from '#base/kinds.ts';
import { matchesSelectorObject } from '#base/selectors.ts';
import type { KubeObject } from '#base/objects.ts';
import { timestamp } from '#base/timestamp.ts';
import type { RequestContext } from './context.ts';
import { isDryRun, updateObject } from './write-path.ts';

const isReady = (pod: Pod): boolean =>
  (pod.status?.conditions ?? []).some(({ type, status }) => type === 'Ready' && status === 'True');

export async function admitEviction(context: RequestContext, pod: Pod): Promise<void> {
  const { server } = context;
  if (
    ['Succeeded', 'Failed', 'Pending'].includes(pod.status?.phase ?? '') ||
    pod.metadata.deletionTimestamp !== undefined
  )
    return;
  const budgets = (await server.live.disruptionBudgets.current())
    .in(pod.metadata.namespace)
    .filter((budget) => matchesSelectorObject(budget.spec?.selector, pod.metadata.labels));
  const [budget] = budgets;
  if (budget === undefined) return;
  if (budgets.length > 1)
    throw new ApiError(
      'InternalError',
      'This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.',
    );
  const { currentHealthy = 0, desiredHealthy = 0 } = budget.status ?? {};
  const isMet = currentHealthy >= desiredHealthy && desiredHealthy > 0;
  if (!isReady(pod) && (budget.spec?.unhealthyPodEvictionPolicy === 'AlwaysAllow' || isMet)) return;
  if (isDryRun(context)) return;
  const kind = server.kinds.builtIn(kinds.PodDisruptionBudget);
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
      const charged: Manifest<PodDisruptionBudget> = {
        ...current,
        metadata,
        status: {
          ...current.status,
          disruptionsAllowed: allowed - 1,
          disruptedPods: { ...current.status?.disruptedPods, [pod.metadata.name]: timestamp(server.clock.now()) },
        },
      };
      return charged;
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
export async function markDisrupted(context: RequestContext<Pod>, name: string): Promise<KubeObject> {
  const { server } = context;
  const target = { ...context, info: { ...context.info, name, subresource: 'status' } };
  const written = await updateObject(
    target,
    name,
    (current) => {
      const { resourceVersion: _r, ...metadata } = current.metadata;
      if (['Succeeded', 'Failed'].includes(current.status?.phase ?? '') || metadata.deletionTimestamp !== undefined)
        return { ...current, metadata };
      const others = (current.status?.conditions ?? []).filter(({ type }) => type !== 'DisruptionTarget');
      const condition: PodCondition = {
        type: 'DisruptionTarget',
        status: 'True',
        reason: 'EvictionByEvictionAPI',
        message: 'Eviction API: evicting',
        lastTransitionTime: timestamp(server.clock.now()),
      };
      const marked: Manifest<Pod> = {
        ...current,
        metadata,
        status: { ...current.status, conditions: [...others, condition] },
      };
      return marked;
    },
    { subresource: 'status', sharesCurrent: true },
  );
  return server.objects.view(written.stored);
}
