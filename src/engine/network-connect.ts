/**
 * `docker network connect` and `disconnect`: an endpoint more or less, in the record, and in the kernel when the
 * container runs.
 */
import { writeFileSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import type { NetProgram } from '#os/netlink.ts';
import { settleNetworks } from './container-network.ts';
import { publishNames } from './dns-names.ts';
import type { Container } from './container.ts';
import { containerDirectory } from './container-record.ts';
import type { AttachedNetwork, EndpointRecord, RunRecord } from './container-record.ts';
import { etcTexts } from './container-start.ts';
import type { NetworkAttachment } from './engine.ts';
import { attachedNetwork, checkEndpointSettings } from './network-endpoint.ts';
import type { ContainerTable } from './container-table.ts';

export async function connectNetwork(
  table: ContainerTable,
  container: Container,
  attachment: NetworkAttachment,
): Promise<void> {
  const { context, networks } = table;
  const { record } = container;
  const network = networks.find(attachment.network);
  if (network.driver !== 'bridge')
    throw new ApiError('Forbidden', `container cannot be connected to network '${network.name}'`);
  if (record.spec.network.type !== 'networks')
    throw new ApiError(
      'Forbidden',
      record.spec.network.type === 'none'
        ? 'container cannot be connected to multiple networks with one of the networks in private (none) mode'
        : 'container sharing network namespace with another container or host cannot be connected to any other network',
    );
  await container.lock.run(async () => {
    if (record.networks.some((other) => other.networkId === network.id))
      throw new ApiError('Forbidden', `endpoint with name ${container.name} already exists in network ${network.name}`);
    checkEndpointSettings(network.name, network, attachment);
    const attached = attachedNetwork(network.id, attachment);
    const run = record.run;
    if (run?.networkNamespace !== undefined && container.isRunning) await joinNetwork(table, container, run, attached);
    record.networks.push(attached);
    container.save(context);
    publishNames(table, container);
    refreshHosts(table, container);
  });
  context.events.emit({
    type: 'network',
    action: 'connect',
    id: network.id,
    attributes: { container: record.id, name: network.name, type: network.driver },
  });
}

export async function disconnectNetwork(
  table: ContainerTable,
  container: Container,
  networkId: string,
  force: boolean,
): Promise<void> {
  const { context, networks } = table;
  const { record } = container;
  const network = networks.find(networkId);
  if (record.spec.network.type === 'host' && network.name === 'host')
    throw new ApiError('Forbidden', 'container cannot be disconnected from host network or connected to host network');
  await container.lock.run(async () => {
    if (!record.networks.some((attached) => attached.networkId === network.id)) {
      if (force) return;
      throw new ApiError('Forbidden', `container ${record.id} is not connected to network ${network.name}`);
    }
    const endpoint = record.run?.endpoints.find((found) => found.networkId === network.id);
    if (endpoint !== undefined) {
      await leaveNetwork(table, container, endpoint);
    }
    record.networks = record.networks.filter((attached) => attached.networkId !== network.id);
    container.save(context);
    refreshHosts(table, container);
  });
  context.events.emit({
    type: 'network',
    action: 'disconnect',
    id: network.id,
    attributes: { container: record.id, name: network.name, type: network.driver },
  });
}

/** An endpoint for a container that runs; what was made of it goes when the rest cannot be made. */
async function joinNetwork(
  table: ContainerTable,
  container: Container,
  run: RunRecord,
  attached: AttachedNetwork,
): Promise<void> {
  const { context, networks } = table;
  const endpoint = networks.reserve(attached, run.endpoints);
  const before = container.record.networks;
  try {
    run.endpoints.push(endpoint);
    container.save(context);
    await context.os.netlink.run(networks.plan(endpoint, attached, run.networkNamespace!));
    await settleNetworks(table, container, [...before, attached]);
  } catch (error) {
    await context.os.netlink.run([planLinkRemoval([endpoint])]);
    run.endpoints = run.endpoints.filter((other) => other !== endpoint);
    networks.release(endpoint);
    container.save(context);
    await settleNetworks(table, container, before).catch((second: unknown) =>
      context.log.warn('the networks of a container', { id: container.id, error: second }),
    );
    throw error;
  }
}

async function leaveNetwork(table: ContainerTable, container: Container, endpoint: EndpointRecord): Promise<void> {
  const { context, networks } = table;
  const run = container.record.run!;
  await context.os.netlink.run([planLinkRemoval([endpoint])]);
  run.endpoints = run.endpoints.filter((other) => other !== endpoint);
  networks.release(endpoint);
  table.names.forget(container.id, endpoint.networkId);
  if (run.networkNamespace !== undefined) await settleNetworks(table, container, container.record.networks);
}

export function planLinkRemoval(endpoints: readonly EndpointRecord[]): NetProgram {
  return { steps: endpoints.map(({ hostLink }) => ({ op: 'deleteLink', name: hostLink, ignore: ['ENODEV'] })) };
}

/** The running container sees the files through its binds, so they are written in place. */
export function refreshHosts(table: ContainerTable, container: Container): void {
  if (!container.isRunning) return;
  const texts = etcTexts(table, container, container.record.run!.endpoints);
  const directory = containerDirectory(table.context.directories.data, container.id);
  writeFileSync(`${directory}/hosts`, texts.hosts);
  writeFileSync(`${directory}/resolv.conf`, texts.resolvConf);
}
