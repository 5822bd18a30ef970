/**
 * `docker network connect` and `disconnect`: an endpoint more or less, in the record, and in the kernel when the
 * container runs.
 */
import { writeFileSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import type { NetProgram, NetStep } from '#os/netlink.ts';
import { settleNetworks } from './container-network.ts';
import { publishNames } from './dns-names.ts';
import type { Container } from './container.ts';
import { containerDirectory } from './container-record.ts';
import type { AttachedNetwork, EndpointRecord, RunRecord } from './container-record.ts';
import { etcTexts } from './container-start.ts';
import type { NetworkAttachment } from './engine.ts';
import { explainUpperLink } from './network-parents.ts';
import { planReturn } from './network-remote.ts';
import type { NetworkRecord } from './network-record.ts';
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
  checkMayConnect(container, network);
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

/** Who has another's network, the host's or none takes no further one. */
function checkMayConnect({ record }: Container, network: NetworkRecord): void {
  const refuse = (message: string): never => {
    throw new ApiError('BadRequest', message);
  };
  const { type } = record.spec.network;
  if (network.driver === 'host' && type !== 'host')
    refuse('cannot connect container to host network - container must be created in host network mode');
  if (type === 'none' || (network.driver === 'null' && type === 'networks'))
    refuse('container cannot be connected to multiple networks with one of the networks in private (none) mode');
  if (type !== 'networks')
    refuse(
      'container sharing network namespace with another container or host cannot be connected to any other network',
    );
}

/** A container that does not run, or `force`, also leaves a network that is there no more. */
export async function disconnectNetwork(
  table: ContainerTable,
  container: Container,
  networkId: string,
  force = false,
): Promise<void> {
  const { context, networks } = table;
  const { record } = container;
  const left = record.networks.filter((attached) => attached.networkId !== networkId);
  if (
    networks.findIfAny(networkId) === undefined &&
    (force || !container.isRunning) &&
    left.length < record.networks.length
  ) {
    record.networks = left;
    container.save(context);
    return;
  }
  const network = networks.find(networkId);
  if (record.spec.network.type === 'host' && network.name === 'host')
    throw new ApiError(
      'BadRequest',
      'cannot disconnect container from host network - container was created in host network mode',
    );
  await container.lock.run(async () => {
    if (!record.networks.some((attached) => attached.networkId === network.id)) {
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
  const path = run.networkNamespace ?? '';
  const before = container.record.networks;
  const kept = run.endpoints;
  const note = (made: EndpointRecord): void => {
    run.endpoints = [...kept, made];
    container.save(context);
  };
  const endpoint = await networks.reserve(attached, kept, note).catch((error: unknown) => {
    run.endpoints = kept;
    container.save(context);
    throw error;
  });
  try {
    note(endpoint);
    const others = kept.map(({ containerLink }) => containerLink);
    await networks.join(endpoint, attached, { sandbox: path, others });
    container.save(context);
    await context.os.netlink.run(networks.plan(endpoint, attached, path)).catch(explainUpperLink);
    await settleNetworks(table, container, [...before, attached]);
  } catch (error) {
    await context.os.netlink.run(planLinkRemoval([endpoint], run.networkNamespace));
    run.endpoints = run.endpoints.filter((other) => other !== endpoint);
    await networks.release(endpoint);
    container.save(context);
    await settleNetworks(table, container, before).catch((second: unknown) =>
      context.log.warn('the networks of a container', { id: container.id, error: second }),
    );
    throw error;
  }
}

/**
 * A connect or disconnect that a death cut off. Of one that no record tells of, what was made is taken away; one that
 * was just going is made again: nobody was told that it had gone.
 */
export async function repairNetworks(
  table: ContainerTable,
  container: Container,
  links: ReadonlySet<string>,
): Promise<void> {
  const { context, networks } = table;
  const { record } = container;
  const { run } = record;
  const path = run?.networkNamespace;
  if (run === undefined || path === undefined) return;
  const attachedOf = (endpoint: EndpointRecord): AttachedNetwork | undefined =>
    record.networks.find((attached) => attached.networkId === endpoint.networkId);
  const strays = run.endpoints.filter((endpoint) => attachedOf(endpoint) === undefined);
  const lost = run.endpoints.filter(
    (endpoint) => attachedOf(endpoint) !== undefined && endpoint.hostLink !== '' && !links.has(endpoint.hostLink),
  );
  if (strays.length === 0 && lost.length === 0) return;
  await context.os.netlink.run(planLinkRemoval(strays, path));
  run.endpoints = run.endpoints.filter((endpoint) => !strays.includes(endpoint));
  for (const endpoint of strays) await networks.release(endpoint);
  await context.os.netlink.run(lost.flatMap((endpoint) => networks.plan(endpoint, attachedOf(endpoint), path)));
  container.save(context);
  await settleNetworks(table, container, record.networks);
}

async function leaveNetwork(table: ContainerTable, container: Container, endpoint: EndpointRecord): Promise<void> {
  const { context, networks } = table;
  const run = container.record.run!;
  await context.os.netlink.run(planLinkRemoval([endpoint], run.networkNamespace));
  run.endpoints = run.endpoints.filter((other) => other !== endpoint);
  await networks.release(endpoint);
  table.names.forget(container.id, endpoint.networkId);
  if (run.networkNamespace !== undefined) await settleNetworks(table, container, container.record.networks);
}

/** Half of a pair goes with the other; a link on top of one of the host's goes where it is: in the namespace. */
export function planLinkRemoval(endpoints: readonly EndpointRecord[], namespace?: string): NetProgram[] {
  const remove = (name: string): NetStep => ({ op: 'deleteLink', name, ignore: ['ENODEV'] });
  const inside = endpoints.filter(({ hostLink, joined }) => hostLink === '' && joined === undefined);
  return [
    ...(namespace === undefined ? [] : planReturn(endpoints, namespace)),
    { steps: endpoints.flatMap(({ hostLink }) => (hostLink === '' ? [] : [remove(hostLink)])) },
    ...(namespace === undefined || inside.length === 0
      ? []
      : [{ namespace, steps: inside.map(({ containerLink }) => remove(containerLink)) }]),
  ];
}

/** The running container sees the files through its binds, so they are written in place. */
export function refreshHosts(table: ContainerTable, container: Container): void {
  if (!container.isRunning) return;
  const texts = etcTexts(table, container, container.record.run!.endpoints);
  const directory = containerDirectory(table.context.directories.data, container.id);
  writeFileSync(`${directory}/hosts`, texts.hosts);
  writeFileSync(`${directory}/resolv.conf`, texts.resolvConf);
}

/**
 * Takes a network away that no container runs on. Who saw a run end may come before its addresses are given back: the
 * end is waited for.
 */
export async function removeUnusedNetwork(table: ContainerTable, network: NetworkRecord): Promise<void> {
  const isOn = ({ record, isRunning }: Container): boolean =>
    !isRunning && record.networks.some(({ networkId }) => networkId === network.id);
  await Promise.all(
    table
      .list()
      .filter(isOn)
      .map(({ lock }) => lock.run(async () => undefined)),
  );
  await table.networks.remove(network.id);
}
