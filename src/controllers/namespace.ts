/**
 * The Namespace controller: empties a Namespace that is being deleted and then takes off its `kubernetes` finalizer.
 * Pods go first, then everything else, by whatever the server says it serves (so custom resources too); what waits for
 * graceful shutdown or for finalizers is waited for and shown in conditions. Spec: Kubernetes API, NamespaceStatus
 * conditions.
 */
import type { Namespace, NamespaceCondition } from '#api/core.v1.ts';
import { isReason } from '#base/errors.ts';
import type { KindRef } from '#base/objects.ts';
import { messageOf } from '#base/thrown.ts';
import { resourceNameOf } from '#base/objects.ts';
import type { Informer } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { ReconcileResult, WorkQueue } from '#client/work-queue.ts';
import { discoverResources } from './discovery.ts';
import { isEqual } from './equality.ts';
import { withCondition } from './pods.ts';
import { type Controller, type ControllerContext, createQueue, forEachBounded } from './runtime.ts';

export interface Remaining {
  resource: string;
  count: number;
  finalizers: Record<string, number>;
}
export interface NamespaceObserved {
  namespace: Namespace;
  remaining: Remaining[];
  failedGroups: string[];
  failures: string[];
}
export interface NamespacePlan {
  conditions: NamespaceCondition[];
  finalize: boolean;
}

/** What a condition says while something fails, and once nothing does. */
interface Obstacle {
  type: string;
  isThere: boolean;
  failing: { reason: string; message: string };
  fine: { reason: string; message: string };
}

function obstaclesOf({ remaining, failedGroups, failures }: NamespaceObserved): Obstacle[] {
  const left = remaining.filter(({ count }) => count > 0);
  const finalizers = new Map<string, number>();
  for (const { finalizers: held } of left)
    for (const [name, count] of Object.entries(held)) finalizers.set(name, (finalizers.get(name) ?? 0) + count);
  const sorted = (texts: string[]): string => texts.sort().join(', ');
  const instances = (name: string, of: string, count: number): string => `${name} ${of} ${count} resource instances`;
  return [
    {
      type: 'NamespaceDeletionDiscoveryFailure',
      isThere: failedGroups.length > 0,
      failing: {
        reason: 'DiscoveryFailed',
        message: `Discovery failed for some groups, ${failedGroups.length} failing: ${sorted([...failedGroups])}`,
      },
      fine: { reason: 'ResourcesDiscovered', message: 'All resources successfully discovered' },
    },
    {
      type: 'NamespaceDeletionGroupVersionParsingFailure',
      isThere: false,
      failing: { reason: '', message: '' },
      fine: { reason: 'ParsedGroupVersions', message: 'All legacy kube types successfully parsed' },
    },
    {
      type: 'NamespaceDeletionContentFailure',
      isThere: failures.length > 0,
      failing: {
        reason: 'ContentDeletionFailed',
        message: `Failed to delete all resource types, ${failures.length} remaining: ${sorted([...failures])}`,
      },
      fine: {
        reason: 'ContentDeleted',
        message: 'All content successfully deleted, may be waiting on finalization',
      },
    },
    {
      type: 'NamespaceContentRemaining',
      isThere: left.length > 0,
      failing: {
        reason: 'SomeResourcesRemain',
        message: `Some resources are remaining: ${sorted(left.map(({ resource, count }) => instances(resource, 'has', count)))}`,
      },
      fine: { reason: 'ContentRemoved', message: 'All content successfully removed' },
    },
    {
      type: 'NamespaceFinalizersRemaining',
      isThere: finalizers.size > 0,
      failing: {
        reason: 'SomeFinalizersRemain',
        message: `Some content in the namespace has finalizers remaining: ${sorted([...finalizers].map(([name, count]) => instances(name, 'in', count)))}`,
      },
      fine: { reason: 'ContentHasNoFinalizers', message: 'All content-preserving finalizers finished' },
    },
  ];
}

function planNamespace(observed: NamespaceObserved, nowMs: number): NamespacePlan {
  const { namespace, remaining, failedGroups, failures } = observed;
  let conditions: NamespaceCondition[] = namespace.status?.conditions ?? [];
  for (const { type, isThere, failing, fine } of obstaclesOf(observed))
    conditions = withCondition(
      conditions,
      isThere ? { type, status: 'True', ...failing } : { type, status: 'False', ...fine },
      nowMs,
    );
  const isEmpty = remaining.every(({ count }) => count === 0);
  return { conditions, finalize: isEmpty && failedGroups.length === 0 && failures.length === 0 };
}

/** How soon to look again when content remains: soon at first, as most of it goes at once, and less and less often. */
const recheckMs = 1_000;
const recheckMsMax = 30_000;

class NamespaceController {
  readonly #context: ControllerContext;
  readonly #namespaces: Informer<Namespace>;
  /** How often each Namespace has been looked at without becoming empty. */
  readonly #looks = new Map<string, number>();
  readonly queue: WorkQueue;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#namespaces = context.informers.informer(kinds.Namespace);
    this.queue = createQueue(context, 'namespace', (key) => this.#reconcile(key));
    // Our own status writes must not bring us back at once: while something fails they differ each time.
    const enqueue = (namespace: Namespace): void => {
      if (namespace.metadata.deletionTimestamp !== undefined) this.queue.add(namespace.metadata.name);
    };
    this.#namespaces.addHandler({
      added: enqueue,
      deleted: (namespace) => {
        this.#looks.delete(namespace.metadata.uid);
      },
      updated: (namespace, previous) => {
        if (previous.metadata.deletionTimestamp === undefined || !isEqual(namespace.spec, previous.spec))
          enqueue(namespace);
      },
    });
    // The last Pod's end is the usual thing to wait for.
    context.informers.informer(kinds.Pod).addHandler({
      deleted: (pod) => {
        if (this.#namespaces.get(pod.metadata.namespace)?.metadata.deletionTimestamp !== undefined)
          this.queue.addAfter(pod.metadata.namespace, 10);
      },
    });
  }

  async #reconcile(key: string): Promise<ReconcileResult | undefined> {
    const namespace = this.#namespaces.get(key);
    if (namespace?.metadata.deletionTimestamp === undefined) return undefined;
    if (!(namespace.spec?.finalizers ?? []).includes('kubernetes')) return undefined;
    const { client } = this.#context;
    const { resources, failed } = await discoverResources(client);
    const deletable = resources.filter(
      ({ kind, verbs }) =>
        kind.namespaced &&
        verbs.includes('list') &&
        verbs.includes('delete') &&
        !(kind.group === 'events.k8s.io' || kind.resource === 'bindings'),
    );
    const isPods = (kind: KindRef): boolean => kind.group === '' && kind.resource === 'pods';
    const failures: string[] = [];
    const pods = await this.#empty(
      key,
      deletable.filter(({ kind }) => isPods(kind)).map(({ kind }) => kind),
      failures,
    );
    // Pods may need their Secrets, ConfigMaps and policies until they have stopped.
    const waiting = pods.some(({ count }) => count > 0);
    const others = waiting
      ? []
      : await this.#empty(
          key,
          deletable.filter(({ kind }) => !isPods(kind)).map(({ kind }) => kind),
          failures,
        );
    const plan = planNamespace(
      { namespace, remaining: [...pods, ...others], failedGroups: failed, failures },
      this.#context.clock.now(),
    );
    const current = this.#namespaces.get(key);
    if (current === undefined) return undefined;
    if (!isEqual(current.status?.conditions, plan.conditions) && !plan.finalize) {
      await client.update(
        kinds.Namespace,
        { ...current, status: { ...current.status, phase: 'Terminating', conditions: plan.conditions } },
        { subresource: 'status' },
      );
    }
    if (!plan.finalize) {
      const looks = this.#looks.get(namespace.metadata.uid) ?? 0;
      this.#looks.set(namespace.metadata.uid, looks + 1);
      return { requeueAfterMs: Math.min(recheckMs * 1.5 ** Math.min(looks, 20), recheckMsMax) };
    }
    const fresh = await client.get(kinds.Namespace, key);
    const finalizers = (fresh.spec?.finalizers ?? []).filter((name) => name !== 'kubernetes');
    await client.update(
      kinds.Namespace,
      { ...fresh, spec: { ...fresh.spec, finalizers } },
      { subresource: 'finalize' },
    );
    return undefined;
  }

  async #empty(namespace: string, wanted: KindRef[], failures: string[]): Promise<Remaining[]> {
    const { client } = this.#context;
    const remaining: Remaining[] = [];
    await forEachBounded(
      wanted,
      async (kind) => {
        try {
          const before = await client.list(kind, { namespace });
          if (before.items.length === 0) return;
          await client.deleteCollection(kind, { namespace, propagationPolicy: 'Background' });
          const { items } = await client.list(kind, { namespace });
          if (items.length === 0) return;
          const finalizers: Record<string, number> = {};
          for (const { metadata } of items)
            for (const name of metadata.finalizers ?? []) finalizers[name] = (finalizers[name] ?? 0) + 1;
          remaining.push({
            resource: kind.group === '' ? `${kind.resource}.` : `${kind.resource}.${kind.group}`,
            count: items.length,
            finalizers,
          });
        } catch (error) {
          if (isReason(error, 'NotFound', 'MethodNotAllowed')) return;
          failures.push(`${resourceNameOf(kind)}: ${messageOf(error)}`);
        }
      },
      8,
    );
    return remaining;
  }
}

export function startNamespaceController(context: ControllerContext): Controller {
  const controller = new NamespaceController(context);
  return { name: 'namespace', queues: [controller.queue] };
}
