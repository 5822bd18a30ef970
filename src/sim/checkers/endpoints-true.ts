/** At rest a Service's slices name exactly the ready Pods behind it. */
import { matchesLabels, selectorOfMap } from '#base/selectors.ts';
import { isPodReady, isPodTerminal } from '#controllers/pods.ts';
import type { Checker } from '../world.ts';

export function endpointsTrue(): Checker {
  const name = 'endpoints-true';
  return {
    name,
    atRest(world) {
      for (const service of world.of('services')) {
        if (service['spec'].selector === undefined) continue;
        const selector = selectorOfMap(service['spec'].selector);
        const wanted = new Set<string>();
        for (const pod of world.of('pods')) {
          if (pod.metadata.namespace === service.metadata.namespace && matchesLabels(selector, pod.metadata.labels) && isPodReady(pod) && !isPodTerminal(pod) && pod.metadata.deletionTimestamp === undefined) wanted.add(pod['status'].podIP);
        }
        const found = new Set<string>();
        for (const slice of world.of('discovery.k8s.io/endpointslices')) {
          if (slice.metadata.namespace !== service.metadata.namespace || slice.metadata.labels?.['kubernetes.io/service-name'] !== service.metadata.name) continue;
          for (const { addresses, conditions } of slice['endpoints'] ?? []) {
            if (conditions.ready !== true) continue;
            if (found.has(addresses[0])) world.report(name, `Service ${service.metadata.name} names ${addresses[0]} twice`);
            found.add(addresses[0]);
          }
        }
        const missing = [...wanted].filter((ip) => !found.has(ip));
        const stale = [...found].filter((ip) => !wanted.has(ip));
        if (missing.length + stale.length > 0) world.report(name, `Service ${service.metadata.name} lacks ${missing.join(', ') || 'none'} and still names ${stale.join(', ') || 'none'}`);
      }
    },
  };
}
