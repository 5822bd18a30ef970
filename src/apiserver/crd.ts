/**
 * Custom resource definitions at work: a definition is established (its names taken, its kinds served), follows
 * changes, and when it is deleted takes its objects with it before its finalizer goes. One loop over the definitions'
 * watch; any step may be repeated.
 */
import type { CustomResourceDefinition, CustomResourceDefinitionCondition } from '#api/apiextensions.v1.ts';
import { kinds } from '#base/kinds.ts';
import { isReason } from '#base/errors.ts';
import { timestamp } from '#base/timestamp.ts';
import { kindsOfDefinition } from '#schema/crd-schema.ts';
import type { Timer } from '#os/clock.ts';
import type { KindRecord } from '#schema/kind.ts';
import type { Server } from './context.ts';
import { conversionOf } from './conversion.ts';
import { deleteObject } from './delete.ts';
import { internalContext } from './internal.ts';
import { definitionRetryMs } from './limits.ts';
import { storagePrefix } from './stored-objects.ts';
import { unversioned, updateObject } from './write-path.ts';

const cleanup = 'customresourcecleanup.apiextensions.k8s.io';

class CustomResources {
  #server: Server;
  #served = new Map<string, { kinds: KindRecord[]; generation: number }>();
  readonly #due = new Set<string>();
  #running = false;
  #timers = new Map<string, Timer>();
  #stopped = false;

  constructor(server: Server) {
    this.#server = server;
  }

  /** Has a definition brought in line soon. */
  add(name: string): void {
    this.#due.add(name);
    if (!this.#running) void this.#run();
  }

  stop(): void {
    this.#stopped = true;
    for (const timer of this.#timers.values()) timer.cancel();
  }

  async #run(): Promise<void> {
    this.#running = true;
    for (const name of this.#due) {
      if (this.#stopped) break;
      this.#due.delete(name);
      try {
        const definition = (await this.#server.live.definitions.current()).get('', name);
        if (definition !== undefined) await this.#sync(definition);
      } catch (error) {
        this.#server.log.warn('custom resource definition', { name, error });
        this.#addLater(name);
      }
    }
    this.#running = false;
  }

  #addLater(name: string): void {
    if (this.#stopped) return;
    this.#timers.get(name)?.cancel();
    const run = (): void => {
      this.#timers.delete(name);
      this.add(name);
    };
    this.#timers.set(name, this.#server.clock.setTimer(definitionRetryMs, run, { background: true }));
  }

  /** Brings what is served in line with a definition. */
  async #sync(definition: CustomResourceDefinition): Promise<void> {
    const name = definition.metadata.name;
    if (definition.metadata.deletionTimestamp !== undefined) {
      await this.#finalize(definition);
      return;
    }
    const conflict = this.#nameConflict(definition);
    if (conflict === undefined) this.serve(definition);
    const conditions = conditionsFor(definition, conflict, timestamp(this.#server.clock.now()));
    const names = conflict === undefined ? definition.spec.names : definition.status?.acceptedNames;
    await this.#update(name, 'status', (o) => {
      const storage = o.spec.versions.filter((version) => version.storage).map((version) => version.name);
      o.status = {
        ...o.status,
        ...(names === undefined ? {} : { acceptedNames: names }),
        conditions,
        storedVersions: [...new Set([...(o.status?.storedVersions ?? []), ...storage])],
      };
    });
  }

  async #update(
    name: string,
    subresource: string,
    change: (definition: CustomResourceDefinition) => void,
  ): Promise<void> {
    const kind = this.#server.kinds.builtIn(kinds.CustomResourceDefinition);
    const context = internalContext(this.#server, kind, { verb: 'update', name, subresource });
    try {
      await updateObject(
        context,
        name,
        (current) => {
          change(current);
          return unversioned(current);
        },
        { subresource },
      );
    } catch (error) {
      if (!isReason(error, 'NotFound')) throw error;
    }
  }

  serve(definition: CustomResourceDefinition): void {
    const name = definition.metadata.name;
    const known = this.#served.get(name);
    const generation = definition.metadata.generation ?? 0;
    if (known?.generation === generation) return;
    this.drop(name);
    const kinds = kindsOfDefinition(definition, conversionOf(this.#server, definition));
    for (const kind of kinds) this.#server.kinds.add(kind);
    this.#served.set(name, { kinds, generation });
  }

  drop(name: string): void {
    for (const kind of this.#served.get(name)?.kinds ?? []) this.#server.kinds.remove(kind);
    this.#served.delete(name);
  }

  #nameConflict(definition: CustomResourceDefinition): string | undefined {
    const { group, names } = definition.spec;
    for (const kind of this.#server.kinds.all()) {
      if (kind.group !== group || (kind.custom === true && kind.resource === names.plural)) continue;
      if (kind.resource === names.plural || kind.kind === names.kind) return `"${names.kind}" is already in use`;
    }
    return undefined;
  }

  /** Deletes the objects; the definition goes when none is left. */
  async #finalize(definition: CustomResourceDefinition): Promise<void> {
    const name = definition.metadata.name;
    if (!(definition.metadata.finalizers ?? []).includes(cleanup)) return;
    this.serve(definition);
    await this.#update(name, 'status', (o) => {
      const conditions = o.status?.conditions ?? [];
      if (conditions.some((c) => c.type === 'Terminating' && c.status === 'True')) return;
      const terminating = {
        type: 'Terminating',
        status: 'True',
        reason: 'InstanceDeletionInProgress',
        message: 'CustomResource deletion is in progress',
        lastTransitionTime: timestamp(this.#server.clock.now()),
      };
      o.status = { ...o.status, conditions: [...conditions.filter((c) => c.type !== 'Terminating'), terminating] };
    });
    // As what is stored is converted least.
    const versions = definition.spec.versions.map((version) => ({ ...version, served: version.storage }));
    const [kind] = kindsOfDefinition(
      { ...definition, spec: { ...definition.spec, versions } },
      conversionOf(this.#server, definition),
    );
    if (kind === undefined) throw new Error(`definition ${name} has no version`);
    const list = await this.#server.store.list(storagePrefix(kind));
    for (const stored of list.values) {
      const { namespace = '', name: own = '' } = this.#server.objects.view(stored).metadata;
      try {
        const context = internalContext(this.#server, kind, { verb: 'delete', namespace, name: own });
        await deleteObject(context, namespace, own, {});
      } catch (error) {
        if (!isReason(error, 'NotFound')) throw error;
      }
    }
    const left = await this.#server.store.list(storagePrefix(kind), { limit: 1 });
    if (left.values.length > 0) {
      // finalizers hold some: look again when they may have gone
      this.#addLater(name);
      return;
    }
    this.drop(name);
    await this.#update(name, '', (o) => {
      o.metadata.finalizers = (o.metadata.finalizers ?? []).filter((f) => f !== cleanup);
    });
  }
}

function conditionsFor(
  definition: CustomResourceDefinition,
  conflict: string | undefined,
  now: string,
): CustomResourceDefinitionCondition[] {
  const before = definition.status?.conditions ?? [];
  const make = (type: string, status: string, reason: string, message: string): CustomResourceDefinitionCondition => {
    const old = before.find((condition) => condition.type === type);
    const { lastTransitionTime = now } = old?.status === status ? old : {};
    return { type, status, reason, message, lastTransitionTime };
  };
  const accepted =
    conflict === undefined
      ? make('NamesAccepted', 'True', 'NoConflicts', 'no conflicts found')
      : make('NamesAccepted', 'False', 'KindConflict', conflict);
  const established =
    conflict === undefined
      ? make('Established', 'True', 'InitialNamesAccepted', 'the initial names have been accepted')
      : make('Established', 'False', 'NotAccepted', 'not all names are accepted');
  return [accepted, established];
}

/** Serves what is defined already, then follows changes. Answers how to stop. */
export async function runCustomResources(server: Server): Promise<() => void> {
  const custom = new CustomResources(server);
  const { definitions } = server.live;
  definitions.subscribe((_namespace, name, definition) => {
    if (definition === undefined) custom.drop(name);
    else custom.add(name);
  });
  for (const { object } of (await definitions.current()).in()) {
    const conditions = object.status?.conditions ?? [];
    if (conditions.some((c) => c.type === 'Established' && c.status === 'True')) custom.serve(object);
  }
  definitions.follow().catch((error: unknown) => server.log.error('custom resources stopped', { error }));
  return () => custom.stop();
}
