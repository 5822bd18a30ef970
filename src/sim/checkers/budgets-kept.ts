/** Voluntary disruptions stay within budgets: a granted eviction never leaves fewer healthy Pods than the budget wants. */
import { matchesSelectorObject } from '#base/selectors.ts';
import { isPodReady, isPodTerminal } from '#controllers/pods.ts';
import type { Checker } from '../world.ts';

export function budgetsKept(): Checker {
  const name = 'budgets-kept';
  return {
    name,
    onCommit({ object, previous }, world) {
      if (object?.kind !== 'PodDisruptionBudget') return;
      const { disruptionsAllowed = 0, disruptedPods = {} } = object['status'] ?? {};
      if (disruptionsAllowed < 0) world.report(name, `${object.metadata.name} allows ${disruptionsAllowed} disruptions`);
      const granted = Object.keys(disruptedPods).filter((pod) => previous?.['status']?.disruptedPods?.[pod] === undefined);
      if (granted.length === 0 || previous === undefined) return;
      let healthy = 0;
      for (const pod of world.of('pods')) {
        if (pod.metadata.namespace !== object.metadata.namespace || !matchesSelectorObject(object['spec'].selector, pod.metadata.labels)) continue;
        if (isPodReady(pod) && !isPodTerminal(pod) && pod.metadata.deletionTimestamp === undefined && disruptedPods[pod.metadata.name!] === undefined) healthy++;
      }
      const wanted: number = previous['status']?.desiredHealthy ?? 0;
      // Other Pods may have failed since the status was counted; a grant beyond what it said is the fault.
      if ((previous['status']?.disruptionsAllowed ?? 0) < granted.length) world.report(name, `${object.metadata.name} granted ${granted.length} evictions where ${previous['status']?.disruptionsAllowed ?? 0} were allowed (${healthy} healthy, ${wanted} wanted)`);
    },
  };
}
