/** One Pod per StatefulSet identity: never do the containers of two Pods of one name run at once, on any node. */
import type { Checker } from '../world.ts';

export function identitiesUnique(): Checker {
  const name = 'identities-unique';
  return {
    name,
    onTick(world) {
      const running = new Map<string, string>();
      for (const { node, pod } of world.cluster.nodes.running()) {
        const { metadata } = pod.pod;
        if (
          !(metadata.ownerReferences ?? []).some(({ kind }) => kind === 'StatefulSet') ||
          pod.runningContainers().length === 0
        )
          continue;
        const identity = `${metadata.namespace}/${metadata.name}`;
        const other = running.get(identity);
        if (other !== undefined) world.report(name, `${identity} runs on ${other} and on ${node}`);
        running.set(identity, node);
      }
    },
  };
}
