/**
 * Usage of nodes and Pods for `metrics.k8s.io`, read from the kubelets' summaries when somebody asks and kept for a
 * moment: with nobody asking, nothing is read.
 */
import { Agent, get } from 'node:https';
import type { Node } from '#api/core.v1.ts';
import type { KeyPair } from '#base/x509.ts';
import type { UsageProvider, NodeUsage, PodUsage } from '#apiserver/context.ts';
import type { Clock } from '#os/clock.ts';

const keepMs = 1_000;
const timeoutMs = 3_000;

interface Usage {
  cpu: { time: string; usageNanoCores: number };
  memory: { workingSetBytes: number };
}

/** Of a kubelet's Summary API, what is read here (Kubernetes reference, "Node metrics data"). */
interface StatsSummary {
  node: Usage & { nodeName: string };
  pods: (Usage & { podRef: { name: string; namespace: string }; containers: (Usage & { name: string })[] })[];
}

export function createKubeletMetrics(options: {
  /** The Nodes of the cluster. */
  nodes(): Promise<readonly Node[]>;
  ca: string;
  /** The certificate of now. */
  client(): KeyPair;
  clock: Clock;
}): UsageProvider {
  const { clock } = options;
  let shown: KeyPair | undefined;
  let agent = new Agent();
  /** Kept connections are of the certificate that they began with. */
  const agentOfNow = (): Agent => {
    const pair = options.client();
    if (pair === shown) return agent;
    shown = pair;
    agent.destroy();
    agent = new Agent({ keepAlive: true, ca: options.ca, cert: pair.certificatePem, key: pair.keyPem });
    return agent;
  };
  let last: { atMs: number; summaries: Promise<StatsSummary[]> } | undefined;

  const summaryOf = (address: string): Promise<StatsSummary | undefined> =>
    new Promise((resolve) => {
      const request = get(
        {
          host: address,
          port: 10_250,
          path: '/stats/summary?only_cpu_and_memory=true',
          agent: agentOfNow(),
          timeout: timeoutMs,
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('end', () => {
            try {
              resolve(response.statusCode === 200 ? JSON.parse(Buffer.concat(chunks).toString('utf8')) : undefined);
            } catch {
              resolve(undefined);
            }
          });
          response.on('error', () => resolve(undefined));
        },
      );
      request.on('timeout', () => request.destroy());
      request.on('error', () => resolve(undefined));
    });
  const readAll = async (): Promise<StatsSummary[]> => {
    const addresses = (await options.nodes()).flatMap((node): string[] =>
      (node.status?.addresses ?? []).flatMap((entry) => (entry.type === 'InternalIP' ? [entry.address] : [])),
    );
    const list = await Promise.all(addresses.map(summaryOf));
    return list.filter((summary) => summary !== undefined);
  };
  const summaries = (): Promise<StatsSummary[]> => {
    if (last === undefined || clock.monotonic() - last.atMs > keepMs) {
      last = { atMs: clock.monotonic(), summaries: readAll() };
    }
    return last.summaries;
  };
  return {
    async nodes(): Promise<NodeUsage[]> {
      return (await summaries()).map((summary) => ({
        name: summary.node.nodeName,
        timestamp: summary.node.cpu.time,
        windowSeconds: 10,
        cpuNanoCores: summary.node.cpu.usageNanoCores,
        memoryBytes: summary.node.memory.workingSetBytes,
      }));
    },
    async pods(namespace): Promise<PodUsage[]> {
      return (await summaries())
        .flatMap((summary) => summary.pods)
        .filter((pod) => namespace === undefined || pod.podRef.namespace === namespace)
        .map((pod) => ({
          name: pod.podRef.name,
          namespace: pod.podRef.namespace,
          timestamp: pod.cpu.time,
          windowSeconds: 10,
          containers: pod.containers.map((container) => ({
            name: container.name,
            cpuNanoCores: container.cpu.usageNanoCores,
            memoryBytes: container.memory.workingSetBytes,
          })),
        }));
    },
  };
}
