/**
 * Subnets and addresses of plugins, by the protocol's IPAM driver.
 * Source: moby 28, libnetwork's documentation of IPAM drivers.
 */
import { ApiError } from '#base/errors.ts';
import { parseCidr, type IpFamily } from '#base/ip.ts';
import { fieldOf, textOf, type JsonObject } from '#base/unknown.ts';
import type { CallOptions } from './client.ts';
import { networkPluginMsMax } from './limits.ts';
import type { Plugin, Plugins } from './plugins.ts';

export interface WantedPool {
  family: IpFamily;
  subnet?: string;
  range?: string;
  options: Record<string, string>;
}

export interface RemotePool {
  id: string;
  subnet: string;
  gateway?: string;
}

const gatewayKey = 'com.docker.network.gateway';
const once = { timeoutMs: networkPluginMsMax, isOnce: true };
const patient = { timeoutMs: networkPluginMsMax };

export class IpamDrivers {
  readonly #plugins: Plugins;

  constructor(plugins: Plugins) {
    this.#plugins = plugins;
  }

  async requestPool(driver: string, { family, subnet = '', range = '', options }: WantedPool): Promise<RemotePool> {
    const plugin = await this.find(driver);
    const spaces = await plugin.call('IpamDriver.GetDefaultAddressSpaces', {}, patient);
    const answer = await plugin.call(
      'IpamDriver.RequestPool',
      {
        AddressSpace: textOf(spaces, 'LocalDefaultAddressSpace') ?? '',
        Pool: subnet,
        SubPool: range,
        Options: options,
        V6: family === 'IPv6',
      },
      patient,
    );
    const [id, pool] = [textOf(answer, 'PoolID') ?? '', textOf(answer, 'Pool') ?? ''];
    if (id === '' || parseCidr(pool)?.address.family !== family)
      throw refusal(driver, `gave ${JSON.stringify(pool.slice(0, 64))}, which is no subnet of ${family}`);
    const gateway = textOf(fieldOf(answer, 'Data'), gatewayKey) ?? '';
    return { id, subnet: pool, ...(gateway === '' ? {} : { gateway: ipOf(driver, gateway, family) }) };
  }

  async releasePool(driver: string, poolId: string): Promise<void> {
    const plugin = await this.find(driver, once);
    await plugin.call('IpamDriver.ReleasePool', { PoolID: poolId }, once);
  }

  /** Without `address` any that is free. */
  async requestAddress(
    driver: string,
    { poolId, family, address = '', isGateway = false, mac = '' }: WantedAddress,
  ): Promise<string> {
    const plugin = await this.find(driver);
    const capabilities = await this.#capabilities(plugin);
    const options = {
      ...(isGateway ? { RequestAddressType: gatewayKey } : {}),
      ...(fieldOf(capabilities, 'RequiresMACAddress') === true && mac !== ''
        ? { 'com.docker.network.endpoint.macaddress': mac }
        : {}),
    };
    const answer = await plugin.call(
      'IpamDriver.RequestAddress',
      { PoolID: poolId, Address: address, Options: options },
      patient,
    );
    return ipOf(driver, textOf(answer, 'Address') ?? '', family);
  }

  async releaseAddress(driver: string, poolId: string, address: string): Promise<void> {
    const plugin = await this.find(driver, once);
    await plugin.call('IpamDriver.ReleaseAddress', { PoolID: poolId, Address: address }, once);
  }

  /** Older drivers do not say. */
  #capabilities(plugin: Plugin): Promise<JsonObject> {
    return plugin.call('IpamDriver.GetCapabilities', {}, patient).catch((error: unknown) => {
      if (error instanceof ApiError && error.code === 404) return {};
      throw error;
    });
  }

  /** Throws ApiError where there is no such plugin, in docker's words. */
  async find(driver: string, options: CallOptions = patient): Promise<Plugin> {
    return this.#plugins.get(driver, 'IpamDriver', options).catch((error: unknown) => {
      if (error instanceof ApiError && error.code === 404)
        throw new ApiError('NotFound', `could not find plugin ${driver} in v1 plugin registry: ${error.message}`);
      throw error;
    });
  }
}

export interface WantedAddress {
  poolId: string;
  family: IpFamily;
  address?: string;
  isGateway?: boolean;
  mac?: string;
}

function ipOf(driver: string, text: string, family: IpFamily): string {
  const found = parseCidr(text);
  if (found?.address.family !== family)
    throw refusal(driver, `gave ${JSON.stringify(text.slice(0, 64))}, which is no ${family} address with a prefix`);
  return text.slice(0, text.indexOf('/'));
}

function refusal(driver: string, what: string): ApiError {
  return new ApiError('InternalError', `IPAM plugin ${JSON.stringify(driver)} ${what}`);
}
