/**
 * Every queue stays within its bound: the controllers' hold keys of objects that exist, with room for those just
 * deleted; the scheduler's hold Pods that have no node yet, with room for what its copy has not heard of, and no more
 * bindings are under way than may.
 */
import { kinds } from '#base/kinds.ts';
import { bindingsInFlightMax } from '#scheduler/limits.ts';
import type { Checker } from '../world.ts';

export function queuesBounded(slack = 500): Checker {
  const name = 'queues-bounded';
  return {
    name,
    onTick(world) {
      const { controllers, scheduler } = world.cluster;
      const bound = world.objects.size + slack;
      for (const { name: queue, length, delayed } of controllers?.queues() ?? [])
        if (length + delayed > bound)
          world.report(name, `queue ${queue} holds ${length + delayed} keys; there are ${world.objects.size} objects`);
      if (scheduler === undefined) return;
      const { active, backoff, unschedulable, binding } = scheduler.stats();
      let waiting = 0;
      for (const { spec } of world.of(kinds.Pod)) if ((spec.nodeName ?? '') === '') waiting++;
      if (active + backoff + unschedulable > waiting + slack)
        world.report(name, `the scheduler holds ${active + backoff + unschedulable} Pods; ${waiting} have no node`);
      if (binding > bindingsInFlightMax) world.report(name, `${binding} bindings are under way`);
    },
  };
}
