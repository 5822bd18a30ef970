/** What simulated nodes have in common, and what each needs of the others' keeper. */
import type { Pod } from '#api/core.v1.ts';
import type { Informer, InformerFactory } from '#client/informer.ts';
import type { Transport } from '#client/transport.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Random } from '#os/clock.ts';
import type { Scripts } from './pod-script.ts';
import type { References } from './references.ts';

export interface NodeDependencies {
  /** The nodes' network. */
  transport: Transport;
  clock: Clock;
  random: Random;
  log: Logger;
  scripts: Scripts;
  informers: InformerFactory;
  /** Events of kubelets; off for scale runs. */
  events: boolean;
  /** Leases are written always, not only when something is wrong. */
  writesLeases: boolean;
}

/** What a node needs of its fleet. */
export interface Fleet {
  readonly deps: NodeDependencies;
  readonly pods: Informer<Pod>;
  readonly references: References;
  readonly isQuiet: boolean;
  readonly isStopped: boolean;
  tellHeartbeat(node: string, agoMs: number): void;
}
