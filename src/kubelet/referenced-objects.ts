/**
 * ConfigMaps and Secrets that Pods on this node refer to. Each is watched by name while a Pod needs it, so that a
 * change reaches the volumes without polling, and nothing else of a namespace is read (Node authorisation allows no
 * more).
 */
import type { ConfigMap, Secret } from '#api/core.v1.ts';
import { isReason } from '#base/errors.ts';
import { isOf, type KindRef } from '#base/objects.ts';
import { messageOf } from '#base/thrown.ts';
import type { Client } from '#client/client.ts';
import { kinds } from '#base/kinds.ts';
import type { Clock } from '#os/clock.ts';
import type { Logger } from '#observe/log.ts';
import { syncErrorRetryMs } from './limits.ts';

interface Watched {
  kind: KindRef<ConfigMap | Secret>;
  namespace: string;
  name: string;
  holders: Set<string>;
  value: ConfigMap | Secret | undefined;
  ready: Promise<void>;
  stop: AbortController;
}

export interface ObjectCache {
  configMap(namespace: string, name: string, holder: string): Promise<ConfigMap | undefined>;
  secret(namespace: string, name: string, holder: string): Promise<Secret | undefined>;
  /** Gives up what this Pod needed. */
  release(holder: string): void;
  /** Calls back with the holders of an object that has changed. */
  onChange(listener: (holders: string[]) => void): void;
  close(): void;
}

export function createObjectCache(options: { client: Client; clock: Clock; log: Logger }): ObjectCache {
  const { client, clock, log } = options;
  const watched = new Map<string, Watched>();
  let tell: (holders: string[]) => void = () => {};

  const follow = async (entry: Watched, first: () => void): Promise<void> => {
    while (!entry.stop.signal.aborted) {
      try {
        let version: string | undefined;
        try {
          const object = await client.get(entry.kind, entry.name, entry.namespace);
          version = object.metadata.resourceVersion;
          update(entry, object);
        } catch (error) {
          if (!isReason(error, 'NotFound')) throw error;
          update(entry, undefined);
        }
        first();
        if (version === undefined) {
          await clock.sleep(syncErrorRetryMs, entry.stop.signal);
          continue;
        }
        const events = client.watch(entry.kind, {
          namespace: entry.namespace,
          fieldSelector: `metadata.name=${entry.name}`,
          resourceVersion: version,
          allowBookmarks: true,
          signal: entry.stop.signal,
        });
        for await (const event of events) {
          if (event.type === 'ADDED' || event.type === 'MODIFIED') update(entry, event.object);
          else if (event.type === 'DELETED') {
            update(entry, undefined);
            break;
          } else if (event.type === 'ERROR') break;
        }
      } catch (error) {
        if (entry.stop.signal.aborted) return;
        first();
        log.debug('watch of a referenced object ended', {
          name: `${entry.namespace}/${entry.name}`,
          error: messageOf(error),
        });
        await clock.sleep(syncErrorRetryMs, entry.stop.signal).catch(() => {});
      }
    }
  };
  const update = (entry: Watched, object: ConfigMap | Secret | undefined): void => {
    const changed =
      entry.value !== undefined && entry.value.metadata.resourceVersion !== object?.metadata.resourceVersion;
    entry.value = object;
    if (changed) tell([...entry.holders]);
  };

  const get = async (
    kind: KindRef<ConfigMap | Secret>,
    namespace: string,
    name: string,
    holder: string,
  ): Promise<ConfigMap | Secret | undefined> => {
    const key = `${kind.kind}/${namespace}/${name}`;
    let entry = watched.get(key);
    if (entry === undefined) {
      const made: Watched = {
        kind,
        namespace,
        name,
        holders: new Set(),
        value: undefined,
        ready: Promise.resolve(),
        stop: new AbortController(),
      };
      made.ready = new Promise((resolve) => void follow(made, resolve));
      watched.set(key, made);
      entry = made;
    }
    entry.holders.add(holder);
    await entry.ready;
    if (entry.value !== undefined) return entry.value;
    // Not there when last seen: ask, because a Pod must not wait for the next look.
    return client.get(entry.kind, name, namespace).catch((error: unknown) => {
      if (isReason(error, 'NotFound')) return undefined;
      throw error;
    });
  };

  return {
    async configMap(namespace, name, holder) {
      const found = await get(kinds.ConfigMap, namespace, name, holder);
      return found !== undefined && isOf(kinds.ConfigMap, found) ? found : undefined;
    },
    async secret(namespace, name, holder) {
      const found = await get(kinds.Secret, namespace, name, holder);
      return found !== undefined && isOf(kinds.Secret, found) ? found : undefined;
    },
    release(holder) {
      for (const [key, entry] of watched) {
        if (!entry.holders.delete(holder) || entry.holders.size > 0) continue;
        entry.stop.abort();
        watched.delete(key);
      }
    },
    onChange(listener) {
      tell = listener;
    },
    close() {
      for (const entry of watched.values()) entry.stop.abort();
      watched.clear();
    },
  };
}
