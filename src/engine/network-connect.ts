/**
 * `docker network connect` and `disconnect`: an endpoint more or less, in the record, and in the kernel when the
 * container runs.
 */
import { writeFileSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import { publishNames, serveNames } from './dns-names.ts';
import type { Container } from './container.ts';
import { containerDirectory } from './container-record.ts';
import { etcTexts } from './container-start.ts';
import type { NetworkAttachment } from './engine.ts';
import { forgetUdpFlows } from './udp-flows.ts';
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
    if (record.networks.some((attached) => attached.networkId === network.id))
      throw new ApiError('Forbidden', `endpoint with name ${container.name} already exists in network ${network.name}`);
    const attached = {
      networkId: network.id,
      aliases: attachment.aliases,
      ...(attachment.ip === undefined ? {} : { ip: attachment.ip }),
      ...(attachment.mac === undefined ? {} : { mac: attachment.mac }),
      ...(attachment.links === undefined ? {} : { links: attachment.links }),
    };
    const run = record.run;
    if (run?.networkNamespace !== undefined && container.isRunning) {
      const used = new Set(run.endpoints.map((endpoint) => Number(/\d+$/.exec(endpoint.containerLink)![0])));
      let index = 0;
      while (used.has(index)) index++;
      const endpoint = networks.reserve(network.id, index, attached);
      try {
        run.endpoints.push(endpoint);
        container.save(context);
        await context.os.netlink.run(networks.plan(endpoint, run.networkNamespace, run.endpoints.length === 1));
        await serveNames(table, container, run.networkNamespace, run.endpoints);
      } catch (error) {
        run.endpoints = run.endpoints.filter((other) => other !== endpoint);
        networks.release(endpoint);
        throw error;
      }
    }
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
      await context.os.netlink.run([{ steps: [{ op: 'deleteLink', name: endpoint.hostLink, ignore: ['ENODEV'] }] }]);
      const ports = record.run!.ports.filter((port) => port.ip === endpoint.ip);
      await context.rules.unpublish(ports);
      await forgetUdpFlows(context, ports);
      for (const port of ports) context.ports.release(port);
      record.run!.ports = record.run!.ports.filter((port) => port.ip !== endpoint.ip);
      record.run!.endpoints = record.run!.endpoints.filter((other) => other !== endpoint);
      networks.release(endpoint);
      table.names.forget(record.id, network.id);
      if (record.run!.networkNamespace !== undefined)
        await serveNames(table, container, record.run!.networkNamespace, record.run!.endpoints);
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

/** The running container sees the files through its binds, so they are written in place. */
export function refreshHosts(table: ContainerTable, container: Container): void {
  if (!container.isRunning) return;
  const texts = etcTexts(table, container, container.record.run!.endpoints);
  const directory = containerDirectory(table.context.directories.data, container.id);
  writeFileSync(`${directory}/hosts`, texts.hosts);
  writeFileSync(`${directory}/resolv.conf`, texts.resolvConf);
}
