/**
 * Under which names others on a network know a container: docker's list, made in one place for the resolver and for
 * `inspect`.
 */
import type { Container } from './container.ts';
import { hostnameOf } from './container-start.ts';
import type { ContainerRegistry } from './registry.ts';

/** Name, aliases on this network, short id, hostname; the first one answers reverse questions. */
export function endpointNames(registry: ContainerRegistry, container: Container, networkId: string): string[] {
  const aliases = container.record.networks.find((attached) => attached.networkId === networkId)?.aliases ?? [];
  return [...new Set([container.name, ...aliases, container.id.slice(0, 12), hostnameOf(registry, container)])];
}
