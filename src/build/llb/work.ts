/** What the carrying out of a build's vertices has to work with. */
import type { Content, Hold } from '#content/content.ts';
import type { ImageLayer, ImageRecords } from '#content/image-records.ts';
import type { BuildSnapshots } from '#content/snapshots.ts';
import type { Clock, Random } from '#os/clock.ts';
import type { Mounts } from '#os/mount.ts';
import type { BuildCache } from '../cache-store.ts';
import type { BuildRunner, RunRequest } from '../runner.ts';
import type { CacheMounts } from './cache-mounts.ts';
import type { Output, StepLayer, VertexOutput } from './output.ts';
import type { SecretSource } from './secrets.ts';
import type { SourceOp, Vertex } from './vertex.ts';

/** The store, and what runs commands. */
export interface SolverParts {
  content: Content;
  images: ImageRecords;
  snapshots: BuildSnapshots;
  runner: BuildRunner;
  cache: BuildCache;
  cacheMounts: CacheMounts;
  mounts: Mounts;
  clock: Clock;
  random: Random;
}

/** What one build brings. */
export interface SolverBuild {
  sources: { open(context: SolverContext, op: SourceOp, vertex: Vertex): Promise<Output> };
  secrets: SecretSource;
  exec: ExecSettings;
  /** Keeps what was made until the build has ended. */
  hold: Hold;
  begin(vertex: Vertex): VertexOutput;
  /** How many builds it lies in. */
  depth?: number;
  /** Caches beside this engine's own. */
  travelling?: TravellingCache;
  signal: AbortSignal;
}

/** Caches that come from elsewhere, or go there. */
export interface TravellingCache {
  /** What the work gave elsewhere, brought here; undefined: not known there. */
  find(work: Work): Promise<TravelledResult | undefined>;
  /** What it gave here. */
  note(work: Work, made: TravelledResult): void;
}

export interface TravelledResult {
  layers: (ImageLayer | null)[];
  atMs: number;
  /** Its layers, or those that it stands on, are known by diff id alone. */
  isAbsent?: boolean;
}

export interface SolverContext extends SolverParts {
  build: SolverBuild;
  /** The build's, and that of a failure elsewhere in it. */
  signal: AbortSignal;
  /** A directory of the client as layers. */
  toSteps(output: Output): Promise<readonly StepLayer[]>;
}

/** Work whose result the cache may know: the key says all that decides it. */
export interface Work {
  key: string;
  /**
   * A key by what the work reads of its inputs, where it reads them in part and finding out takes a while; undefined
   * where it cannot be found out.
   */
  contentKey?: () => Promise<string | undefined>;
  about: string;
  /** How many layers it gives: one for each output of the vertex. */
  outputs: number;
  /** Steps that each output stands on; undefined: what was made is complete in itself. */
  below: (readonly StepLayer[])[];
  run(output: VertexOutput): Promise<(ImageLayer | null)[]>;
}

/** What the daemon and the request as a whole say of commands; none of it is in the graph. */
export interface ExecSettings {
  /** Network of steps that run in a sandbox: `default`, or the name of a docker network. */
  network: string;
  shmSizeBytes?: number;
  /** Bounds of the step; they do not count for the cache. */
  resources?: NonNullable<RunRequest['resources']>;
  cgroupParent?: string;
  /** Environment and files that must not change the key: proxies of the host, certificates. */
  hiddenEnv: string[];
  hiddenMounts: RunRequest['mounts'];
}
