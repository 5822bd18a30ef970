/** No two live Pods have one address, no two Services one cluster address or node port. */
import { isPodTerminal } from '#controllers/pods.ts';
import type { Checker } from '../world.ts';

export function addressesUnique(): Checker {
  const name = 'addresses-unique';
  return {
    name,
    onTick(world) {
      const pods = new Map<string, string>();
      for (const pod of world.of('pods')) {
        const ip: string | undefined = pod['status']?.podIP;
        if (ip === undefined || isPodTerminal(pod) || pod['spec'].hostNetwork === true || world.cluster.nodes.get(pod['spec'].nodeName)?.isUp !== true) continue;
        const other = pods.get(ip);
        if (other !== undefined) world.report(name, `Pods ${other} and ${pod.metadata.name} both have ${ip}`);
        pods.set(ip, pod.metadata.name!);
      }
      const services = new Map<string, string>();
      for (const service of world.of('services')) {
        const taken = [service['spec'].clusterIP, ...(service['spec'].ports ?? []).flatMap(({ nodePort, protocol }: { nodePort?: number; protocol?: string }) => (nodePort === undefined ? [] : [`port ${protocol ?? 'TCP'}/${nodePort}`]))];
        for (const one of taken) {
          if (one === undefined || one === 'None' || one === '') continue;
          const other = services.get(one);
          if (other !== undefined) world.report(name, `Services ${other} and ${service.metadata.name} both have ${one}`);
          services.set(one, service.metadata.name!);
        }
      }
    },
  };
}
