/** Usage of simulated nodes and Pods for metrics.k8s.io, from the scripts' functions of time. */
import { timestamp } from '#base/timestamp.ts';
import type { UsageProvider, NodeUsage, PodUsage } from '#apiserver/context.ts';
import type { SimNodes } from './nodes.ts';
import { cpuNanoCoresOf } from './pod-script.ts';

export function metricsOf(nodes: () => SimNodes, now: () => number): UsageProvider {
  const usageOfPods = (namespace: string | undefined): (PodUsage & { node: string })[] => {
    const usages: (PodUsage & { node: string })[] = [];
    for (const { node, pod } of nodes().running()) {
      const { metadata } = pod.pod;
      if (namespace !== undefined && metadata.namespace !== namespace) continue;
      const containers = pod.runningContainers().map((name) => {
        const context = pod.context(name);
        return {
          name,
          cpuNanoCores: cpuNanoCoresOf(nodes().deps.scripts.of(context), context),
          memoryBytes: Math.round(pod.memoryBytes(name)),
        };
      });
      if (containers.length > 0)
        usages.push({
          node,
          name: metadata.name,
          namespace: metadata.namespace,
          timestamp: timestamp(now()),
          windowSeconds: 15,
          ...(metadata.labels === undefined ? {} : { labels: metadata.labels }),
          containers,
        });
    }
    return usages;
  };
  return {
    async pods(namespace) {
      return usageOfPods(namespace);
    },
    async nodes(): Promise<NodeUsage[]> {
      const totals = new Map<string, NodeUsage>(
        nodes()
          .names()
          .map((name) => [
            name,
            { name, timestamp: timestamp(now()), windowSeconds: 15, cpuNanoCores: 0, memoryBytes: 0 },
          ]),
      );
      for (const { node, containers } of usageOfPods(undefined)) {
        const total = totals.get(node);
        if (total === undefined) continue;
        for (const { cpuNanoCores, memoryBytes } of containers) {
          total.cpuNanoCores += cpuNanoCores;
          total.memoryBytes += memoryBytes;
        }
      }
      return [...totals.values()];
    },
  };
}
