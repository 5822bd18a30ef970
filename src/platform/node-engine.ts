/** Content, images, registry, engine and Docker API of a node process. */
import type { Server } from 'node:http';
import type { Server as SecureServer } from 'node:https';
import { join } from 'node:path';
import { canonicalName, parseReference } from '#base/reference.ts';
import { keepCollected } from '#content/collector.ts';
import type { Content } from '#content/content.ts';
import type { ImageRecords } from '#content/image-records.ts';
import { HttpTransport, type ClientTls } from '#content/remote.ts';
import { createEngine, type DockerEngine } from '#engine/create-engine.ts';
import { ManagedPlugins } from '#engine/managed-plugins/managed-plugins.ts';
import { usersOfImage } from '#engine/image-mounts.ts';
import { createImages, type ImageStore } from '#engine/images.ts';
import type { ImagesOptions } from '#engine/images-options.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { createAccess, type Access } from '#registry/access.ts';
import { createRegistry, type Registry } from '#registry/registry.ts';
import { createRegistryServer, createSecureRegistryServer } from '#registry/server.ts';
import { defaultSettings } from '#docker/settings.ts';
import { baseImageMaker } from './base-images.ts';
import { startDockerApi } from './docker-api.ts';
import { hasRegistry, type NodeParts } from './node-parts.ts';
import { serverAddress } from './instance.ts';
import { openStore } from './open-store.ts';
import { files } from './paths.ts';

interface ContentParts {
  content: Content;
  records: ImageRecords;
  access: Access;
}

export async function startEngine(parts: NodeParts): Promise<DockerEngine> {
  const { instance, node, paths, log, stack } = parts;
  const data = files.nodeData(paths, node.number);
  const run = files.nodeRun(paths, node.number);
  const { content, records, mounts, snapshots } = await openStore(join(data, 'content'), log, stack);
  const access = createAccess({ content, clock: realClock, random: realRandom, anonymousPull: 'loopback' });
  let engine: DockerEngine | undefined;
  const images = await openImages(parts, { content, records, access }, () => engine);
  const directories = { dataDir: join(data, 'engine'), runDir: join(run, 'engine') };
  const plugins = new ManagedPlugins({
    ...directories,
    images: images.options,
    clock: realClock,
    random: realRandom,
    log: log.child('plugins'),
  });
  engine = await createEngine({
    ...directories,
    managedPlugins: plugins,
    instanceId: node.instanceId,
    nodeName: node.name,
    clock: realClock,
    random: realRandom,
    log,
    images,
    snapshots,
    mounts,
    podCidr: node.podRange,
    clusterCidrs: [instance.podRange, instance.serviceRange],
    ...(parts.underlay === undefined ? {} : { podMtu: parts.underlay.mtu }),
  });
  stack.use(engine);
  await plugins.open(engine);
  const settings = { ...defaultSettings, mirrors: instance.registryMirrors };
  const socketPath = node.number === 1 ? files.dockerSocket(paths) : join(run, 'docker.sock');
  stack.use(
    await startDockerApi({
      engine,
      images,
      plugins,
      content,
      records,
      snapshots,
      listen: [{ type: 'unix', path: socketPath }],
      dataDir: data,
      log: log.child('docker'),
      settings: () => settings,
      registry: { access, domains: registryDomains(parts) },
    }),
  );
  stack.use(keepCollected(content, { clock: realClock, log: log.child('content') }));
  return engine;
}

/** Names under which clients know the platform's registry. */
function registryDomains(parts: NodeParts): string[] {
  return ['127.0.0.1', 'localhost', serverAddress(parts.instance)].map((host) => `${host}:${registryPort(parts)}`);
}

const registryPort = ({ instance }: Pick<NodeParts, 'instance'>): number =>
  instance.joined?.registryPort ?? instance.registryPort;

/** The node's images; on the first machine's first node with the registry, which listens then. */
async function openImages(
  parts: NodeParts,
  { content, records, access }: ContentParts,
  engine: () => DockerEngine | undefined,
): Promise<ImageStore> {
  const { log } = parts;
  const common = { content, images: records, access, log: log.child('registry'), clock: realClock };
  const registry = hasRegistry(parts)
    ? createRegistry({
        ...common,
        domains: registryDomains(parts),
        bring: (name) => images.pull(name, { owner: 'kubelet' }),
        isRemoved: parts.isRemoved,
      })
    : undefined;
  // Of what is here other nodes may read, whichever node this is.
  const shared = registry ?? createRegistry({ ...common, domains: [], engines: 'read', isRemoved: parts.isRemoved });
  const images = createImages({
    content,
    records,
    clock: realClock,
    log: log.child('images'),
    transport: new HttpTransport(process.env),
    mirrors: parts.instance.registryMirrors,
    emit: (event) => engine()?.events.emit(event),
    ...(registry === undefined ? { platformRegistry: platformRegistry(parts) } : { localRegistry: registry.local }),
    peers: (name) => peersWith(parts, name),
    makeBaseImage: baseImageMaker(content, records),
    containersOf: (imageId) => usersOfImage(engine()?.containers.list() ?? [], imageId),
  });
  if (registry !== undefined) await listen(parts, createRegistryServer(registry), '127.0.0.1');
  serveNodes(parts, shared);
  return images;
}

async function listen({ instance, stack }: NodeParts, server: Server | SecureServer, address: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(instance.registryPort, address, () => resolve());
  });
  stack.defer(
    () =>
      new Promise<void>((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  );
}

/** Other nodes come over TLS; once it is known which of them are none any more. */
function serveNodes(parts: NodeParts, registry: Registry): void {
  const { identity, node, log } = parts;
  const secure = createSecureRegistryServer(registry);
  identity.kubeletServing.subscribe(({ certificatePem, keyPem }) =>
    secure.setSecureContext({ cert: certificatePem, key: keyPem, ca: identity.ca() }),
  );
  parts.removedKnown
    .then(() => listen(parts, secure, node.address))
    .catch((error: unknown) => log.error('other nodes get no images from here', { error }));
}

/** Nodes whose status says that they have the image, but for the one with the registry, which is asked before. */
function peersWith(
  { nodes, node, identity, instance }: NodeParts,
  name: string,
): ReturnType<NonNullable<ImagesOptions['peers']>> {
  return nodes.list().flatMap(({ metadata, status }) => {
    const address = status?.addresses?.find(({ type }) => type === 'InternalIP')?.address;
    const isOther = metadata.name !== node.name && address !== undefined && address !== serverAddress(instance);
    const image = (status?.images ?? []).find(({ names = [] }) => names.some((each) => canonicalOf(each) === name));
    if (!isOther || image === undefined || conditionOf(status?.conditions, 'Ready') !== 'True') return [];
    const url = `https://${address}:${registryPort({ instance })}`;
    const tls = (): ClientTls => ({ ca: identity.ca(), ...identity.kubeletClient.pair });
    // What came from a registry has a name by its digest there.
    return [{ node: metadata.name, url, tls, isMade: (image.names ?? []).every((each) => !each.includes('@')) }];
  });
}

function conditionOf(conditions: readonly { type: string; status: string }[] | undefined, type: string) {
  return conditions?.find((condition) => condition.type === type)?.status;
}

/** What nodes say of themselves may be anything. */
function canonicalOf(name: string): string | undefined {
  try {
    return canonicalName(parseReference(name));
  } catch {
    return undefined;
  }
}

/** Engines of other nodes reach the registry over TLS and are known by their nodes' certificates. */
function platformRegistry(parts: NodeParts): NonNullable<ImagesOptions['platformRegistry']> {
  const { identity, instance } = parts;
  return {
    url: `https://${serverAddress(instance)}:${registryPort(parts)}`,
    tls: () => ({ ca: identity.ca(), ...identity.kubeletClient.pair }),
    domains: registryDomains(parts),
  };
}
