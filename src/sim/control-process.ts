/**
 * Controllers and scheduler are one process, as on a real server: they live and die together. When it is killed nothing
 * that it still does reaches the API server; a new one is a new process.
 */
import { InformerFactory } from '#client/informer.ts';
import { createClient } from '#client/rest-client.ts';
import type { Transport } from '#client/transport.ts';
import { type ControllerOptions, runControllers, type RunningControllers } from '#controllers/run.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Random } from '#os/clock.ts';
import { type RunningScheduler, runScheduler } from '#scheduler/scheduler.ts';
import { ProcessTransport } from './faults.ts';
import { watchSecondsMax } from './limits.ts';

export interface ControlOptions {
  networks: { controllers: Transport; scheduler: Transport };
  clock: Clock;
  random: Random;
  log: Logger;
  options: ControllerOptions;
}

export class ControlProcess implements AsyncDisposable {
  readonly #options: ControlOptions;
  readonly #controllersTransport: ProcessTransport;
  readonly #schedulerTransport: ProcessTransport;
  readonly #informers: InformerFactory;
  #isStopped = false;
  #controllers: RunningControllers | undefined;
  #scheduler: RunningScheduler | undefined;

  constructor(options: ControlOptions) {
    const { networks, clock, random, log } = options;
    this.#options = options;
    this.#controllersTransport = new ProcessTransport(networks.controllers);
    this.#schedulerTransport = new ProcessTransport(networks.scheduler);
    this.#informers = new InformerFactory({
      client: createClient(this.#controllersTransport, 'kube-controller-manager'),
      clock,
      random,
      log,
      bookmarks: false,
      watchSeconds: watchSecondsMax,
    });
  }

  /** Undefined until they run, and after the end. */
  get controllers(): RunningControllers | undefined {
    return this.#controllers;
  }
  get scheduler(): RunningScheduler | undefined {
    return this.#scheduler;
  }

  /** Resolves when both run. */
  async start(): Promise<void> {
    const { clock, random, log, options } = this.#options;
    const common = { clock, random, log, informers: this.#informers };
    const client = createClient(this.#controllersTransport, 'kube-controller-manager');
    const controllers = await runControllers({ ...common, client, options });
    if (this.#isStopped) return controllers[Symbol.asyncDispose]();
    this.#controllers = controllers;
    const scheduler = await runScheduler({
      ...common,
      client: createClient(this.#schedulerTransport, 'kube-scheduler'),
    });
    if (this.#isStopped) return scheduler[Symbol.asyncDispose]();
    this.#scheduler = scheduler;
  }

  /** All queues empty; also while it does not run. */
  isIdle(): boolean {
    return (this.#controllers?.isIdle() ?? true) && (this.#scheduler?.isIdle() ?? true);
  }

  /** Whatever still waits for time to pass fails at once instead. */
  kill(): void {
    this.#controllersTransport.kill();
    this.#schedulerTransport.kill();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopped = true;
    const [scheduler, controllers] = [this.#scheduler, this.#controllers];
    this.#scheduler = undefined;
    this.#controllers = undefined;
    await scheduler?.[Symbol.asyncDispose]();
    await controllers?.[Symbol.asyncDispose]();
    await this.#informers[Symbol.asyncDispose]();
  }
}
