/**
 * A whole cluster in one process and in virtual time: store, API server, every controller, the scheduler and simulated
 * nodes.
 *
 * Time stands still while anything runs and moves only through `advance` and `runUntil` (or, with `listen`, along with
 * the wall). All chance comes from one seed. `fork` takes a copy-on-write snapshot of the store; the copy's processes
 * start on first use and find their state there, exactly as real ones do after a restart. Nothing here touches the disk
 * or the network, but for `listen`.
 */
import { createApiServer, type ApiServer } from '#apiserver/server.ts';
import type { KeyRing } from '#apiserver/keys.ts';
import type { ApiHandler } from '#base/api-request.ts';
import type { KubeObject } from '#base/objects.ts';
import { awaitedLater } from '#base/promises.ts';
import type { Client } from '#client/client.ts';
import { InformerFactory } from '#client/informer.ts';
import { createClient } from '#client/rest-client.ts';
import { createDirectTransport } from '#client/transport-direct.ts';
import type { RunningControllers } from '#controllers/run.ts';
import { createLogger, type Logger, silentLogger } from '#observe/log.ts';
import { settle, SimClock, SimRandom } from '#os/clock.sim.ts';
import type { RunningScheduler } from '#scheduler/scheduler.ts';
import { type ForkableStore, createMemoryStore } from '#store/memory.ts';
import { type ClusterOptions, type Part, partUsers } from './cluster-options.ts';
import { ControlProcess } from './control-process.ts';
import { SimDisk } from './disk.ts';
import { type Duration, durationMs, formatDuration } from './duration.ts';
import { ObservedStore } from './event-hash.ts';
import { FaultyTransport } from './faults.ts';
import { type ExecAnswer, type ExecOptions, execCommand, type LogsOptions, readLogs } from './in-process.ts';
import { historyTransactionsMax, runUntilMsMax, timersPerInstantMax, watchSecondsMax } from './limits.ts';
import { type Listening, type ListenOptions, listenCluster } from './listen.ts';
import { applyManifests, type Manifests } from './manifests.ts';
import { metricsOf } from './metrics.ts';
import { SimNodes } from './nodes.ts';
import { Scripts } from './pod-script.ts';
import { lazyKeys, ServerLife, serverIsDown } from './server-life.ts';
import type { NodeSnapshot } from './sim-node.ts';

export type Condition = () => boolean | Promise<boolean>;

interface Parts {
  control: ControlProcess | undefined;
  nodes: SimNodes;
  nodeInformers: InformerFactory;
}

/** What a fork takes over from its origin. */
interface Origin {
  store: (clock: SimClock) => ForkableStore;
  disk: SimDisk | undefined;
  nowMs: number;
  random: SimRandom;
  nodes: readonly NodeSnapshot[];
  scripts: Scripts;
}

export class Cluster implements AsyncDisposable {
  readonly clock: SimClock;
  readonly random: SimRandom;
  readonly options: ClusterOptions;
  readonly disk: SimDisk | undefined;
  readonly observed: ObservedStore;
  readonly scripts: Scripts;
  readonly keys: KeyRing;
  readonly log: Logger;
  /** As a cluster administrator. Objects that come back are frozen. */
  readonly client: Client;
  /** The network between each part and the API server. */
  readonly networks: Record<Part, FaultyTransport>;
  readonly #connections: FaultyTransport[] = [];
  #parts: Parts | undefined;
  #starting: Promise<Parts> | undefined;
  #apiServer: ApiServer | undefined;
  #apiStarting: Promise<ApiServer> | undefined;
  #store: ForkableStore;
  /** One life of the API server's process: requests under way when it ends are never answered. */
  #life = new ServerLife();
  #isServerDown = false;
  #serverUpMs = 0;
  #disposed = false;
  #restart: object | undefined;
  readonly #startNodes: readonly NodeSnapshot[];

  constructor(options: ClusterOptions, from?: Origin) {
    this.options = options;
    const start = options.start ?? '2026-01-01T00:00:00Z';
    this.clock = new SimClock(from?.nowMs ?? (typeof start === 'number' ? start : Date.parse(start)));
    this.random = from?.random ?? new SimRandom(options.seed ?? 1);
    this.observed = new ObservedStore(options.hash === true);
    this.log =
      options.log === undefined
        ? silentLogger
        : createLogger(
            () => this.clock.now(),
            (line) => process.stderr.write(line),
            options.log,
          );
    if (options.disk === true)
      this.disk = from?.disk?.fork(this.clock, this.random.split()) ?? new SimDisk(this.clock, this.random.split());
    this.#store = this.observed.wrap(
      this.disk?.open(this.log.child('store')) ?? from?.store(this.clock) ?? createMemoryStore(this.clock),
    );
    // History is forgotten by number, not only by age: much can happen while virtual time stands still.
    let sinceCompaction = 0;
    this.observed.onCommit(({ revision }) => {
      if (++sinceCompaction < historyTransactionsMax) return;
      sinceCompaction = 0;
      // A store that is gone needs none.
      void this.store.compact(Math.max(0, revision - historyTransactionsMax)).catch(() => {});
    });
    this.scripts = from?.scripts ?? new Scripts(options.scripts ?? []);
    this.keys = lazyKeys(this.random.split());
    this.#startNodes =
      from?.nodes ??
      (typeof options.nodes === 'object' ? options.nodes : Array.from({ length: options.nodes ?? 3 }, () => ({})));
    this.networks = {
      controllers: this.#network('controllers'),
      scheduler: this.#network('scheduler'),
      nodes: this.#network('nodes'),
      client: this.#network('client'),
    };
    this.client = createClient(this.networks.client, 'sim');
  }

  #network(part: Part): FaultyTransport {
    const { observe = (handle: ApiHandler): ApiHandler => handle } = this.options;
    const handle = observe(async (request) => {
      if (this.#isServerDown) throw serverIsDown();
      const api = this.#apiServer ?? (await this.#startApi());
      return this.disk === undefined ? api.handle(request) : this.#life.run(api.handle(request));
    });
    const network = new FaultyTransport(createDirectTransport(handle, partUsers[part]), this.clock, this.random);
    network.onChange = () => this.#noteQuiet();
    return network;
  }

  #noteQuiet(): void {
    this.#parts?.nodes.setQuiet(
      !this.#isServerDown && Object.values(this.networks).every(({ isHealthy }) => isHealthy),
    );
  }

  get store(): ForkableStore {
    return this.#store;
  }
  /** Virtual time, in milliseconds since 1970. */
  get now(): number {
    return this.clock.now();
  }
  get nodes(): SimNodes {
    return this.#running.nodes;
  }
  get controllers(): RunningControllers | undefined {
    return this.#running.control?.controllers;
  }
  get scheduler(): RunningScheduler | undefined {
    return this.#running.control?.scheduler;
  }
  get api(): ApiServer {
    if (this.#apiServer === undefined) throw new Error('the API server has not started yet: await ready() first');
    return this.#apiServer;
  }
  /** Hash over everything committed so far (option `hash`). */
  get hash(): string {
    return this.observed.digest();
  }

  get #running(): Parts {
    if (this.#parts === undefined) throw new Error('the cluster has not started yet: await ready() or advance() first');
    return this.#parts;
  }

  /** Resolves when every part runs; implied by whatever lets time pass. */
  async ready(): Promise<void> {
    await this.#start();
  }

  #start(): Promise<Parts> {
    this.#starting ??= this.disk === undefined ? this.#startParts() : this.#meanwhile(this.#startParts());
    return this.#starting;
  }

  /** A disk takes time: it passes until the work is done. */
  async #meanwhile<T>(work: Promise<T>): Promise<T> {
    let isDone = false;
    const watched = work.finally(() => {
      isDone = true;
    });
    void awaitedLater(watched);
    for (await settle(); !isDone; await settle())
      if (!this.clock.fireNext(Infinity)) throw new Error('the cluster does not start: nothing more would happen');
    return watched;
  }

  async #startParts(): Promise<Parts> {
    await this.#startApi();
    // Other parts speak to the API server while they start.
    const parts: Parts = { control: undefined, ...this.#createNodes() };
    this.#parts = parts;
    await this.#runControl(parts);
    parts.nodeInformers.start();
    await parts.nodeInformers.synced();
    await parts.nodes.add(this.#startNodes);
    return parts;
  }

  /**
   * The API server comes up with the first request; the other parts when time shall pass. So a fork that only reads
   * costs little.
   */
  #startApi(): Promise<ApiServer> {
    this.#apiStarting ??= this.#createApi().then((api) => (this.#apiServer = api));
    return this.#apiStarting;
  }

  #createApi(): Promise<ApiServer> {
    return createApiServer({
      trackFields: this.options.managedFields !== false,
      historyKeepMs: 0,
      store: this.store,
      clock: this.clock,
      random: this.random,
      log: this.log.child('apiserver'),
      keys: this.keys,
      usage: metricsOf(
        () => this.#running.nodes,
        () => this.clock.now(),
      ),
    });
  }

  #createNodes(): Pick<Parts, 'nodes' | 'nodeInformers'> {
    const { clock, random, log } = this;
    const client = createClient(this.networks.nodes, 'kubelet');
    const nodeInformers = new InformerFactory({
      client,
      clock,
      random,
      log: log.child('nodes'),
      bookmarks: false,
      watchSeconds: watchSecondsMax,
    });
    const nodes = new SimNodes({
      transport: this.networks.nodes,
      clock,
      random,
      log: log.child('nodes'),
      scripts: this.scripts,
      informers: nodeInformers,
      events: this.options.events !== false,
      writesLeases: this.options.leases === true,
    });
    return { nodes, nodeInformers };
  }

  #runControl(parts: Parts): Promise<void> {
    const { clock, random, log, networks } = this;
    const options = { rootCa: 'simulated', heartbeats: parts.nodes, ...this.options.controllers };
    parts.control = new ControlProcess({ networks, clock, random, log, options });
    return parts.control.start();
  }

  /** Lets everything that can happen now happen; time does not move. */
  async settle(): Promise<void> {
    await this.#start();
    await settle();
    const now = this.clock.now();
    for (let count = 0; this.clock.fireNext(now); count++) {
      if (count > timersPerInstantMax) throw new Error('time does not move: timers without delay set each other');
      await settle();
    }
  }

  /** Lets time pass: `'24h'`, `'90s'`, or milliseconds. */
  async advance(duration: Duration): Promise<void> {
    await this.#start();
    await this.clock.advance(durationMs(duration));
  }

  /**
   * Lets time pass until the condition holds, looking after each event; answers how long it took. Throws after
   * `timeout` (24 h when absent).
   */
  async runUntil(
    condition: Condition,
    { timeout = runUntilMsMax, every = 0 }: { timeout?: Duration; every?: Duration } = {},
  ): Promise<number> {
    await this.#start();
    const start = this.clock.now();
    const end = start + durationMs(timeout);
    const stepMs = durationMs(every);
    let nextCheck = start;
    for (;;) {
      await settle();
      if (this.clock.now() >= nextCheck) {
        if (await condition()) return this.clock.now() - start;
        nextCheck = this.clock.now() + stepMs;
        await settle();
      }
      if (!this.clock.fireNext(end))
        throw new Error(`the condition did not hold within ${formatDuration(end - start)} of virtual time`);
    }
  }

  /**
   * Creates or replaces objects from YAML text or values; kinds are found by discovery. Throws where one has no name,
   * or is refused.
   */
  async apply(manifests: Manifests, namespace = 'default'): Promise<KubeObject[]> {
    await this.#start();
    return applyManifests(this.client, manifests, namespace);
  }

  /** An independent copy as of now; it costs pointers, and its processes start on first use. */
  fork({ seed }: { seed?: number } = {}): Cluster {
    const nodes = this.#parts === undefined ? this.#startNodes : this.#parts.nodes.options();
    const random = seed === undefined ? this.random.split() : new SimRandom(seed);
    return new Cluster(this.options, {
      store: (clock) => this.store.fork(clock),
      disk: this.disk,
      nowMs: this.clock.now(),
      random,
      nodes,
      scripts: this.scripts.copy(),
    });
  }

  /** A client with a network of its own, to cut and to slow: for an operator under test. */
  connect(userAgent: string): { client: Client; network: FaultyTransport } {
    const network = this.#network('client');
    this.#connections.push(network);
    return { client: createClient(network, userAgent), network };
  }

  /** Real HTTPS with a kubeconfig, for kubectl and for operators. Dispose it before the cluster. */
  listen(options?: ListenOptions): Promise<Listening> {
    return listenCluster(this, options);
  }

  /**
   * What the newest run of a container has logged, or with `previous` the one before it: lines as `kubectl logs` prints
   * them. Throws what kubectl says where there is nothing.
   */
  logs(namespace: string, name: string, options: LogsOptions = {}): string[] {
    return readLogs(this, { namespace, name, ...options });
  }

  /**
   * Runs a command in a container by its script, as `kubectl exec` does; a script that waits needs time to pass
   * meanwhile.
   */
  exec(namespace: string, name: string, command: readonly string[], options: ExecOptions = {}): Promise<ExecAnswer> {
    return execCommand(this, { namespace, name, command, ...options });
  }

  /**
   * Kills controllers and scheduler where they stand; new ones start after `downtime`, in the course of virtual time.
   */
  async restartControllers(downtime: Duration = 0): Promise<void> {
    const parts = await this.#start();
    this.#killControl(parts);
    const mark = {};
    this.#restart = mark;
    this.clock.setTimer(durationMs(downtime), () => {
      if (this.#restart === mark && !this.#disposed) void this.#runControl(parts);
    });
  }

  /** Stops the API server for `downtime`: requests fail, watches end, clients come back by themselves. */
  async restartApiServer(downtime: Duration = '1s'): Promise<void> {
    await this.crashApiServer(downtime);
    await this.clock.advance(durationMs(downtime));
    while (this.#isServerDown && !this.#disposed) await this.clock.advance(1);
  }

  /**
   * Kills the API server and its store where they stand: nobody hears of the requests that were under way, and with a
   * disk (option `disk`) what it had not synced may be lost. A new one starts after `downtime`, in the course of
   * virtual time.
   */
  async crashApiServer(downtime: Duration = 0): Promise<void> {
    await this.#start();
    const dead = this.#apiServer;
    const life = (this.#life = this.#life.next());
    this.#isServerDown = true;
    this.#serverUpMs = Infinity;
    this.#apiServer = this.#apiStarting = undefined;
    for (const network of [...Object.values(this.networks), ...this.#connections]) network.breakWatches();
    this.#noteQuiet();
    this.disk?.cut();
    void dead?.[Symbol.asyncDispose]();
    this.clock.setTimer(durationMs(downtime), () => {
      if (life === this.#life && !this.#disposed) void this.#recover(life);
    });
  }

  /** The machine of the control plane loses power: API server, store, controllers and scheduler, all at once. */
  async losePower(downtime: Duration = 0): Promise<void> {
    await this.crashApiServer(downtime);
    await this.restartControllers(downtime);
  }

  async #recover(life: ServerLife): Promise<void> {
    if (this.disk !== undefined) {
      const store = this.disk.open(this.log.child('store'));
      this.#store = this.observed.wrap(store);
      await this.observed.catchUp(store);
    }
    this.#apiStarting = this.#createApi();
    const api = await this.#apiStarting;
    if (life !== this.#life) return;
    this.#apiServer = api;
    this.#isServerDown = false;
    this.#serverUpMs = this.now;
    this.#noteQuiet();
  }

  #killControl(parts: Parts): void {
    const { control } = parts;
    parts.control = undefined;
    control?.kill();
    void control?.[Symbol.asyncDispose]();
  }

  /** When the API server last came up again (ms since 1970, virtual); Infinity while it is down. */
  get serverUpMs(): number {
    return this.#serverUpMs;
  }

  /** All queues empty and nothing on its way. */
  isIdle(): boolean {
    return this.#parts?.control?.isIdle() ?? true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    this.disk?.finish();
    // Who started it has heard why it did not.
    const parts = this.#starting === undefined ? undefined : await this.#starting.catch(() => undefined);
    if (parts !== undefined) {
      // Whatever still waits for time to pass fails at once instead.
      parts.control?.kill();
      await parts.nodes[Symbol.asyncDispose]();
      await parts.nodeInformers[Symbol.asyncDispose]();
      this.#killControl(parts);
    }
    for (const network of [...Object.values(this.networks), ...this.#connections]) await network[Symbol.asyncDispose]();
    // Likewise.
    await (await this.#apiStarting?.catch(() => undefined))?.[Symbol.asyncDispose]();
    await this.#apiServer?.[Symbol.asyncDispose]();
    await this.store[Symbol.asyncDispose]();
  }
}

/** A running cluster. `await using cluster = await createCluster({ nodes: 3 })`. */
export async function createCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const cluster = new Cluster(options);
  await cluster.ready();
  return cluster;
}
