/** Pods of a Namespace never exceed its quota on Pods. */
import { isPodTerminal } from '#controllers/pods.ts';
import type { Checker } from '../world.ts';

export function quotasKept(): Checker {
  const name = 'quotas-kept';
  return {
    name,
    onCommit({ object, previous }, world) {
      if (object?.kind !== 'Pod' || previous !== undefined) return;
      for (const quota of world.of('resourcequotas')) {
        const hard = quota['spec'].hard?.pods;
        if (hard === undefined || quota.metadata.namespace !== object.metadata.namespace || quota['status']?.hard?.pods !== hard) continue;
        let count = 0;
        for (const pod of world.of('pods')) if (pod.metadata.namespace === quota.metadata.namespace && !isPodTerminal(pod)) count++;
        if (count > Number(hard)) world.report(name, `${quota.metadata.namespace} holds ${count} Pods, its quota is ${hard}`);
      }
    },
  };
}
