/**
 * The doors of a kubelet on Linux (`doors.ts`): its files, its probes, its rhythm, and what the machine has left.
 *
 * Memory is `MemAvailable` of the kernel: of the whole machine, whatever group this process is in, as Pods have groups
 * of their own. Processes are those of the machine against the smaller of its two bounds.
 */
import type { Pod } from '#api/core.v1.ts';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '#base/thrown.ts';
import type { Client } from '#client/client.ts';
import type { Engine, RegistryCredential } from '#engine/engine.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Random, Timer } from '#os/clock.ts';
import type { Mounts } from '#os/mount.ts';
import type { DnsSettings, KubeletOptions, NodeGauge, NodeReading, Rhythm } from './doors.ts';
import { createImageSource } from './images.ts';
import type { KubeletPaths } from './pod-paths.ts';
import type { NodeFacts } from './node-status.ts';
import { createObjectCache, type ObjectCache } from './referenced-objects.ts';
import { createPodFiles } from './pod-files.ts';
import { fileSystemAt } from './pod-storage.ts';
import { TrustAnchors } from './trust-anchors.ts';
import { createProber } from './probes.ts';
import { matchCredentials } from './pull-secrets.ts';

/** Paths of a kubelet below a data and a run directory. */
export function kubeletPaths(dataDir: string, runDir: string): KubeletPaths {
  return { podsDir: join(dataDir, 'pods'), secretsDir: join(runDir, 'secrets'), logsDir: join(dataDir, 'pod-logs') };
}

/** Credentials that fit the image, of the Secrets that the Pod names; one that is missing holds nothing up. */
async function pullCredentials(objects: ObjectCache, pod: Pod, image: string): Promise<RegistryCredential[]> {
  const { namespace, uid } = pod.metadata;
  const found: RegistryCredential[] = [];
  for (const { name } of pod.spec.imagePullSecrets ?? []) {
    // As if it were not there: the pull says what it could not do without.
    const secret = await objects.secret(namespace, name ?? '', uid).catch(() => undefined);
    if (secret !== undefined) found.push(...matchCredentials(secret, image));
  }
  return found;
}

/** By timers; one round ends before the next begins. */
function createRhythm(clock: Clock, log: Logger): Rhythm {
  return {
    every(what, periodMs, run) {
      let timer: Timer;
      let isCancelled = false;
      const tick = (): void => {
        void run()
          .catch((error: unknown) => log.debug(`${what} failed`, { error: messageOf(error) }))
          .finally(() => {
            if (!isCancelled) timer = clock.setTimer(periodMs, tick, { background: true });
          });
      };
      timer = clock.setTimer(0, tick, { background: true });
      return {
        cancel: () => {
          isCancelled = true;
          timer.cancel();
        },
      };
    },
  };
}

export interface LinuxNodeOptions {
  client: Client;
  engine: Pick<Engine, 'containers' | 'images'>;
  mounts: Mounts;
  clock: Clock;
  random: Random;
  log: Logger;
  facts: NodeFacts;
  paths: KubeletPaths;
  dns: DnsSettings;
  /** Where images and writable layers lie. */
  imagesDir: string;
}

export function createLinuxNode(
  options: LinuxNodeOptions,
): Pick<KubeletOptions, 'files' | 'images' | 'prober' | 'gauge' | 'rhythm'> {
  const { engine, clock, random, log, paths, imagesDir } = options;
  const objects = createObjectCache(options);
  return {
    files: createPodFiles({ ...options, objects, anchors: new TrustAnchors(options) }),
    images: createImageSource({ engine, credentials: (pod, image) => pullCredentials(objects, pod, image) }),
    prober: createProber({ engine, clock, random }),
    gauge: createNodeGauge({ podsDir: paths.podsDir, imagesDir }),
    rhythm: createRhythm(clock, log),
  };
}

/** A value of /proc/meminfo in bytes; undefined where the kernel does not say it. */
export function memoryOf(text: string, name: string): number | undefined {
  const found = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text);
  return found === null ? undefined : Number(found[1]) * 1024;
}

/** Processes of /proc/loadavg (`0.1 0.2 0.3 1/234 5678`). */
export function processesOf(loadavg: string): number {
  return Number(/\s\d+\/(\d+)\s/.exec(loadavg)?.[1] ?? 0);
}

/** `imagesDir`: where images and writable layers lie. What a kernel does not say is not short. */
function createNodeGauge({ podsDir, imagesDir }: { podsDir: string; imagesDir: string }): NodeGauge {
  const number = async (path: string): Promise<number> => {
    const text = await readFile(path, 'utf8').catch(() => '');
    return text === '' ? Infinity : Number(text);
  };
  return {
    async read(): Promise<NodeReading> {
      const [memory, loadavg, nodefs, pods, images] = await Promise.all([
        readFile('/proc/meminfo', 'utf8'),
        readFile('/proc/loadavg', 'utf8'),
        fileSystemAt(podsDir),
        stat(podsDir),
        stat(imagesDir),
      ]);
      const memoryCapacityBytes = memoryOf(memory, 'MemTotal') ?? 0;
      const pidsMax = Math.min(await number('/proc/sys/kernel/pid_max'), await number('/proc/sys/kernel/threads-max'));
      return {
        memoryCapacityBytes,
        memoryAvailableBytes: memoryOf(memory, 'MemAvailable') ?? Infinity,
        nodefs,
        ...(pods.dev === images.dev ? {} : { imagefs: await fileSystemAt(imagesDir) }),
        pidsMax: Number.isFinite(pidsMax) ? pidsMax : 0,
        pidsUsed: Number.isFinite(pidsMax) ? processesOf(loadavg) : 0,
      };
    },
  };
}
