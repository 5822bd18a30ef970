/**
 * A node process: everything that one node runs, put together in the order in which it is needed. Reads top to bottom;
 * nothing starts elsewhere. It may be killed at any line: containers, rules and addresses stay in the kernel, and the
 * next process takes them up from disk.
 */
import { InformerFactory } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import { isRevoked, removedNodes } from '#base/node-identity.ts';
import { processUptimeMs, realClock, realRandom } from '#os/clock.real.ts';
import { writeFileAtomic } from '#os/files.ts';
import type { Kubelet } from '#kubelet/kubelet.ts';
import { inherit } from './heir.ts';
import { hostName, loadUnderlay } from './host.ts';
import { nodePlan } from './instance.ts';
import { followServers } from './known-servers.ts';
import { removeUnusedVolumes } from './local-volumes.ts';
import { startEngine } from './node-engine.ts';
import { followAuthority } from './node-authority.ts';
import { startNodeIdentity } from './node-identity.ts';
import { startKubelet } from './node-kubelet.ts';
import { startNetwork } from './node-network.ts';
import { endPods, watchMembership } from './membership.ts';
import type { NodeParts } from './node-parts.ts';
import { beginPart } from './part.ts';
import { files } from './paths.ts';
import { followProgram } from './upgrade/follow-program.ts';
import { answerShutdown, shutdownSignal } from './shutdown.ts';

export async function runNode(number: number): Promise<void> {
  const name = `node-${number}`;
  const { paths, instance, log, metrics, stack } = beginPart(name);
  await inherit(paths, name);
  const node = nodePlan(instance, number, hostName());
  let workloads: Parameters<typeof answerShutdown>[2];
  process.on(shutdownSignal, () => void answerShutdown(paths, name, workloads, log));

  const identity = startNodeIdentity({ instance, node, paths, log, metrics, stack });
  const client = identity.connect(identity.kubeletClient, 'kubelet');
  const networkClient = identity.connect(identity.networkClient, 'tiphys-network');
  const informers = stack.use(new InformerFactory({ client, clock: realClock, random: realRandom, log }));
  const networkInformers = stack.use(
    new InformerFactory({ client: networkClient, clock: realClock, random: realRandom, log }),
  );
  const removed = networkInformers.informer(kinds.ConfigMap, {
    namespace: removedNodes.namespace,
    fieldSelector: `metadata.name=${removedNodes.name}`,
  });
  const parts: NodeParts = {
    ...{ instance, node, paths, identity, log, metrics, stack },
    nodes: networkInformers.informer(kinds.Node),
    underlay: loadUnderlay(paths),
    isRemoved: (certificate) => isRevoked(certificate, removed.list()[0]?.data),
    removedKnown: removed.synced,
  };
  stack.use(
    followAuthority({
      ...{ informers: networkInformers, nodes: parts.nodes, client, identity, name: node.name, clock: realClock, log },
    }),
  );
  if (number === 1)
    stack.use(followProgram({ paths, nodes: parts.nodes, client, name: node.name, clock: realClock, log }));
  if (number === 1) followServers({ instance, node, paths, nodes: parts.nodes }, identity.servers);
  // Names and Services first: what Pods that still run miss most while this process was away.
  const network = await startNetwork(parts, networkClient, networkInformers);
  if (number === 1)
    removeUnusedVolumes(networkInformers, instance.joined?.volumeDirectory ?? files.volumes(paths), log).ready.catch(
      (error: unknown) => log.error('volumes', { error }),
    );
  void identity.networkClient.ready.then(() => networkInformers.start());
  const engine = await startEngine(parts);
  let known: Kubelet | undefined;
  if (instance.joined !== undefined || instance.member !== undefined)
    stack.use(
      watchMembership({
        ...{ client, node: node.name, clock: realClock, log },
        removed: () => endPods(engine, known, { clock: realClock, log }),
      }),
    );
  await identity.kubeletClient.ready;
  const services = networkInformers.informer(kinds.Service);
  const kubelet = await startKubelet(parts, { client, informers, services, engine, isolate: network.isolate });
  known = kubelet;
  workloads = { engine, kubelet };
  informers.start();
  await Promise.all([network.ready, kubelet.ready, identity.kubeletServing.ready]);
  writeFileAtomic(files.ready(paths, name), `${process.pid}\n`, { mode: 0o644 });
  log.info('ready', { node: node.name, sinceStartMs: Math.round(processUptimeMs()) });
}
