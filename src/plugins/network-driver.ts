/**
 * Networks of plugins, by the protocol's remote network driver: the driver makes the links, the engine moves them into
 * containers. Whatever a driver answers is checked before it becomes a name or a route in the kernel.
 * Source: moby 28, libnetwork's documentation of remote drivers.
 */
import { ApiError } from '#base/errors.ts';
import { familyOf, isIp, parseCidr } from '#base/ip.ts';
import { fieldOf, isObject, itemsOf, textOf, type JsonObject } from '#base/unknown.ts';
import { networkPluginMsMax, networkRoutesMax } from './limits.ts';
import type { CallOptions } from './client.ts';
import type { Plugin, Plugins } from './plugins.ts';

/** With prefixes. */
export interface RemoteAddresses {
  ip?: string;
  ip6?: string;
  mac?: string;
}

/** What the driver has made of an endpoint, for the container. */
export interface JoinedLink {
  /** The link in the host's namespace, which the engine moves. */
  source: string;
  /** What its name inside begins with, and the name itself where the driver wants one. */
  prefix: string;
  name?: string;
  gateway?: string;
  gateway6?: string;
  /** Without `via` the destination is on the link. */
  routes: { destination: string; via?: string }[];
}

/** A network as its driver is told of it. */
export interface RemoteNetwork {
  id: string;
  driver: string;
  options: Record<string, string>;
  enableIpv4: boolean;
  enableIpv6: boolean;
  internal: boolean;
  /** `gateway` with its prefix. */
  pools: { subnet: string; gateway?: string; auxiliaryAddresses?: Record<string, string> }[];
}

/** One that leaves while its plugin is away is not waited for: the plugin has forgotten it, or will be told again. */
const once: CallOptions = { timeoutMs: networkPluginMsMax, isOnce: true };
const patient = { timeoutMs: networkPluginMsMax };

export class NetworkDrivers {
  readonly #plugins: Plugins;

  constructor(plugins: Plugins) {
    this.#plugins = plugins;
  }

  names(): Promise<string[]> {
    return this.#plugins.list('NetworkDriver');
  }

  async create(network: RemoteNetwork): Promise<void> {
    const dataOf = (version: 'IPv4' | 'IPv6'): JsonObject[] =>
      network.pools
        .filter(({ subnet }) => parseCidr(subnet)?.address.family === version)
        .map(({ subnet, gateway, auxiliaryAddresses }) => ({
          AddressSpace: 'LocalDefault',
          Pool: subnet,
          ...(gateway === undefined ? {} : { Gateway: gateway }),
          ...(auxiliaryAddresses === undefined ? {} : { AuxAddresses: auxiliaryAddresses }),
        }));
    await this.#call(network.driver, 'CreateNetwork', {
      NetworkID: network.id,
      Options: {
        'com.docker.network.enable_ipv4': network.enableIpv4,
        'com.docker.network.enable_ipv6': network.enableIpv6,
        ...(network.internal ? { 'com.docker.network.internal': true } : {}),
        'com.docker.network.generic': network.options,
      },
      IPv4Data: dataOf('IPv4'),
      IPv6Data: dataOf('IPv6'),
    });
  }

  async remove(driver: string, networkId: string): Promise<void> {
    await this.#call(driver, 'DeleteNetwork', { NetworkID: networkId });
  }

  /** What the engine has chosen is told, and what the driver chooses instead is returned. */
  async createEndpoint(
    driver: string,
    ids: { networkId: string; endpointId: string },
    given: RemoteAddresses,
    options: Record<string, string>,
  ): Promise<RemoteAddresses> {
    const answer = await this.#call(driver, 'CreateEndpoint', {
      ...bodyOf(ids),
      Interface: { Address: given.ip ?? '', AddressIPv6: given.ip6 ?? '', MacAddress: given.mac ?? '' },
      Options: options,
    });
    const link = fieldOf(answer, 'Interface');
    const chosen: RemoteAddresses = {};
    for (const [key, field] of [
      ['ip', 'Address'],
      ['ip6', 'AddressIPv6'],
    ] as const) {
      const text = textOf(link, field) ?? '';
      if (text === '') continue;
      if (given[key] !== undefined) throw refusal(driver, `gave ${text}, where the address was chosen already`);
      if (parseCidr(text)?.address.family !== (key === 'ip' ? 'IPv4' : 'IPv6'))
        throw refusal(driver, `gave ${JSON.stringify(text.slice(0, 64))}, which is no address with a prefix`);
      chosen[key] = text;
    }
    const mac = textOf(link, 'MacAddress') ?? '';
    if (mac !== '' && !/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(mac))
      throw refusal(driver, `gave ${JSON.stringify(mac.slice(0, 64))}, which is no MAC address`);
    return mac === '' ? chosen : { ...chosen, mac };
  }

  async removeEndpoint(driver: string, ids: { networkId: string; endpointId: string }): Promise<void> {
    await this.#call(driver, 'DeleteEndpoint', bodyOf(ids), once);
  }

  async join(
    driver: string,
    ids: { networkId: string; endpointId: string },
    sandbox: string,
    options: Record<string, string>,
  ): Promise<JoinedLink> {
    const answer = await this.#call(driver, 'Join', { ...bodyOf(ids), SandboxKey: sandbox, Options: options });
    const source = textOf(answer, 'InterfaceName', 'SrcName') ?? '';
    const prefix = textOf(answer, 'InterfaceName', 'DstPrefix') || 'eth';
    const name = textOf(answer, 'InterfaceName', 'DstName') ?? '';
    for (const word of [source, prefix, name])
      if (word !== '' && !/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$/.test(word))
        throw refusal(driver, `gave ${JSON.stringify(word.slice(0, 64))}, which is no name of a link`);
    const [gateway, gateway6] = [textOf(answer, 'Gateway') ?? '', textOf(answer, 'GatewayIPv6') ?? ''];
    if ((gateway !== '' && familyOf(gateway) !== 'IPv4') || (gateway6 !== '' && familyOf(gateway6) !== 'IPv6'))
      throw refusal(driver, 'gave a gateway that is no address of its family');
    return {
      source,
      prefix,
      ...(name === '' ? {} : { name }),
      ...(gateway === '' ? {} : { gateway }),
      ...(gateway6 === '' ? {} : { gateway6 }),
      routes: routesOf(driver, answer['StaticRoutes']),
    };
  }

  async leave(driver: string, ids: { networkId: string; endpointId: string }): Promise<void> {
    await this.#call(driver, 'Leave', bodyOf(ids), once);
  }

  /** Published ports are the driver's to open; older drivers do not know it. */
  async publish(driver: string, ids: { networkId: string; endpointId: string }, ports: unknown[]): Promise<void> {
    await this.#optional(driver, 'ProgramExternalConnectivity', {
      ...bodyOf(ids),
      Options: { 'com.docker.network.portmap': ports },
    });
  }

  async unpublish(driver: string, ids: { networkId: string; endpointId: string }): Promise<void> {
    await this.#optional(driver, 'RevokeExternalConnectivity', bodyOf(ids), once);
  }

  async #optional(driver: string, method: string, body: object, options: CallOptions = patient): Promise<void> {
    try {
      await this.#call(driver, method, body, options);
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== 404) throw error;
    }
  }

  async #call(driver: string, method: string, body: object, options: CallOptions = patient): Promise<JsonObject> {
    const plugin = await this.find(driver, options);
    return plugin.call(`NetworkDriver.${method}`, body, options);
  }

  /** Throws ApiError where there is no such plugin, in docker's words. */
  async find(driver: string, options: CallOptions = patient): Promise<Plugin> {
    return this.#plugins.get(driver, 'NetworkDriver', options).catch((error: unknown) => {
      if (error instanceof ApiError && error.code === 404)
        throw new ApiError('NotFound', `could not find plugin ${driver} in v1 plugin registry: ${error.message}`);
      throw error;
    });
  }
}

function bodyOf({ networkId, endpointId }: { networkId: string; endpointId: string }): JsonObject {
  return { NetworkID: networkId, EndpointID: endpointId };
}

function routesOf(driver: string, value: unknown): JoinedLink['routes'] {
  const items = itemsOf(value);
  if (items.length > networkRoutesMax) throw refusal(driver, `gave ${items.length} routes`);
  return items.filter(isObject).map((item) => {
    const [destination, via] = [textOf(item, 'Destination') ?? '', textOf(item, 'NextHop') ?? ''];
    if (parseCidr(destination) === undefined || (via !== '' && !isIp(via)))
      throw refusal(driver, `gave a route to ${JSON.stringify(destination.slice(0, 64))} that is none`);
    return { destination, ...(via === '' ? {} : { via }) };
  });
}

function refusal(driver: string, what: string): ApiError {
  return new ApiError('InternalError', `network plugin ${JSON.stringify(driver)} ${what}`);
}
