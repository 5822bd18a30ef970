/**
 * What a simulated Pod needs of other objects before its containers can start: ConfigMaps and Secrets of its volumes
 * and its environment. As in the real kubelet, a missing one of a volume holds up the whole Pod (FailedMount), one of
 * `env` its container alone
 * (CreateContainerConfigError). What was found once is believed for a minute, so that a thousand alike Pods ask once.
 */
import type { ConfigMap, Pod, Secret } from '#api/core.v1.ts';
import { isReason } from '#base/errors.ts';
import { isOf } from '#base/objects.ts';
import type { Client } from '#client/client.ts';
import { kinds } from '#base/kinds.ts';
import type { ReferencedObjects } from '#kubelet/env.ts';
import type { Clock } from '#os/clock.ts';
import { referenceBelievedMs, referencesRememberedMax } from './limits.ts';

type Referenced = 'ConfigMap' | 'Secret';
/** What a volume is made of, as far as it says which keys. */
interface KeySource {
  optional?: boolean;
  items?: { key: string }[];
}
/** `keys`: those that must be in it. */
interface Need {
  volume: string;
  kind: Referenced;
  name: string;
  keys: readonly string[];
}

/** Type of a Secret that was copied without what it holds: every key is taken to be in it. */
export const copiedSecretType = 'rehearse.tiphys.io/copied';
/** Every key, with nothing behind it. */
const anyKey: Record<string, string> = new Proxy({}, { get: () => '' });

/** ConfigMaps and Secrets that the volumes cannot do without. */
export function volumeNeeds(pod: Pod): Need[] {
  const needs: Need[] = [];
  const add = (volume: string, kind: Referenced, source: KeySource | undefined, name: string | undefined): void => {
    if (source !== undefined && source.optional !== true && name !== undefined)
      needs.push({ volume, kind, name, keys: (source.items ?? []).map(({ key }) => key) });
  };
  for (const volume of pod.spec.volumes ?? []) {
    add(volume.name, 'ConfigMap', volume.configMap, volume.configMap?.name);
    add(volume.name, 'Secret', volume.secret, volume.secret?.secretName);
    for (const source of volume.projected?.sources ?? []) {
      add(volume.name, 'ConfigMap', source.configMap, source.configMap?.name);
      add(volume.name, 'Secret', source.secret, source.secret?.name);
    }
  }
  return needs;
}

/** The first of these keys that is not in it. */
export function absentKey(object: ConfigMap | Secret, keys: readonly string[]): string | undefined {
  return keys.find(
    (key) => object.data?.[key] === undefined && (!('binaryData' in object) || object.binaryData?.[key] === undefined),
  );
}

export class References {
  readonly #client: Client;
  readonly #clock: Clock;
  readonly #found = new Map<string, { object: ConfigMap | Secret; untilMs: number }>();

  constructor(client: Client, clock: Clock) {
    this.#client = client;
    this.#clock = clock;
  }

  #known(kind: Referenced, namespace: string, name: string): ConfigMap | Secret | undefined {
    const held = this.#found.get(`${kind}/${namespace}/${name}`);
    return held === undefined || held.untilMs < this.#clock.now() ? undefined : held.object;
  }

  async #get(kind: Referenced, namespace: string, name: string): Promise<ConfigMap | Secret | undefined> {
    const known = this.#known(kind, namespace, name);
    if (known !== undefined) return known;
    try {
      const found = await this.#client.get<ConfigMap | Secret>(kinds[kind], name, namespace);
      const object = isOf(kinds.Secret, found) && found.type === copiedSecretType ? { ...found, data: anyKey } : found;
      if (this.#found.size >= referencesRememberedMax) this.#found.clear();
      this.#found.set(`${kind}/${namespace}/${name}`, { object, untilMs: this.#clock.now() + referenceBelievedMs });
      return object;
    } catch (error) {
      if (!isReason(error, 'NotFound')) throw error;
      return undefined;
    }
  }

  /** True when all that the volumes need was seen of late: nothing has to be asked. */
  areKnown(pod: Pod, needs: readonly Need[]): boolean {
    return needs.every(({ kind, name, keys }) => {
      const object = this.#known(kind, pod.metadata.namespace, name);
      return object !== undefined && absentKey(object, keys) === undefined;
    });
  }

  /**
   * What keeps the volumes from being mounted; undefined when nothing does. Throws when the API server cannot be asked.
   */
  async volumeProblem(pod: Pod, needs: readonly Need[]): Promise<string | undefined> {
    for (const { volume, kind, name, keys } of needs) {
      const object = await this.#get(kind, pod.metadata.namespace, name);
      const absent = object === undefined ? undefined : absentKey(object, keys);
      const problem =
        object === undefined
          ? `${kind.toLowerCase()} "${name}" not found`
          : absent === undefined
            ? undefined
            : `references non-existent ${kind === 'Secret' ? 'secret' : 'config'} key: ${absent}`;
      if (problem === undefined) continue;
      this.#found.delete(`${kind}/${pod.metadata.namespace}/${name}`);
      return `MountVolume.SetUp failed for volume "${volume}" : ${problem}`;
    }
    return undefined;
  }

  /** For a container's environment; `isAgain`: what was found before may have lacked a key, and is asked for anew. */
  objects(isAgain: boolean): ReferencedObjects {
    const get = (kind: Referenced, namespace: string, name: string): Promise<ConfigMap | Secret | undefined> => {
      if (isAgain) this.#found.delete(`${kind}/${namespace}/${name}`);
      return this.#get(kind, namespace, name);
    };
    return {
      async configMap(namespace, name) {
        const found = await get('ConfigMap', namespace, name);
        return found !== undefined && isOf(kinds.ConfigMap, found) ? found : undefined;
      },
      async secret(namespace, name) {
        const found = await get('Secret', namespace, name);
        return found !== undefined && isOf(kinds.Secret, found) ? found : undefined;
      },
    };
  }
}
