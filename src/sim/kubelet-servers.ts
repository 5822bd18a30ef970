/**
 * A kubelet's server for each simulated node, on a port of its own of the loopback: the real one, over simulated Pods.
 * A node that is down or cut off does not answer.
 */
import type { Server } from 'node:https';
import type { Socket } from 'node:net';
import { isReason } from '#base/errors.ts';
import { issueCertificate, type KeyPair } from '#base/x509.ts';
import { kinds } from '#base/kinds.ts';
import { startKubeletServer } from '#kubelet/server.ts';
import type { NodeUsage } from '#kubelet/stats.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import type { Client } from '#client/client.ts';
import type { Logger } from '#observe/log.ts';
import { exposeMetrics } from '#observe/exposition.ts';
import { Metrics } from '#observe/metrics.ts';
import type { Clock } from '#os/clock.ts';
import type { SimNodes } from './nodes.ts';
import type { SimNodeState } from './sim-node.ts';

/** The API server's name to kubelets. */
export const kubeletClientName = 'kube-apiserver-kubelet-client';

/** A cluster whose nodes' kubelets answer. */
export interface ServedCluster {
  readonly nodes: SimNodes;
  readonly client: Client;
  readonly clock: Clock;
  readonly log: Logger;
}

interface NodeServer {
  server: Server;
  sockets: Set<Socket>;
  port: number;
}

export class KubeletServers implements AsyncDisposable {
  readonly #cluster: ServedCluster;
  readonly #ca: KeyPair;
  readonly #servers = new Map<string, NodeServer>();
  readonly #forget: () => void;

  constructor(cluster: ServedCluster, ca: KeyPair) {
    this.#cluster = cluster;
    this.#ca = ca;
    this.#forget = cluster.nodes.onReach((name) => {
      this.#reachChanged(name);
    });
  }

  /** Starts what is missing and writes into each Node where its kubelet answers. */
  async start(): Promise<void> {
    const { certificatePem, keyPem } = issueCertificate(
      {
        commonName: 'system:node:sim',
        organizations: ['system:nodes'],
        server: true,
        dnsNames: ['localhost'],
        ipAddresses: ['127.0.0.1'],
      },
      this.#ca,
      realRandom,
      realClock,
    );
    for (const name of this.#cluster.nodes.names()) {
      const node = this.#cluster.nodes.get(name);
      if (node === undefined) continue;
      const { port } = await this.#open(node, certificatePem, keyPem);
      node.answerAt('127.0.0.1', port);
      const status = {
        addresses: [
          { type: 'InternalIP', address: '127.0.0.1' },
          { type: 'Hostname', address: name },
        ],
        daemonEndpoints: { kubeletEndpoint: { Port: port } },
      };
      try {
        await this.#cluster.client.patch(kinds.Node, { name }, { merge: { status } }, { subresource: 'status' });
      } catch (error) {
        // A Node that somebody deleted.
        if (!isReason(error, 'NotFound')) throw error;
      }
    }
  }

  async #open(node: SimNodeState, certificate: string, key: string): Promise<NodeServer> {
    const { log } = this.#cluster;
    const { name } = node;
    const server = await startKubeletServer(
      {
        ...node.served,
        clock: this.#clockOf(name),
        log: log.child('kubelet'),
        nodeName: name,
        client: this.#cluster.client,
        allowed: { commonNames: [kubeletClientName], organizations: ['system:masters'] },
        nodeUsage: () => this.#nodeUsage(node),
        configuration: node.configuration,
        // A simulated node has no process of its own, and its probes look at nothing.
        metrics: () => exposeMetrics(new Metrics()),
        probeMetrics: () => exposeMetrics(new Metrics()),
      },
      '127.0.0.1',
      0,
    );
    server.setSecureContext({ cert: certificate, key, ca: this.#ca.certificatePem });
    const address = server.address();
    if (typeof address !== 'object' || address === null) throw new Error(`the server of ${name} has no port`);
    const made: NodeServer = { server, sockets: new Set(), port: address.port };
    server.on('connection', (socket: Socket) => {
      if (!this.#cluster.nodes.isReachable(name)) {
        socket.destroy();
        return;
      }
      made.sockets.add(socket);
      socket.once('close', () => made.sockets.delete(socket));
    });
    this.#servers.set(name, made);
    return made;
  }

  /** Connections live in real time; what is said of the time is the node's. */
  #clockOf(name: string): Clock {
    const { clock, nodes } = this.#cluster;
    return {
      now: () => clock.now() + (nodes.get(name)?.skewMs ?? 0),
      monotonic: () => realClock.monotonic(),
      setTimer: (...timer) => realClock.setTimer(...timer),
      sleep: (...sleep) => realClock.sleep(...sleep),
    };
  }

  async #nodeUsage({ engine, memoryBytes, cores }: SimNodeState): Promise<NodeUsage> {
    const { clock } = this.#cluster;
    let [cpuNanoseconds, memoryWorkingSetBytes] = [0, 0];
    for (const { id, state } of engine.containers.list()) {
      if (state !== 'running') continue;
      const stats = await engine.containers.stats(id);
      cpuNanoseconds += stats.cpuNanoseconds;
      memoryWorkingSetBytes += stats.memoryWorkingSetBytes;
    }
    return {
      cpuNanoseconds,
      memoryWorkingSetBytes,
      memoryAvailableBytes: Math.max(0, memoryBytes - memoryWorkingSetBytes),
      memoryRssBytes: memoryWorkingSetBytes,
      memoryBytes,
      swapUsedBytes: 0,
      swapFreeBytes: 0,
      links: [],
      cores,
      readAtMs: clock.now(),
      bootedAtMs: clock.now() - clock.monotonic(),
    };
  }

  #reachChanged(name: string): void {
    if (this.#cluster.nodes.isReachable(name)) return;
    for (const socket of this.#servers.get(name)?.sockets ?? []) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#forget();
    await Promise.all(
      [...this.#servers.values()].map(
        ({ server, sockets }) =>
          new Promise<void>((resolve) => {
            server.close(() => {
              resolve();
            });
            for (const socket of sockets) socket.destroy();
          }),
      ),
    );
  }
}
