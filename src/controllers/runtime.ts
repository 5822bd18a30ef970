/**
 * What every controller is given and gives: shared informers, a client that reads its own writes, clock, chance, and
 * queues.
 *
 * A controller is a function `start…(context)` that adds handlers (which only put keys on its queue) and returns its
 * queues. Its reconciler observes through informers, calls a pure `plan…`, and applies the result. It may die between
 * any two writes:
 * the next run sees what is there and goes on.
 */
import type { OwnerReference, StoredObjectMeta } from '#api/meta.v1.ts';
import { isReason } from '#base/errors.ts';
import type { KindRef, KubeObject } from '#base/objects.ts';
import type { Client } from '#client/client.ts';
import { createEventRecorder, type EventRecorder } from '#client/events.ts';
import { type Informer, type InformerFactory, keyOf } from '#client/informer.ts';
import type { WorkQueueMetrics } from '#client/metrics.ts';
import { type Reconcile, WorkQueue } from '#client/work-queue.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Random } from '#os/clock.ts';
import { isEqualStatus } from './equality.ts';
import { reconcileConcurrencyMax, writesInFlightMax } from './limits.ts';

export interface ControllerContext {
  client: Client;
  informers: InformerFactory;
  clock: Clock;
  random: Random;
  log: Logger;
  /** Recorders made so far, for flushing at the end. */
  recorders: EventRecorder[];
  /** What makes the series of a queue; absent where nothing is measured. */
  queueMetrics?: ((name: string) => WorkQueueMetrics) | undefined;
}

export interface Controller {
  name: string;
  queues: WorkQueue[];
  stop?(): void;
}

export function recorderOf(context: ControllerContext, component: string): EventRecorder {
  const recorder = createEventRecorder({ client: context.client, clock: context.clock, log: context.log, component });
  context.recorders.push(recorder);
  return recorder;
}

export function createQueue(
  context: ControllerContext,
  name: string,
  reconcile: Reconcile,
  concurrency = reconcileConcurrencyMax,
): WorkQueue {
  return new WorkQueue({
    name,
    clock: context.clock,
    log: context.log,
    reconcile,
    concurrency,
    isExpected: isRaceLost,
    metrics: context.queueMetrics?.(name),
  });
}

/** Failures that another's write, or a namespace going away, explains: the next event or retry settles them. */
function isRaceLost(error: unknown): boolean {
  return (
    isReason(error, 'Conflict', 'NotFound', 'AlreadyExists') ||
    (isReason(error, 'Forbidden') && error.message.includes('being terminated'))
  );
}

/** Every change of the kind's objects puts their own key on the queue. */
export function enqueueEach(informer: Informer, queue: WorkQueue): void {
  informer.addHandler({
    added: (o) => queue.add(keyOf(o)),
    updated: (o) => queue.add(keyOf(o)),
    deleted: (o) => queue.add(keyOf(o)),
  });
}

/**
 * Owners of many are looked at less often: counting is O(owned), and changes come in bursts. Small ones wait for
 * nothing.
 */
function coalesceMs(owned: number): number {
  return owned <= 32 ? 0 : Math.min(250, owned >> 1);
}

/**
 * Changes of owned objects put the controlling owner's key on the queue, also the former owner's. The informer needs
 * the index `controller`.
 */
export function enqueueController(informer: Informer, ownerKind: string, queue: WorkQueue): void {
  const enqueue = (object: KubeObject): string | undefined => {
    const owner = controllerOf(object);
    if (owner === undefined || owner.kind !== ownerKind) return undefined;
    queue.addAfter(`${object.metadata.namespace}/${owner.name}`, coalesceMs(informer.countBy('controller', owner.uid)));
    return owner.uid;
  };
  informer.addHandler({
    added: (o) => {
      enqueue(o);
    },
    updated: (o, previous) => {
      const uid = enqueue(o);
      if (controllerOf(previous)?.uid !== uid) enqueue(previous);
    },
    deleted: (o) => {
      enqueue(o);
    },
  });
}

export function controllerOf(object: KubeObject): OwnerReference | undefined {
  const owners = object.metadata.ownerReferences;
  if (owners === undefined) return undefined;
  for (let i = 0; i < owners.length; i++) if (owners[i]!.controller === true) return owners[i];
  return undefined;
}

/** An object that the server has stored. */
export interface StoredObject extends KubeObject {
  metadata: StoredObjectMeta;
}

/** The reference that a controller puts on what it makes. */
export function ownedBy(owner: StoredObject): OwnerReference {
  return {
    apiVersion: owner.apiVersion,
    kind: owner.kind,
    name: owner.metadata.name,
    uid: owner.metadata.uid,
    controller: true,
    blockOwnerDeletion: true,
  };
}

/**
 * Runs `run` for each item, a bounded number at once; throws the first error after all that were started have ended.
 */
export async function forEachBounded<T>(
  items: readonly T[],
  run: (item: T, index: number) => Promise<unknown>,
  inFlightMax = writesInFlightMax,
): Promise<void> {
  let next = 0;
  let failed = false;
  let error: unknown;
  const worker = async (): Promise<void> => {
    while (next < items.length && !failed) {
      const index = next++;
      try {
        await run(items[index]!, index);
      } catch (caught) {
        if (!failed) {
          failed = true;
          error = caught;
        }
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(inFlightMax, items.length) }, worker));
  if (failed) throw error;
}

/**
 * Creates `count` things in batches of 1, 2, 4 … so that a create that cannot succeed (a quota, a webhook) fails once
 * and not
 * `count` times. Answers how many succeeded; throws the first error.
 */
export async function slowStart(count: number, create: (index: number) => Promise<unknown>): Promise<void> {
  let done = 0;
  for (let batch = 1; done < count; batch *= 2) {
    const size = Math.min(batch, count - done, writesInFlightMax * 2);
    const start = done;
    await forEachBounded(
      Array.from({ length: size }, (_, i) => start + i),
      (index) => create(index),
    );
    done += size;
  }
}

/**
 * Writes a status when it differs from what is there. The object must be the one that was read: a conflict means to
 * look again.
 */
export async function writeStatus<T extends KubeObject & { status?: unknown }>(
  context: ControllerContext,
  kind: KindRef<T>,
  object: T,
  status: T['status'],
): Promise<void> {
  if (isEqualStatus(object.status, status)) return;
  await context.client.update(kind, { ...object, status }, { subresource: 'status' });
}

/** Adds this owner to an object that matches its selector and has no controller. Fails where the object changed. */
export async function adopt(
  context: ControllerContext,
  kind: KindRef,
  owner: StoredObject,
  object: StoredObject,
): Promise<void> {
  const ownerReferences = [...(object.metadata.ownerReferences ?? []), ownedBy(owner)];
  await context.client.patch(kind, object.metadata, {
    merge: {
      metadata: { uid: object.metadata.uid, resourceVersion: object.metadata.resourceVersion, ownerReferences },
    },
  });
}

/** Takes this owner off an object that no longer matches. An object that is gone needs nothing. */
export async function release(
  context: ControllerContext,
  kind: KindRef,
  owner: StoredObject,
  object: StoredObject,
): Promise<void> {
  try {
    await context.client.patch(kind, object.metadata, {
      strategic: {
        metadata: { uid: object.metadata.uid, ownerReferences: [{ $patch: 'delete', uid: owner.metadata.uid }] },
      },
    });
  } catch (error) {
    if (!isReason(error, 'NotFound', 'Invalid', 'Conflict')) throw error;
  }
}

/** Fails where the object changed; the event of the change brings it back. */
export function addFinalizer(
  context: ControllerContext,
  kind: KindRef,
  object: StoredObject,
  finalizer: string,
): Promise<unknown> {
  return writeFinalizers(context, kind, object, [...(object.metadata.finalizers ?? []), finalizer]);
}

/** Fails where the object changed. One that does not have the finalizer needs nothing. */
export async function removeFinalizer(
  context: ControllerContext,
  kind: KindRef,
  object: StoredObject,
  finalizer: string,
): Promise<void> {
  const { finalizers = [] } = object.metadata;
  if (!finalizers.includes(finalizer)) return;
  const others = finalizers.filter((name) => name !== finalizer);
  await writeFinalizers(context, kind, object, others.length === 0 ? null : others);
}

function writeFinalizers(
  { client }: ControllerContext,
  kind: KindRef,
  { metadata }: StoredObject,
  finalizers: string[] | null,
): Promise<unknown> {
  const { uid, resourceVersion } = metadata;
  return client.patch(kind, metadata, { merge: { metadata: { uid, resourceVersion, finalizers } } });
}

/** Deletes; what is already gone, or is another object by now, needs nothing. */
export async function deleteIfPresent(
  context: ControllerContext,
  kind: KindRef,
  object: StoredObject,
  options: { propagationPolicy?: 'Background' | 'Foreground' | 'Orphan'; gracePeriodSeconds?: number } = {},
): Promise<void> {
  try {
    await context.client.delete(kind, object.metadata.name, object.metadata.namespace, {
      ...options,
      preconditions: { uid: object.metadata.uid },
    });
  } catch (error) {
    if (!isReason(error, 'NotFound', 'Conflict')) throw error;
  }
}
