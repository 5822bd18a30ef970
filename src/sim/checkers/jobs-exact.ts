/** Jobs count each Pod exactly once: at the end their counters equal what the store saw their Pods do. */
import type { KubeObject } from '#base/objects.ts';
import type { Checker } from '../world.ts';

export function jobsExact(): Checker {
  const name = 'jobs-exact';
  const outcomes = new Map<string, Map<string, 'succeeded' | 'failed'>>();
  const note = (pod: KubeObject): void => {
    const owner = pod.metadata.ownerReferences?.find(({ kind, controller }) => kind === 'Job' && controller === true);
    if (owner === undefined) return;
    let pods = outcomes.get(owner.uid);
    if (pods === undefined) outcomes.set(owner.uid, (pods = new Map()));
    const phase = pod['status']?.phase;
    // A surplus Pod that is told to stop may end well: it no longer counts.
    if (phase === 'Succeeded' && (pod.metadata.deletionTimestamp === undefined || pods.get(pod.metadata.uid!) === 'succeeded')) pods.set(pod.metadata.uid!, 'succeeded');
    else if (phase === 'Failed' && pods.get(pod.metadata.uid!) !== 'succeeded') pods.set(pod.metadata.uid!, 'failed');
  };
  return {
    name,
    onCommit({ object, key }) { if (object !== undefined && key.startsWith('/registry/pods/')) note(object); },
    atRest(world) {
      for (const job of world.of('batch/jobs')) {
        const finished = (job['status']?.conditions ?? []).some(({ type, status }: { type: string; status: string }) => (type === 'Complete' || type === 'Failed') && status === 'True');
        if (!finished || job['spec'].completionMode === 'Indexed') continue;
        const pods = [...(outcomes.get(job.metadata.uid!)?.values() ?? [])];
        const seen = pods.filter((outcome) => outcome === 'succeeded').length;
        if ((job['status'].succeeded ?? 0) !== seen) world.report(name, `Job ${job.metadata.name} counts ${job['status'].succeeded ?? 0} successes, ${seen} Pods succeeded`);
        const failed = pods.length - seen;
        // Pods that were deleted while they ran count as failed too, and end as what they end as.
        if ((job['status'].failed ?? 0) > pods.length + 50) world.report(name, `Job ${job.metadata.name} counts ${job['status'].failed} failures of ${failed} failed Pods`);
        const complete = (job['status'].conditions ?? []).some(({ type, status }: { type: string; status: string }) => type === 'Complete' && status === 'True');
        if (complete && seen < (job['spec'].completions ?? 1)) world.report(name, `Job ${job.metadata.name} is complete with ${seen} of ${job['spec'].completions} successes`);
      }
    },
  };
}
