/**
 * All containers of this engine: found by id, name or prefix; names reserved; wired to networks, volumes and sandboxes.
 * The life cycle itself is in container-*.ts, which take this as their first argument.
 */
import { ApiError } from '#base/errors.ts';
import type { Container } from './container.ts';
import type { EngineContext } from './context.ts';
import type { Networks } from './networks.ts';
import type { Sandboxes } from './sandboxes.ts';
import type { Volumes } from './volumes.ts';
import type { NameServer } from './dns.ts';

export class ContainerTable {
  readonly context: EngineContext;
  readonly networks: Networks;
  readonly volumes: Volumes;
  sandboxes!: Sandboxes;
  names!: NameServer;
  readonly byId = new Map<string, Container>();
  readonly #byName = new Map<string, string>();
  /**
   * The platform or the machine goes down (shutdown.ts): what stops now was not stopped by a user, and nothing starts
   * any more.
   */
  shuttingDown = false;
  /** Set by create-engine: watches a container that runs. */
  onStarted: (container: Container) => void = () => undefined;

  constructor(context: EngineContext, networks: Networks, volumes: Volumes) {
    this.context = context;
    this.networks = networks;
    this.volumes = volumes;
  }

  find(reference: string): Container | undefined {
    const plain = reference.startsWith('/') ? reference.slice(1) : reference;
    const exact = this.byId.get(plain) ?? this.byId.get(this.#byName.get(plain) ?? '');
    if (exact !== undefined || plain === '') return exact;
    if (!/^[0-9a-f]+$/.test(plain)) return undefined;
    const matches = [...this.byId.values()].filter((container) => container.id.startsWith(plain));
    if (matches.length > 1) throw new ApiError('BadRequest', `multiple IDs found with provided prefix: ${plain}`);
    return matches[0];
  }

  get(reference: string): Container {
    const found = this.find(reference);
    if (found === undefined) throw new ApiError('NotFound', `No such container: ${reference}`);
    return found;
  }

  /** Only names of the same owner clash: a Pod's containers have names of their own kind. */
  reserveName(name: string, id: string): void {
    const holder = this.#byName.get(name);
    if (holder !== undefined && holder !== id)
      throw new ApiError(
        'Conflict',
        `Conflict. The container name "/${name}" is already in use by container "${holder}". You have to remove (or rename) that container to be able to reuse that name.`,
      );
    this.#byName.set(name, id);
  }

  releaseName(name: string, id: string): void {
    if (this.#byName.get(name) === id) this.#byName.delete(name);
  }

  add(container: Container): void {
    this.byId.set(container.id, container);
    this.#byName.set(container.name, container.id);
  }

  delete(container: Container): void {
    this.byId.delete(container.id);
    this.releaseName(container.name, container.id);
  }

  list(): Container[] {
    return [...this.byId.values()];
  }

  sandboxNamespace(id: string, kind: 'network' | 'ipc' | 'uts'): string {
    return this.sandboxes.namespacePath(id, kind);
  }
}
