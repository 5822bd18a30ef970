/**
 * What befalls a simulated cluster: one random fault at a time, some of which last until they are healed. All chance is
 * the seed's.
 */
import { pick } from './chance.ts';
import type { Cluster } from './cluster.ts';
import { type Part, parts } from './cluster-options.ts';
import type { FaultyTransport } from './faults.ts';

interface Target {
  cluster: Cluster;
  node: string;
  part: Part;
  network: FaultyTransport;
  /** Uniform in [0, most). */ upTo(most: number): number;
}

/** Each does its harm and says what it was. */
const faults: readonly ((target: Target) => string | Promise<string>)[] = [
  ({ cluster, node }) => {
    cluster.nodes.kill(node);
    return `kill ${node}`;
  },
  ({ cluster, node }) => {
    cluster.nodes.boot(node);
    return `boot ${node}`;
  },
  ({ cluster, node }) => {
    cluster.nodes.partition(node);
    return `partition ${node}`;
  },
  ({ cluster, node }) => {
    cluster.nodes.heal(node);
    return `heal ${node}`;
  },
  ({ network, part, upTo }) => {
    network.faults.requestLoss = upTo(0.3);
    return `${part} lose requests`;
  },
  ({ network, part, upTo }) => {
    network.faults.replyLoss = upTo(0.3);
    return `${part} lose answers`;
  },
  ({ network, part, upTo }) => {
    network.faults.delayMsMax = upTo(500);
    return `${part} are slow`;
  },
  ({ network, part, upTo }) => {
    network.faults.reorder = upTo(0.2);
    return `${part}' requests overtake one another`;
  },
  ({ network, part, upTo }) => {
    network.faults.duplication = upTo(0.2);
    return `${part}' requests arrive twice`;
  },
  ({ network, part }) => {
    network.cut();
    return `${part} are cut off`;
  },
  ({ network, part }) => {
    network.heal();
    return `${part} are joined`;
  },
  async ({ cluster, upTo }) => {
    await cluster.restartControllers(upTo(5_000));
    return 'restart controllers and scheduler';
  },
  async ({ cluster, upTo }) => {
    await cluster.crashApiServer(upTo(10_000));
    return 'crash the API server';
  },
  async ({ cluster, upTo }) => {
    await cluster.losePower(upTo(20_000));
    return 'power loss of the control plane';
  },
  ({ cluster, upTo }) => fillStore(cluster, upTo(10_000)),
  ({ cluster, node, upTo }) => {
    cluster.nodes.skewClock(node, Math.round(upTo(120_000) - 60_000));
    return `the clock of ${node} is off`;
  },
  ({ cluster, node }) => {
    cluster.nodes.fillDisk(node);
    return `the disk of ${node} is full`;
  },
  ({ cluster, node }) => {
    cluster.nodes.freeDisk(node);
    return `the disk of ${node} has room`;
  },
  ({ cluster, node, upTo }) => {
    cluster.nodes.slowPulls(node, Math.round(upTo(60_000)));
    return `${node} pulls slowly`;
  },
  ({ cluster, upTo }) => crashContainer(cluster, upTo),
];

function fillStore(cluster: Cluster, forMs: number): string {
  const { disk } = cluster;
  if (disk === undefined) return 'nothing';
  disk.isFull = true;
  cluster.clock.setTimer(forMs, () => {
    disk.isFull = false;
  });
  return `the store's disk is full for ${Math.round(forMs)} ms`;
}

function crashContainer(cluster: Cluster, upTo: (most: number) => number): string {
  const pods = [...cluster.nodes.running()];
  const victim = pods[Math.floor(upTo(pods.length))];
  if (victim === undefined) return 'nothing';
  victim.pod.crash(1 + Math.floor(upTo(100)));
  return `crash ${victim.pod.pod.metadata.name}`;
}

/** One random fault; answers what it was. */
export async function randomFault(cluster: Cluster): Promise<string> {
  const { random } = cluster;
  const node = pick(random, cluster.nodes.names());
  const part = pick(random, parts);
  const upTo = (most: number): number => random.float() * most;
  return pick(random, faults)({ cluster, node, part, network: cluster.networks[part], upTo });
}

/** All is well again: networks, nodes, disks and clocks. */
export function healAll(cluster: Cluster): void {
  for (const network of Object.values(cluster.networks)) network.heal();
  if (cluster.disk !== undefined) cluster.disk.isFull = false;
  for (const name of cluster.nodes.names()) {
    cluster.nodes.boot(name);
    cluster.nodes.heal(name);
    cluster.nodes.freeDisk(name);
    cluster.nodes.slowPulls(name, 0);
    cluster.nodes.skewClock(name, 0);
  }
}
