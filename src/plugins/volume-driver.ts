/**
 * Volumes of plugins, by the protocol's volume driver.
 * Source: Docker documentation, "Docker volume plugins / VolumeDriver".
 */
import { ApiError } from '#base/errors.ts';
import { fieldOf, isObject, itemsOf, textOf, type JsonObject } from '#base/unknown.ts';
import { pluginListMsMax } from './limits.ts';
import type { Plugins } from './plugins.ts';

export interface PluginVolume {
  name: string;
  driver: string;
  /** Empty while it is mounted nowhere. */
  mountpoint: string;
  createdAt: string;
  /** `global` where it is the same on all machines. */
  scope: 'local' | 'global';
  status?: JsonObject;
}

export class VolumeDrivers {
  readonly #plugins: Plugins;

  constructor(plugins: Plugins) {
    this.#plugins = plugins;
  }

  names(): Promise<string[]> {
    return this.#plugins.list('VolumeDriver');
  }

  async create(driver: string, name: string, options: Record<string, string>): Promise<void> {
    const plugin = await this.#get(driver);
    await plugin.call('VolumeDriver.Create', { Name: name, Opts: options });
  }

  async remove(driver: string, name: string): Promise<void> {
    const plugin = await this.#get(driver);
    await plugin.call('VolumeDriver.Remove', { Name: name });
  }

  /** The directory on this machine. `holder`: a container, or whoever wants it mounted. */
  async mount(driver: string, name: string, holder: string): Promise<string> {
    const plugin = await this.#get(driver);
    const mountpoint = textOf(await plugin.call('VolumeDriver.Mount', { Name: name, ID: holder }), 'Mountpoint') ?? '';
    if (!mountpoint.startsWith('/'))
      throw new ApiError('InternalError', `VolumeDriver.Mount: plugin "${driver}" gave no directory for ${name}`);
    return plugin.hostPath?.(mountpoint) ?? mountpoint;
  }

  async unmount(driver: string, name: string, holder: string): Promise<void> {
    const plugin = await this.#get(driver);
    await plugin.call('VolumeDriver.Unmount', { Name: name, ID: holder });
  }

  /** Undefined where the plugin does not know it. */
  async find(driver: string, name: string): Promise<PluginVolume | undefined> {
    const options = { timeoutMs: pluginListMsMax, isOnce: true };
    const plugin = await this.#plugins.get(driver, 'VolumeDriver', options);
    const answer = await plugin.call('VolumeDriver.Get', { Name: name }, options).catch((error: unknown) => {
      if (error instanceof ApiError) return {};
      throw error;
    });
    return volumeOf(driver, fieldOf(answer, 'Volume'), await this.#scope(driver));
  }

  async #scope(driver: string): Promise<'local' | 'global'> {
    const options = { timeoutMs: pluginListMsMax, isOnce: true };
    const plugin = await this.#plugins.get(driver, 'VolumeDriver', options);
    // Older plugins do not have it.
    const answer = await plugin.call('VolumeDriver.Capabilities', {}, options).catch(() => ({}));
    return (textOf(answer, 'Capabilities', 'Scope') ?? '').toLowerCase() === 'global' ? 'global' : 'local';
  }

  /** Of all drivers that answer; of those that do not, why. */
  async list(): Promise<{ volumes: PluginVolume[]; warnings: string[] }> {
    const volumes: PluginVolume[] = [];
    const warnings: string[] = [];
    const options = { timeoutMs: pluginListMsMax, isOnce: true };
    await Promise.all(
      (await this.names()).map(async (driver) => {
        try {
          const plugin = await this.#plugins.get(driver, 'VolumeDriver', options);
          const answer = await plugin.call('VolumeDriver.List', {}, options);
          const scope = await this.#scope(driver);
          for (const item of itemsOf(answer['Volumes'])) {
            const volume = volumeOf(driver, item, scope);
            if (volume !== undefined) volumes.push(volume);
          }
        } catch (error) {
          warnings.push(`list ${driver}: ${error instanceof Error ? error.message : String(error)}`);
        }
      }),
    );
    return { volumes, warnings };
  }

  async #get(driver: string): ReturnType<Plugins['get']> {
    try {
      return await this.#plugins.get(driver, 'VolumeDriver');
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      throw new ApiError(
        error.reason,
        `error looking up volume plugin ${driver}: ${error.message}`,
        undefined,
        error.code,
      );
    }
  }
}

function volumeOf(driver: string, item: unknown, scope: PluginVolume['scope']): PluginVolume | undefined {
  const name = textOf(item, 'Name') ?? '';
  const status = fieldOf(item, 'Status');
  if (name === '') return undefined;
  return {
    name,
    driver,
    scope,
    mountpoint: textOf(item, 'Mountpoint') ?? '',
    createdAt: textOf(item, 'CreatedAt') ?? '',
    ...(isObject(status) && Object.keys(status).length > 0 ? { status } : {}),
  };
}
