/**
 * The network part of a node process: cluster DNS, Services, network policies, Ingress. It has an identity of its own,
 * which may read what every node's network needs and the certificates that Ingresses name.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Client } from '#client/client.ts';
import type { InformerFactory } from '#client/informer.ts';
import { runDns, upstreamsOf } from '#network/dns.ts';
import { runIngress } from '#network/ingress.ts';
import { runPolicyEnforcer, type PolicyEnforcer } from '#network/policies.ts';
import { runAnnouncer } from '#network/announcer.ts';
import { runMachineRouter } from '#network/machines.ts';
import { runServiceProxy } from '#network/services.ts';
import { isIpv4 } from '#base/ip.ts';
import { coverInput, type NodeServices } from '#net/firewall.ts';
import { tableName } from '#net/kernel-names.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import type { Netlink } from '#os/netlink.ts';
import type { Nft } from '#os/nft.ts';
import { readIfExists } from '#os/files.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { hostAddresses } from './host.ts';
import { clusterDnsAddress, vxlanIdOf, type Instance, type NodePlan } from './instance.ts';
import { hasRegistry, kubeletPort, type NodeParts } from './node-parts.ts';
import { files } from './paths.ts';

/** The host's resolver configuration; systemd-resolved's stub is of no use to others, its own upstreams are. */
export function hostResolvConf(): string {
  const own = readIfExists('/etc/resolv.conf') ?? '';
  return /^\s*nameserver\s+127\./m.test(own) ? (readIfExists('/run/systemd/resolve/resolv.conf') ?? own) : own;
}

/** What Pods, and other machines where there may be some, reach on a node itself. */
export function nodeServices(instance: Instance, node: NodePlan): NodeServices {
  const tlsPorts = [instance.apiPort, instance.registryPort, kubeletPort];
  return {
    addresses: [node.address, clusterDnsAddress(instance)],
    tcpPorts: [53, ...tlsPorts],
    udpPorts: [53],
    ...(instance.address === undefined ? {} : { fromMachines: { podRange: instance.podRange, tcpPorts: tlsPorts } }),
  };
}

export async function startNetwork(
  parts: NodeParts,
  client: Client,
  informers: InformerFactory,
): Promise<{ ready: Promise<unknown>; isolate: PolicyEnforcer['isolate'] }> {
  const { instance, node, log, stack } = parts;
  const dns = await runDns({
    informers,
    clock: realClock,
    random: realRandom,
    log: log.child('dns'),
    addresses: [clusterDnsAddress(instance)],
    domain: instance.domain,
    upstreams: upstreamsOf(hostResolvConf()),
  });
  stack.use(dns);
  if (node.number === 1)
    await coverInput(
      { processes: linuxProcesses, instanceId: node.instanceId, log: log.child('firewall') },
      nodeServices(instance, node),
    );
  const { createNetworkDoor } = await import('#os/network.linux.ts');
  const door = createNetworkDoor();
  stack.defer(() => door.close());
  const proxy = startServices(parts, informers, door.nft);
  const policies = stack.use(
    runPolicyEnforcer({
      informers,
      nft: door.nft,
      clock: realClock,
      log: log.child('policies'),
      nodeName: node.name,
      table: `${tableName(node.instanceId)}_policies`,
    }),
  );
  const machines = node.number === 1 ? startMachines(parts, informers, door) : undefined;
  const ingress = startIngress(parts, client, informers);
  return {
    ready: Promise.all([dns.ready, proxy.ready, policies.ready, ingress.ready, machines?.ready]),
    isolate: (pod, podIp) => policies.isolate(pod, podIp),
  };
}

/** The machine's first node keeps the way to other machines, for all of its nodes. */
function startMachines(
  { instance, node, paths, log, stack }: NodeParts,
  informers: InformerFactory,
  { netlink, nft }: { netlink: Netlink; nft: Nft },
): { ready: Promise<unknown> } {
  const router = runMachineRouter({
    informers,
    netlink,
    nft,
    clock: realClock,
    log: log.child('machines'),
    instanceId: instance.id,
    nodeName: node.name,
    nodeAddress: node.address,
    podRange: instance.podRange,
    vxlanId: vxlanIdOf(instance),
    address: isIpv4(instance.address) ? instance.address : undefined,
  });
  stack.use(
    runAnnouncer({
      ...{ informers, netlink, clock: realClock, log: log.child('announcer'), file: files.announced(paths) },
      address: isIpv4(instance.address) ? instance.address : undefined,
    }),
  );
  return stack.use(router);
}

function startServices(
  { instance, node, nodes, log, stack }: NodeParts,
  informers: InformerFactory,
  nft: Nft,
): { ready: Promise<unknown> } {
  const conntrack = linuxProcesses.find('conntrack');
  const proxy = runServiceProxy({
    informers,
    nft,
    clock: realClock,
    log: log.child('services'),
    nodeName: node.name,
    nodes,
    table: `${tableName(node.instanceId)}_services`,
    podRanges: { cluster: instance.podRange, node: node.podRange },
    async forgetUdp({ ip, port }) {
      if (conntrack === undefined) return;
      const address = ip === undefined ? [] : ['--orig-dst', ip];
      await linuxProcesses.run(conntrack, ['-D', '-p', 'udp', ...address, '--orig-port-dst', String(port)]);
    },
  });
  return stack.use(proxy);
}

function startIngress(
  { instance, node, paths, identity, log, stack }: NodeParts,
  client: Client,
  informers: InformerFactory,
): { ready: Promise<unknown> } {
  const runDir = join(files.nodeRun(paths, node.number), 'ingress');
  mkdirSync(runDir, { recursive: true, mode: 0o700 });
  const ingress = runIngress({
    client,
    informers,
    processes: linuxProcesses,
    clock: realClock,
    log: log.child('ingress'),
    runDir,
    nodeName: node.name,
    httpBinds: [`:${instance.httpPort}`],
    httpsBinds: [`:${instance.httpsPort}`],
    statusAddress: hasRegistry({ instance, node }) ? (hostAddresses()[0] ?? node.address) : undefined,
    async defaultCertificate() {
      await identity.ingressServing.ready;
      const { certificatePem, keyPem } = identity.ingressServing.pair;
      return `${certificatePem.trim()}\n${identity.ca().trim()}\n${keyPem.trim()}\n`;
    },
  });
  identity.ingressServing.subscribe(() => ingress.renewCertificates());
  return stack.use(ingress);
}
