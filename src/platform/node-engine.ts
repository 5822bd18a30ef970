/** Content, images, registry, engine and Docker API of a node process. */
import { join } from 'node:path';
import type { Content } from '#content/content.ts';
import type { ImageRecords } from '#content/image-records.ts';
import { HttpTransport } from '#content/remote.ts';
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
import { hostName } from './host.ts';
import { nodePlan } from './instance.ts';
import type { NodeParts } from './node-parts.ts';
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
  return engine;
}

/** Names under which clients know the platform's registry. */
function registryDomains(parts: NodeParts): string[] {
  return ['127.0.0.1', 'localhost', firstAddress(parts)].map((host) => `${host}:${parts.instance.registryPort}`);
}

/** The node's images; on the first node with the registry, which listens then. */
async function openImages(
  parts: NodeParts,
  { content, records, access }: ContentParts,
  engine: () => DockerEngine | undefined,
): Promise<ImageStore> {
  const { node, log } = parts;
  const registry =
    node.number === 1
      ? createRegistry({
          content,
          images: records,
          access,
          log: log.child('registry'),
          clock: realClock,
          domains: registryDomains(parts),
          bring: (name) => images.pull(name, { owner: 'kubelet' }),
        })
      : undefined;
  const images = createImages({
    content,
    records,
    clock: realClock,
    log: log.child('images'),
    transport: new HttpTransport(process.env),
    mirrors: parts.instance.registryMirrors,
    emit: (event) => engine()?.events.emit(event),
    ...(registry === undefined ? { platformRegistry: platformRegistry(parts) } : { localRegistry: registry.local }),
    makeBaseImage: baseImageMaker(content, records),
    containersOf: (imageId) => usersOfImage(engine()?.containers.list() ?? [], imageId),
  });
  if (registry !== undefined) await listenRegistry(parts, registry);
  return images;
}

function firstAddress({ instance }: NodeParts): string {
  return nodePlan(instance, 1, hostName()).address;
}

/** Plain on loopback, where docker expects it so; anywhere else with the node's serving certificate. */
async function listenRegistry(parts: NodeParts, registry: Registry): Promise<void> {
  const { instance, node, identity, stack } = parts;
  const secure = createSecureRegistryServer(registry);
  identity.kubeletServing.subscribe(({ certificatePem, keyPem }) =>
    secure.setSecureContext({ cert: certificatePem, key: keyPem, ca: identity.ca() }),
  );
  const plain = createRegistryServer(registry);
  for (const [server, address] of [
    [plain, '127.0.0.1'],
    [secure, node.address],
  ] as const) {
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
}

/** Engines of other nodes reach the registry over TLS and are known by their nodes' certificates. */
function platformRegistry(parts: NodeParts): NonNullable<ImagesOptions['platformRegistry']> {
  const { identity, instance } = parts;
  return {
    url: `https://${firstAddress(parts)}:${instance.registryPort}`,
    tls: () => ({ ca: identity.ca(), ...identity.kubeletClient.pair }),
    domains: registryDomains(parts),
  };
}
