/**
 * Applies manifests to a rehearsed cluster in an order that works (what others need first), as `kubectl apply
 * --server-side` would; a refusal names the manifest.
 */
import type { APIResourceList } from '#api/meta.v1.ts';
import { ApiError, isReason } from '#base/errors.ts';
import { apiVersionOf, groupVersionOf, type KindRef, type KubeObject } from '#base/objects.ts';
import type { Client } from '#client/client.ts';
import { kindOf } from '#base/kinds.ts';
import { discoverResources } from '#controllers/discovery.ts';
import { checkScript } from './script.ts';
import { type Manifest, RehearsalError } from './types.ts';

/** What comes early, in this order; everything else follows as it was given. */
const early = [
  'Namespace',
  'CustomResourceDefinition',
  'PriorityClass',
  'RuntimeClass',
  'StorageClass',
  'IngressClass',
  'ResourceQuota',
  'LimitRange',
  'ServiceAccount',
  'ConfigMap',
  'Secret',
  'PersistentVolume',
  'PersistentVolumeClaim',
  'Service',
  'PodDisruptionBudget',
];
/** After these, others take note before anything else comes. */
const settledAfter = new Set(['Namespace', 'CustomResourceDefinition']);

function rankOf({ object }: Manifest): number {
  const rank = early.indexOf(object.kind);
  return rank < 0 ? early.length : rank;
}

export class Applier {
  readonly #client: Client;
  readonly #settle: () => Promise<void>;
  readonly #kinds = new Map<string, KindRef>();

  /** `settle` lets what was made take effect. */
  constructor(client: Client, settle: () => Promise<void>) {
    this.#client = client;
    this.#settle = settle;
  }

  /** Answers what was applied and whether its spec is another than before. */
  async apply(manifests: readonly Manifest[]): Promise<{ object: KubeObject; changed: boolean }[]> {
    for (const { object, origin } of manifests) checkScript(object, origin);
    const applied: { object: KubeObject; changed: boolean }[] = [];
    let last: string | undefined;
    for (const manifest of [...manifests].sort((a, b) => rankOf(a) - rankOf(b))) {
      if (last !== undefined && last !== manifest.object.kind && settledAfter.has(last)) await this.#settle();
      last = manifest.object.kind;
      applied.push(await this.#applyOne(manifest));
    }
    return applied;
  }

  async #applyOne({ object, origin, lenient }: Manifest): Promise<{ object: KubeObject; changed: boolean }> {
    const kind = await this.#kindOf(object, origin);
    const { name } = object.metadata;
    const namespace = kind.namespaced ? (object.metadata.namespace ?? 'default') : undefined;
    const label = `${object.kind} ${namespace === undefined ? '' : `${namespace}/`}${name}`;
    try {
      const before = await this.#client.get(kind, name, namespace).catch((error: unknown) => {
        if (isReason(error, 'NotFound')) return undefined;
        throw error;
      });
      const made = await this.#client.patch(
        kind,
        { name, namespace },
        { apply: object },
        { fieldManager: 'rehearse', force: true, fieldValidation: lenient === true ? 'Ignore' : 'Strict' },
      );
      return { object: made, changed: before?.metadata.generation !== made.metadata.generation };
    } catch (error) {
      if (!(error instanceof ApiError) || error.reason === 'ServiceUnavailable') throw error;
      throw new RehearsalError(`${origin}: ${label}: ${error.message}`);
    }
  }

  /** Discovery has told of the group's preferred version only. */
  async #serves(apiVersion: string, resource: string): Promise<boolean> {
    try {
      const path = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
      const { resources } = await this.#client.raw<APIResourceList>('GET', path);
      return resources.some(({ name }) => name === resource);
    } catch (error) {
      if (isReason(error, 'NotFound')) return false;
      throw error;
    }
  }

  async #kindOf(object: KubeObject, origin: string): Promise<KindRef> {
    const id = `${object.apiVersion} ${object.kind}`;
    const known = this.#kinds.get(id);
    if (known !== undefined) return known;
    const { resources } = await discoverResources(this.#client);
    const { group } = groupVersionOf(object.apiVersion);
    const found = resources.find(({ kind }) => kind.group === group && kind.kind === object.kind)?.kind;
    if (found === undefined || !(await this.#serves(object.apiVersion, found.resource))) {
      const others = resources
        .filter((other) => other.kind.kind === object.kind)
        .map((other) => apiVersionOf(other.kind));
      throw new RehearsalError(
        `${origin}: no matches for kind "${object.kind}" in version "${object.apiVersion}" (${others.length > 0 ? `there is ${others.join(', ')}` : 'is its CustomResourceDefinition among the manifests?'})`,
      );
    }
    const kind = kindOf(object.apiVersion, found.resource, found.kind, found.namespaced);
    this.#kinds.set(id, kind);
    return kind;
  }
}
