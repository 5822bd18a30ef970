/** Every queue stays within its bound: keys of objects that exist, with room for those just deleted. */
import type { Checker } from '../world.ts';

export function queuesBounded(slack = 500): Checker {
  const name = 'queues-bounded';
  return {
    name,
    onTick(world) {
      const bound = world.objects.size + slack;
      for (const { name: queue, length, delayed } of world.cluster.controllers?.queues() ?? []) if (length + delayed > bound) world.report(name, `queue ${queue} holds ${length + delayed} keys; there are ${world.objects.size} objects`);
    },
  };
}
