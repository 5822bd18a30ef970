/** The Docker API of a node, put together from the engine's resources, images, builds and the registry's sides. */
import { createBuilder } from '#build/builder.ts';
import { createContainerRunner } from '#build/runner-containers.ts';
import type { Content } from '#content/content.ts';
import type { ImageRecords } from '#content/image-records.ts';
import type { BuildSnapshots } from '#content/snapshots.ts';
import { authRoutes } from '#docker/auth.ts';
import { createAuthorizer } from '#docker/authz.ts';
import { buildRoutes } from '#docker/build.ts';
import { openBuildkitDoors } from '#docker/buildkit.ts';
import { commitRoutes } from '#docker/commit.ts';
import type { DockerParts } from '#docker/context.ts';
import { distributionRoutes } from '#docker/distribution.ts';
import { imageRoutes } from '#docker/images.ts';
import { pluginRoutes } from '#docker/plugins.ts';
import { engineRoutes } from '#docker/routes.ts';
import { createDockerServer, engineVersionOf, type Listen } from '#docker/server.ts';
import type { DaemonSettings } from '#docker/settings.ts';
import { systemDfRoutes } from '#docker/system-df.ts';
import type { DockerEngine } from '#engine/create-engine.ts';
import type { ImageStore } from '#engine/images.ts';
import type { ManagedPlugins } from '#engine/managed-plugins/managed-plugins.ts';
import type { Logger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { createMounts } from '#os/mount.linux.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import type { Access } from '#registry/access.ts';
import { backupContentRoute } from './backup/routes.ts';
import { registryUserRoute } from './registry-users.ts';
import { tiphysVersion } from './version.ts';

export interface DockerApiParts {
  engine: DockerEngine;
  images: ImageStore;
  plugins: ManagedPlugins;
  content: Content;
  records: ImageRecords;
  snapshots: BuildSnapshots;
  listen: readonly Listen[];
  dataDir: string;
  log: Logger;
  settings(): DaemonSettings;
  /** Of this process, where there is one. */
  registry?: { access: Access; domains: string[] };
}

/** Proxies that the host uses and builds are to use too; they do not stay in the image. */
function hostProxies(): string[] {
  return Object.entries(process.env)
    .filter(([name, value]) => /^(https?|no|ftp|all)_proxy$/i.test(name) && value !== undefined && value !== '')
    .map(([name, value]) => `${name}=${value}`);
}

export async function startDockerApi(parts: DockerApiParts): Promise<AsyncDisposable> {
  const { engine, images, content, records, snapshots, registry } = parts;
  const runner = createContainerRunner({
    containers: engine.containers,
    onNetwork: (name) => ({ networks: [{ network: name, aliases: [] }] }),
  });
  const builder = createBuilder({
    content,
    records,
    images,
    snapshots,
    runner,
    mounts: createMounts(),
    processes: linuxProcesses,
    clock: realClock,
    random: realRandom,
    hostEnvironment: { proxies: hostProxies() },
  });
  await builder.recover();
  const docker: DockerParts = {
    engine,
    clock: realClock,
    random: realRandom,
    platform: { version: tiphysVersion(), dataDir: parts.dataDir },
    settings: parts.settings,
  };
  const buildkit = openBuildkitDoors({ builder, clock: realClock, version: tiphysVersion() });
  const server = await createDockerServer({
    listen: parts.listen,
    isExperimental: () => parts.settings().isExperimental,
    authorizer: createAuthorizer(engine.plugins, () => parts.settings().authorizationPlugins),
    serveHttp2: buildkit.serveHttp2,
    log: parts.log,
    serverVersion: engineVersionOf(tiphysVersion()),
    routes: [
      ...engineRoutes(docker),
      ...imageRoutes({ images }),
      ...distributionRoutes(images),
      ...authRoutes({ images, ...(registry === undefined ? {} : { registry }) }),
      ...pluginRoutes(parts.plugins),
      ...systemDfRoutes(docker, images, builder),
      ...buildRoutes({ builder, images }),
      ...buildkit.routes,
      ...commitRoutes(docker, images),
      ...(registry === undefined ? [] : [registryUserRoute(registry.access), backupContentRoute(content, records)]),
    ],
  });
  return { [Symbol.asyncDispose]: () => server.close() };
}
