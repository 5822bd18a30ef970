/**
 * The plugins of this machine by name and by what they implement. A plugin says what that is when it is activated, once
 * for each address; one that went away is activated again.
 */
import { ApiError } from '#base/errors.ts';
import { textsOf, type JsonObject } from '#base/unknown.ts';
import type { Clock } from '#os/clock.ts';
import type { Logger } from '#observe/log.ts';
import { callPlugin, streamPlugin, type CallOptions } from './client.ts';
import { findPlugin, listPlugins, type ManagedAddresses, type PluginAddress, type PluginPlaces } from './discovery.ts';
import { pluginListMsMax } from './limits.ts';

export type PluginKind = 'VolumeDriver' | 'authz' | 'LogDriver' | 'NetworkDriver' | 'IpamDriver';

export interface Plugin {
  readonly name: string;
  /** Of one that runs in a container: where the host has what it sees at a path. */
  readonly hostPath?: (path: string) => string;
  /** `VolumeDriver.Create` and the like. Throws ApiError with what the plugin says. */
  call(method: string, body: object, options?: CallOptions): Promise<JsonObject>;
  /** An answer that goes on until the plugin, or `signal`, ends it. */
  stream(method: string, body: object, signal: AbortSignal | undefined): AsyncIterable<Buffer>;
}

export interface PluginsOptions {
  places: PluginPlaces;
  /** Absent: the engine runs none itself. */
  managed?: ManagedAddresses;
  clock: Clock;
  log: Logger;
}

export class Plugins {
  readonly #places: PluginPlaces;
  readonly #managed: ManagedAddresses | undefined;
  readonly #clock: Clock;
  readonly #log: Logger;
  /** What each implements, by its address. */
  readonly #kinds = new Map<string, readonly string[]>();

  constructor({ places, managed, clock, log }: PluginsOptions) {
    this.#places = places;
    this.#managed = managed;
    this.#clock = clock;
    this.#log = log;
  }

  /** Throws ApiError NotFound for one that is not there, or does not implement it. */
  async get(name: string, kind: PluginKind, options: CallOptions = {}): Promise<Plugin> {
    const address = this.#managed?.address(name) ?? findPlugin(this.#places, name);
    if (address === undefined) throw new ApiError('NotFound', `plugin ${JSON.stringify(name)} not found`);
    if (!(await this.#activate(address, options)).includes(kind))
      throw new ApiError('NotFound', `plugin ${JSON.stringify(name)}: Plugin does not implement the requested driver`);
    return {
      name,
      ...(address.hostPath === undefined ? {} : { hostPath: address.hostPath }),
      stream: (method, body, signal) => streamPlugin(address, method, body, signal),
      call: async (method, body, asked = {}) => callPlugin(address, method, body, { ...asked, clock: this.#clock }),
    };
  }

  /** Names of those that implement it and answer now; a plugin that does not is told in the log. */
  async list(kind: PluginKind): Promise<string[]> {
    const found = await Promise.all(
      listPlugins(this.#places).map((name) =>
        this.get(name, kind, { timeoutMs: pluginListMsMax, isOnce: true }).then(
          () => [name],
          (error: unknown) => {
            this.#log.debug('a plugin is not there', { name, error });
            return [];
          },
        ),
      ),
    );
    return [...(this.#managed?.names(kind) ?? []), ...found.flat()];
  }

  async #activate(address: PluginAddress, options: CallOptions): Promise<readonly string[]> {
    if (address.kinds !== undefined) return address.kinds;
    const key = JSON.stringify([address.name, address.target]);
    const known = this.#kinds.get(key);
    if (known !== undefined) return known;
    const answer = await callPlugin(address, 'Plugin.Activate', {}, { ...options, clock: this.#clock });
    const kinds = textsOf(answer['Implements']);
    this.#kinds.set(key, kinds);
    return kinds;
  }
}
